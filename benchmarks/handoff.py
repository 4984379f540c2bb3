"""What it costs to hand a frame from one process to another: our link against the floor, and against its peers.

`python -m benchmarks.handoff [--quick] [--rounds N] [--frames F ...] [--transports T ...] [--json FILE] [--plot FILE]`

One-way latency runs from just before the producer's send (which takes the slot) to the consumer's holding a view that
it can read. It is measured back to back, where the consumer acknowledges every frame over an eventfd, the same for all
transports, and paced at 30 fps. Frames per second and CPU (of both processes, per frame sent) are those of streaming,
held back by nothing but the transport's own bound. A producer writes in place, where the transport allows that, or
copies the frame from memory of its own.

All in one run and alike for all: two fresh interpreters a transport, memory touched before the clock starts, the first
tenth of the frames discarded, the first and the last byte of every frame read. Transports take turns within every
round, and what is shown are medians over the rounds, so that a noisy moment hits all alike. iceoryx2, torch and
matplotlib (for --plot) are left out where they are not installed. The slots of all transports take about 1 GB.
"""

import argparse
import importlib.util
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.handoff_peers.catalogue import FRAMES, TRANSPORTS, Entry
from benchmarks.handoff_peers.end import Job, Pace
from benchmarks.handoff_peers.figures import Figure, Figures, Key, Placement, figure, goals, medians
from benchmarks.handoff_peers.pair import Cores, Pair

MAX_FRAMES = 1500
STREAMED = 4
"""Times as many frames when streaming in place, which goes that much faster than back to back."""

PACED_FRAME = "512"
PACES: tuple[Pace, ...] = ("ping-pong", "streaming", "paced")
VERSIONED = ("numpy", "pyzmq", "msgspec", "iceoryx2", "torch")


class Effort(msgspec.Struct, frozen=True):
    """How long a run may take: rounds, and of each job about so many microseconds, but not fewer than so many frames;
    just so many when paced."""

    rounds: int
    job_us: float
    min_frames: int
    paced_frames: int


FULL = Effort(rounds=3, job_us=120_000, min_frames=16, paced_frames=32)
QUICK = Effort(rounds=1, job_us=30_000, min_frames=10, paced_frames=15)


def main() -> None:
    options = _options()
    effort = QUICK if options.quick else FULL
    effort = msgspec.structs.replace(effort, rounds=options.rounds or effort.rounds)
    entries = {name: entry for name, entry in TRANSPORTS.items() if any(word in name for word in options.transports)}
    for name in [name for name, entry in entries.items() if not entry.installed]:
        print(f"{name}: not installed, left out", file=sys.stderr)
        del entries[name]
    placements: dict[Placement, Cores] = {"pinned": two_cores(), "free": None}
    if placements["pinned"] is None:
        print("pinned: needs two cores, left out", file=sys.stderr)
        del placements["pinned"]
    machine = _machine(placements.get("pinned"))
    _report(measure(entries, options.frames, placements, effort), machine, options)


