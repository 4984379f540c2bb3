"""What a stream costs the box that runs it, when nothing comes, when pictures come, and when they have ceased to come.

python -m benchmarks.stream_cost [FILE.yaml] [--streams N] [--fps FPS] [--seconds S] [--set PATH=VALUE] [--json FILE]

The topology (configs/api.yaml by default), with room for N streams, runs on a relay of its own; its processes are
counted with no stream, with N that wait for their sources, with N that are played at so many pictures a second, and
with N whose sources are silent. What a stream costs is the difference, divided by N. A free place is what room for one
more costs while nobody uses it, by the difference between room for N and for one. Resident memory counts what
processes share, libraries and frames, in each of them; the proportional share (PSS) counts it once.
"""

import argparse
import contextlib
import operator
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.running_bench import failures_told, running_bench
from pipeline.bench.benched import Benched, benched
from pipeline.bench.machine import describe_machine
from pipeline.bench.measure import Bench
from pipeline.bench.report import Machine
from pipeline.bench.usage import processes_of, worker_of
from pipeline.bench.words import Play, Stop
from pipeline.topology_file import load_topology, parse_override
from pipeline.topology_sections import MAX_STREAMS

STREAMS, FPS, SECONDS = 4, 10.0, 10.0
LATENCY_MS = 1000.0

SETTLE_S = 2.0
"""Before each count: what has just begun is over."""


class Held(msgspec.Struct, frozen=True):
    """By some processes: resident memory and its proportional share in MB, and CPU time in ms of each second."""

    processes: float = 0.0
    threads: float = 0.0
    descriptors: float = 0.0
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    cpu_ms: float = 0.0

    def __add__(self, other: "Held") -> "Held":
        return Held(*map(operator.add, msgspec.structs.astuple(self), msgspec.structs.astuple(other)))

    def __sub__(self, other: "Held") -> "Held":
        return self + other / -1

    def __truediv__(self, count: float) -> "Held":
        return Held(*(value / count for value in msgspec.structs.astuple(self)))


ByWorker = dict[str, Held]


class StreamCost(msgspec.Struct, frozen=True):
    """`node` is everything with no stream, the others what one place or one stream adds to it; `of_busy` is a busy
    stream's by worker."""

    machine: Machine
    topology: str
    streams: int
    fps: float
    node: Held
    free_place: Held
    waiting: Held
    busy: Held
    silent: Held
    of_busy: ByWorker


def main() -> None:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 120)
    with failures_told():
        cost = measure(options, console)
    console.print(*tables(cost), sep="\n")
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(cost)))


def measure(options: argparse.Namespace, console: Console) -> StreamCost:
    """Raises TopologyFileError, and NodeFailed or HelperDied when the pipeline, its source or its viewer do not
    last."""
    count, seconds = options.streams, options.seconds
    room_for_one, room_for_all = (_topology(options, most) for most in (1, count))
    with _bench(room_for_one, options, console) as bench:
        empty_of_one = _together(count_processes(bench, seconds).values())
    with _bench(room_for_all, options, console) as bench:
        empty = count_processes(bench, seconds)
        bench.want_streams(count)
        waiting = count_processes(bench, seconds)
        bench.prepare(options.fps)
        bench.source.send(Play(bench.urls(), float("inf")))
        busy = count_processes(bench, seconds)
        bench.source.send(Stop())
        bench.source.answer()
        silent = count_processes(bench, seconds)
    whole = _together(empty.values())
    return StreamCost(
        machine=describe_machine(),
        topology=str(options.file),
        streams=count,
        fps=options.fps,
        node=whole,
        free_place=(whole - empty_of_one) / (count - 1),
        waiting=(_together(waiting.values()) - whole) / count,
        busy=(_together(busy.values()) - whole) / count,
        silent=(_together(silent.values()) - whole) / count,
        of_busy={worker: (held - empty.get(worker, Held())) / count for worker, held in busy.items()},
    )


def count_processes(bench: Bench, seconds: float) -> ByWorker:
    """What the pipeline's processes hold, and use within so many `seconds`, by worker."""
    bench.node.hear(SETTLE_S)
    before = _cpu_s(bench.node.pid)
    bench.node.hear(seconds)
    after = _cpu_s(bench.node.pid)
    bench.node.check()
    found: ByWorker = {}
    for process in processes_of(bench.node.pid):
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            memory = process.memory_full_info()
            held = Held(
                processes=1,
                threads=process.num_threads(),
                descriptors=process.num_fds(),
                rss_mb=memory.rss / 1e6,
                pss_mb=memory.pss / 1e6,
                cpu_ms=1000 * (after.get(process.pid, 0.0) - before.get(process.pid, 0.0)) / seconds,
            )
            worker = worker_of(process, bench.node.pid)
            found[worker] = found.get(worker, Held()) + held
    return found


def _cpu_s(launcher: int) -> dict[int, float]:
    """CPU seconds so far by process. From the scheduler's own count (proc(5), schedstat, nanoseconds): the one of
    /proc/PID/stat is in steps of 10 ms, as much as an idle process uses in a second."""
    used: dict[int, float] = {}
    for process in processes_of(launcher):
        for thread in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                used[process.pid] = used.get(process.pid, 0.0) + int(thread.read_text().split()[0]) / 1e9
    return used


def tables(cost: StreamCost) -> list[Table | str]:
    added = Table(title="what a stream adds", title_justify="left")
    rows = {
        "a free place": cost.free_place,
        "waits for its source": cost.waiting,
        f"{cost.fps:g} fps": cost.busy,
        "its source is silent": cost.silent,
    }
    by_worker = Table(title=f"a stream at {cost.fps:g} fps, by worker", title_justify="left")
    for table, lines in ((added, {"no stream: the whole node": cost.node} | rows), (by_worker, cost.of_busy)):
        for heading in ("", "processes", "threads", "descriptors", "resident MB", "share MB", "CPU ms/s"):
            table.add_column(heading, justify="left" if not heading else "right")
        for what, held in lines.items():
            counts = (f"{value:.1f}".removesuffix(".0") for value in (held.processes, held.threads, held.descriptors))
            table.add_row(what, *counts, f"{held.rss_mb:.1f}", f"{held.pss_mb:.1f}", f"{held.cpu_ms:.1f}")
    return [added, by_worker]


def _topology(options: argparse.Namespace, most: int) -> Benched:
    changes = dict(map(parse_override, options.set))
    return benched(load_topology(options.file, changes | {"streams.max": most, "streams.admit_below": 0}))


def _bench(topology: Benched, options: argparse.Namespace, console: Console) -> AbstractContextManager[Bench]:
    return running_bench(
        topology,
        options.file,
        console,
        seconds=options.seconds,
        latency_ms=LATENCY_MS,
        max_fps=options.fps,
        reference_fps=options.fps,
    )


def _together(parts: Iterable[Held]) -> Held:
    return sum(parts, Held())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path("configs/api.yaml"), help="topology")
    parser.add_argument("--streams", type=int, default=STREAMS, help=f"default {STREAMS}")
    parser.add_argument("--fps", type=float, default=FPS, help=f"of each stream (default {FPS:g})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each count (default {SECONDS:g})")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="replace a value")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args()
    if not 2 <= options.streams <= MAX_STREAMS:
        parser.error(f"--streams {options.streams}: needed: 2 to {MAX_STREAMS}")
    if not 1 <= options.fps <= 240:
        parser.error(f"--fps {options.fps:g}: needed: 1 to 240")
    if not 1 <= options.seconds <= 600:
        parser.error(f"--seconds {options.seconds:g}: needed: 1 to 600")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


if __name__ == "__main__":
    main()
