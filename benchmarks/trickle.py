"""What our trickle client does and costs on our relay, against pytrickle on the same relay, in the same run.

`python -m benchmarks.trickle [--quick] [--rounds N] [--clients C ...] [--json FILE]`

Publisher and readers of each client are processes of their own, pytrickle's under its own interpreter (`make test`
installs it; without it only ours is measured). They write the same chunks and segments at the same paces, and each is
used as its own pipeline uses it: ours as `TrickleSink` does, pytrickle as its StreamProcessor. Clients take turns in
every round, another first each time, after a job that warms them up; of latencies the first fifth of a job does not
count. What is shown are medians over the rounds, so that a noisy moment hits all alike.

Nothing in trickle holds a publisher back for its readers, and a channel keeps five segments: of small ones written back
to back every reader misses some, for five take less time than a scheduler's turn. So what counts is the rate up to
which none is missed, found by halving: the highest of a ladder of rates, without a gap or a duplicate in two attempts.
Shown is how fast they were received then, for a publisher may be slower than its pace. pytrickle's writer waits for
nothing at all: up to 350 MB may stand in its publisher.
"""

import argparse
import os
import sys
from collections import defaultdict
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from benchmarks.machine import describe
from benchmarks.trickle_peers.catalogue import CLIENTS, Entry
from benchmarks.trickle_peers.figures import (
    GAPLESS,
    NOTHING_ARRIVED,
    Figure,
    Figures,
    figure,
    goals,
    over_rounds,
)
from benchmarks.trickle_peers.job import Job
from benchmarks.trickle_peers.processes import Ends, RelayProcess
from benchmarks.trickle_peers.report import figure_table, goal_table

CHUNKS_PER_SECOND = 60
LIVE_CHUNK_BYTES = 2_000_000 // 8 // CHUNKS_PER_SECOND
"""A live stream of 2 Mbit/s."""

SATURATING_CHUNK_BYTES = 32 * 1024
SMALL_SEGMENT_BYTES = 10_000
GAPLESS_RATES = [round(25 * 1.25**step) for step in range(20)]
"""Segments a second, 25 to 1735."""

GAPLESS_ATTEMPTS = 2
READERS = 100
WARM_UP = Job(segments=5, chunks=50, chunk_bytes=SATURATING_CHUNK_BYTES)
"""Done once by every client before anything counts."""

VERSIONED = ("msgspec", "h11")


class Effort(msgspec.Struct, frozen=True):
    """How much a run takes. Segments of the saturating job are megabytes long, and five: all that a channel keeps, so
    that no reader can fall out of it."""

    rounds: int
    saturating_chunks: int
    paced_chunks: int
    switches: int
    segments: int
    fan_out_seconds: int
    gapless_seconds: float

    @property
    def jobs(self) -> dict[str, Job]:
        live, rate = LIVE_CHUNK_BYTES, CHUNKS_PER_SECOND
        return {
            "saturating": Job(5, self.saturating_chunks, SATURATING_CHUNK_BYTES),
            "paced": Job(1, self.paced_chunks, live, rate),
            "switches": Job(self.switches, 3, live, rate),
            "segments": Job(self.segments, 1, SMALL_SEGMENT_BYTES),
            "fan-out": Job(self.fan_out_seconds, CHUNKS_PER_SECOND, live, rate, READERS),
        }


FULL = Effort(
    3, saturating_chunks=2048, paced_chunks=360, switches=100, segments=500, fan_out_seconds=5, gapless_seconds=2
)
QUICK = Effort(
    1, saturating_chunks=512, paced_chunks=120, switches=40, segments=300, fan_out_seconds=2, gapless_seconds=1
)


def main() -> None:
    options = _options()
    effort = QUICK if options.quick else FULL
    effort = msgspec.structs.replace(effort, rounds=options.rounds or effort.rounds)
    entries = {name: CLIENTS[name] for name in options.clients}
    for name in [name for name, entry in entries.items() if not entry.installed]:
        print(f"{name}: not installed, left out", file=sys.stderr)
        del entries[name]
    load = os.getloadavg()[0]  # Before the run, which makes a load of its own.
    figures, versions = measure(entries, effort)
    _report(figures, effort, describe(load, versions), options)


def measure(entries: dict[str, Entry], effort: Effort) -> tuple[Figures, dict[str, str]]:
    """The figures by client and job, and the versions of what was measured."""
    rounds = defaultdict[tuple[str, str], list[Figure]](list)
    versions: dict[str, str] = {name: metadata.version(name) for name in VERSIONED}
    with ExitStack() as stack:
        relay = stack.enter_context(RelayProcess())
        ends = {name: stack.enter_context(Ends(entry)) for name, entry in entries.items()}
        for end in ends.values():
            versions |= end.versions
            end.carry(WARM_UP, relay)
        for turn in range(effort.rounds):
            order = _rotated(list(ends), turn)
            for job_name, job in effort.jobs.items():
                print(f"round {turn + 1} of {effort.rounds}, {job_name}", file=sys.stderr)
                for client in order:
                    rounds[client, job_name].append(figure(job, ends[client].carry(job, relay)))
            print(f"round {turn + 1} of {effort.rounds}, without gaps", file=sys.stderr)
            for client in order:
                rounds[client, GAPLESS].append(_gapless(ends[client], relay, effort))
    return {(client, job): over_rounds(rounds[client, job]) for client, job in list(rounds)}, versions


def _gapless(ends: Ends, relay: RelayProcess, effort: Effort) -> Figure:
    """The figures at the highest rate of small segments at which all arrive; of nothing, if there is no such rate."""
    best = NOTHING_ARRIVED
    slow, fast = 0, len(GAPLESS_RATES)
    while slow < fast:
        step = (slow + fast) // 2
        rate = GAPLESS_RATES[step]
        job = Job(round(rate * effort.gapless_seconds), 1, SMALL_SEGMENT_BYTES, rate)
        for _ in range(GAPLESS_ATTEMPTS):
            found = figure(job, ends.carry(job, relay))
            if found.missing or found.duplicates:
                break
        if found.missing or found.duplicates:
            fast = step
        else:
            best, slow = found, step + 1
    return best


def _rotated(names: list[str], places: int) -> list[str]:
    first = places % len(names) if names else 0
    return names[first:] + names[:first]


def _report(figures: Figures, effort: Effort, machine: str, options: argparse.Namespace) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    met = list(goals(figures, effort.segments))
    console.print(figure_table(figures, effort.jobs, effort.rounds), goal_table(met), machine, sep="\n")
    if options.json:
        asdict = msgspec.structs.asdict
        everything: dict[str, Any] = {
            "machine": machine,
            "figures": [{"client": client, "job": job} | asdict(value) for (client, job), value in figures.items()],
            "goals": [asdict(goal) | {"met": goal.met} for goal in met],
        }
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(everything)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: under two minutes, and rougher")
    parser.add_argument("--rounds", type=int, help=f"repetitions (default {FULL.rounds}, {QUICK.rounds} with --quick)")
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="only these")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