def measure(
    entries: dict[str, Entry], frames: list[str], placements: dict[Placement, Cores], effort: Effort
) -> Figures:
    figures = defaultdict[Key, list[Figure]](list)
    for turn in range(effort.rounds):
        order = _rotated(entries, turn * len(entries) // effort.rounds)  # Each time another goes first.
        for placement, cores in placements.items():
            print(f"round {turn + 1} of {effort.rounds}, {placement}", file=sys.stderr)
            for key, result in _round(order, frames, placement, cores, effort):
                figures[key].append(result)
    return {key: medians(rounds) for key, rounds in figures.items()}


def _round(
    entries: dict[str, Entry], frames: list[str], placement: Placement, cores: Cores, effort: Effort
) -> Iterator[tuple[Key, Figure]]:
    """Every job is done by one transport after the other. The processes of the others sleep meanwhile."""
    with ExitStack() as stack:
        pairs: dict[str, Pair] = {}
        for name, entry in entries.items():
            transport = entry.make([FRAMES[frame] for frame in frames])
            pairs[name] = stack.enter_context(Pair(transport, cores))
            warm_up = _count(entry, frames[0], "ping-pong", True, effort)
            pairs[name].run(Job(FRAMES[frames[0]], "ping-pong", True, warm_up))
        for key, job in _jobs(entries, frames, placement, effort):
            yield key, figure(job, pairs[key.transport].run(job))


def two_cores() -> Cores:
    """Two that are not threads of one core, if we may use two such."""
    first, *others = sorted(os.sched_getaffinity(0))
    siblings = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    threads = _numbers(siblings.read_text()) if siblings.exists() else {first}
    second = next((cpu for cpu in others if cpu not in threads), None)
    return None if second is None else (first, second)


def _rotated(entries: dict[str, Entry], places: int) -> dict[str, Entry]:
    items = list(entries.items())
    return dict(items[places:] + items[:places])


def _jobs(
    entries: dict[str, Entry], frames: list[str], placement: Placement, effort: Effort
) -> Iterator[tuple[Key, Job]]:
    for frame in frames:
        for pace in PACES if frame == PACED_FRAME else PACES[:2]:
            for copies in (False, True):
                for name, entry in entries.items():
                    if copies or entry.in_place:
                        job = Job(FRAMES[frame], pace, copies, _count(entry, frame, pace, copies, effort))
                        yield Key(placement, name, copies, frame, pace), job


def _count(entry: Entry, frame: str, pace: Pace, copies: bool, effort: Effort) -> int:
    if pace == "paced":
        return effort.paced_frames
    count = effort.job_us / entry.microseconds(FRAMES[frame], copies)
    count = min(MAX_FRAMES, max(effort.min_frames, round(count)))
    return STREAMED * count if pace == "streaming" and not copies else count


def _report(figures: Figures, machine: str, options: argparse.Namespace) -> None:
    # Here and not above: every end imports this module again, and should start fast.
    from rich.console import Console

    from benchmarks.handoff_peers.report import PLACEMENTS, goal_table, placement_table

    console = Console(width=None if sys.stdout.isatty() else 170)
    for placement in PLACEMENTS:
        if any(key.placement == placement for key in figures):
            console.print(placement_table(figures, placement))
    console.print(goal_table(goals(figures)), machine, sep="\n")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(_everything(figures, machine))))
    if options.plot and importlib.util.find_spec("matplotlib"):
        from benchmarks.handoff_peers.plot import draw

        draw(figures, options.plot)
    elif options.plot:
        print("matplotlib is not installed: no plot", file=sys.stderr)


def _everything(figures: Figures, machine: str) -> dict[str, Any]:
    asdict = msgspec.structs.asdict
    return {
        "machine": machine,
        "figures": [asdict(key) | asdict(value) for key, value in figures.items()],
        "goals": [asdict(goal) | {"met": goal.met} for goal in goals(figures)],
    }


def _machine(cores: Cores) -> str:
    """Asked before the run, which makes a load of its own."""
    found = [name for name in VERSIONED if importlib.util.find_spec("zmq" if name == "pyzmq" else name)]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in found)
    pinned = f", pinned to {cores[0]} and {cores[1]}" if cores else ""
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores{pinned}, load {os.getloadavg()[0]:.1f}, {platform.platform()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _numbers(cpu_list: str) -> set[int]:
    """Of a kernel's list such as `0-1,64`."""
    spans = [span.split("-") for span in cpu_list.strip().split(",")]
    return {cpu for span in spans for cpu in range(int(span[0]), int(span[-1]) + 1)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: under a minute, and rougher")
    parser.add_argument("--rounds", type=int, help=f"repetitions (default {FULL.rounds}, {QUICK.rounds} with --quick)")
    parser.add_argument("--frames", nargs="+", choices=FRAMES, default=list(FRAMES), help="kinds of frame to carry")
    parser.add_argument("--transports", nargs="+", default=[""], help="only those whose names contain one of these")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    parser.add_argument("--plot", type=Path, help="draw them there: .svg or .png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
