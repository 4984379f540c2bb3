"""The published comparison: ours, others and the limits, one after another on the same work, in one run.

`make bench-peers`, or: python -m benchmarks.peers [--write] [--quick] [--rounds N] [--seconds S] [--cases C ...]
[--json FILE]

What `benchmarks.end_to_end` does, and FFmpeg's command line in each round when there is one on PATH: it decodes, crops,
scales and encodes the same source with the same settings as fast as it goes, in one thread and without a network. With
--write the tables and plots of docs/benchmarks.md are those of this run. Nothing that is measured is left out of them.
Ctrl-C still tells what there was, and writes nothing there.
"""

import argparse
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path

import msgspec

from benchmarks.end_to_end import (
    QUICK_SECONDS,
    ROUNDS,
    SECONDS,
    Failures,
    end,
    measure,
    read_options,
    those_installed,
)
from benchmarks.end_to_end_peers.cases import CASES, Case
from benchmarks.end_to_end_peers.contestants import CONTESTANTS
from benchmarks.end_to_end_peers.report import Figures
from benchmarks.machine import describe
from benchmarks.media_peers import ffmpeg
from benchmarks.media_peers.work import Work
from benchmarks.peers_page import DOCUMENT, FFMPEG, Limits, Origin, page, plots, put_into
from benchmarks.trickle_peers.catalogue import CLIENTS, PYTRICKLE, ROOT
from pipeline.bench.interruption import sigterm_like_ctrl_c

VERSIONED = ("av", "numpy", "torch", "pyzmq", "msgspec", "h11")
LEAST_PUBLISHED = 2
"""Rounds of what is written into the documentation."""

PEER_VERSIONED = ("pytrickle", "av", "torch")


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]  # Before the run, which makes a load of its own.
    names = those_installed(list(CONTESTANTS))
    limits = FfmpegLimits(options.seconds)
    with sigterm_like_ctrl_c():
        figures, failures, interrupted = measure(
            names, options.cases, options.rounds, options.seconds, options.warm_up, beside=limits.measure
        )
    origin = Origin(
        machine=describe(load, {name: metadata.version(name) for name in VERSIONED}),
        peers=_peer_versions(),
        ffmpeg=ffmpeg.version(),
        command=shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]),
        rounds=options.rounds,
        seconds=options.seconds,
    )
    failures |= limits.failures
    text = page(figures, failures, limits.taken, origin)
    print(text)
    if options.write and not interrupted:
        put_into(ROOT / DOCUMENT, text, plots(figures, limits.taken))
    if options.json:
        options.json.write_bytes(_as_json(figures, failures, limits.taken, origin))
    end(failures, interrupted=interrupted)


class FfmpegLimits:
    """What FFmpeg's command line takes, once in each round; nothing when there is none."""

    def __init__(self, seconds: float) -> None:
        self.taken: Limits = {}
        self.failures: Failures = {}
        self._seconds = seconds
        if not ffmpeg.installed():
            print("ffmpeg: none on PATH, left out", file=sys.stderr)

    def measure(self, case: Case, source: Path) -> None:
        """One round more of this case, whose source has that many seconds."""
        if not ffmpeg.installed():
            return
        print(f"{case.name}, ffmpeg", file=sys.stderr)
        work = Work(case.name, case.width, case.height, case.out_width, case.out_height, case.bitrate)
        try:
            cpu_ms = ffmpeg.measure(work, source, int(case.fps * self._seconds), case.fps)
        except RuntimeError as problem:
            self.failures[case.name, FFMPEG] = str(problem)
        else:
            self.taken.setdefault(case.name, []).append(cpu_ms)


def _peer_versions() -> str:
    """Of pytrickle and what it runs on; empty when it is not installed."""
    if not CLIENTS[PYTRICKLE].installed:
        return ""
    folders = list(Path(CLIENTS[PYTRICKLE].python).parents[1].glob("lib/python*/site-packages"))
    found = {one.name: one.version for one in metadata.distributions(path=list(map(str, folders)))}
    return ", ".join(f"{name} {found.get(name, 'unknown')}" for name in PEER_VERSIONED)


def _as_json(figures: Figures, failures: Failures, limits: Limits, origin: Origin) -> bytes:
    asdict = msgspec.structs.asdict
    everything = {
        "origin": origin,
        "figures": [{"case": case, "contestant": name} | asdict(value) for (case, name), value in figures.items()],
        "failures": [{"case": case, "contestant": name, "why": why} for (case, name), why in failures.items()],
        "ffmpeg_cpu_ms": limits,
    }
    return msgspec.json.format(msgspec.json.encode(everything))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT}, the plots beside it")
    parser.add_argument("--quick", action="store_true", help="one short round, and rougher")
    parser.add_argument("--rounds", type=int, help=f"repetitions (default {ROUNDS}, 1 with --quick)")
    parser.add_argument("--seconds", type=float, help=f"of the source (default {SECONDS:g}, {QUICK_SECONDS:g} quick)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="only these")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = read_options(parser)
    if options.write and options.rounds < LEAST_PUBLISHED:
        parser.error(f"--write: needed: --rounds {LEAST_PUBLISHED} or more, so that contestants take turns")
    return options


if __name__ == "__main__":
    main()
