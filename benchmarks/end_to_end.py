"""What the whole pipeline costs and how late it is, against pytrickle and against one process that does the same work.

`make bench`, or: python -m benchmarks.end_to_end [--quick] [--rounds N] [--seconds S] [--cases C ...]
[--contestants C ...] [--silent] [--json FILE]

A numbered picture, encoded before, is played live into a relay; a contestant makes of one channel another; a viewer
watches that. Contestants (a process, or several):

- control: nobody. The viewer watches what the source sends. What another is later than this it adds.
- one process: the floor, `benchmarks.floor`: livepipe's own parts in one loop.
- livepipe: the launcher and its four stages, as configs/demo.yaml has them.
- pytrickle: its StreamProcessor, under an interpreter of its own (`make` installs it).
- ai-runner queues: ai-runner's two processes with torch queues between them, rebuilt around pytrickle's media code.

All hand pictures on as they are, by way of float32 in [0, 1], encode with the same x264 settings (those that pytrickle
has fixed), and take the same bytes from the same relay. Sound goes past the processor; pytrickle encodes it anew, so
--silent leaves it out. Relay, source and viewer are the harness: their CPU is shown, and counts for nobody. Contestants
take turns, another first in every round.

By default it takes about 25 minutes. Exits with 1 when a contestant has failed, or what a viewer saw of it cannot be
right. A run during which the machine was busy for somebody else, or the source was late, is named below the table.
"""

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.end_to_end_peers.cases import CASES, Case
from benchmarks.end_to_end_peers.contestants import CONTESTANTS, NEEDS_PYTRICKLE, Failed
from benchmarks.end_to_end_peers.heat import Figure, Nonsense, over_rounds, run
from benchmarks.end_to_end_peers.report import Figures, goals, markdown
from benchmarks.machine import describe
from benchmarks.trickle_peers.catalogue import CLIENTS, PYTRICKLE
from benchmarks.trickle_peers.processes import RelayProcess
from pipeline.bench.interruption import EXIT_INTERRUPTED, INTERRUPTED, sigterm_like_ctrl_c

ROUNDS, SECONDS, WARM_UP_S = 3, 20.0, 5.0
QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARM_UP_S = 1, 8.0, 2.0
VERSIONED = ("av", "numpy", "torch", "pyzmq", "msgspec", "h11")

Failures = dict[tuple[str, str], str]
"""Why a contestant has no figures in a case, or fewer rounds of them."""


class Measured(NamedTuple):
    """Both are by case and contestant."""

    figures: Figures
    failures: Failures
    interrupted: bool


def main() -> None:
    options = _options()
    names = those_installed(options.contestants)
    load = os.getloadavg()[0]  # Before the run, which makes a load of its own.
    with sigterm_like_ctrl_c():
        figures, failures, interrupted = measure(
            names, options.cases, options.rounds, options.seconds, options.warm_up, with_sound=not options.silent
        )
    machine = describe(load, {name: metadata.version(name) for name in VERSIONED})
    print(f"Live end to end, {options.rounds} rounds of {options.seconds:.0f} s (python -m benchmarks.end_to_end)\n")
    print(markdown(figures, failures), machine, sep="\n\n")
    if options.json:
        options.json.write_bytes(_as_json(machine, figures, failures))
    end(failures, interrupted=interrupted)


def end(failures: Failures, *, interrupted: bool) -> None:
    """The program, with its exit code."""
    if interrupted:
        print(INTERRUPTED, file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    if failures:
        sys.exit(1)


def those_installed(names: list[str]) -> list[str]:
    """The contestants that can take part; says which cannot."""
    there = [name for name in names if name not in NEEDS_PYTRICKLE or CLIENTS[PYTRICKLE].installed]
    if left_out := [name for name in names if name not in there]:
        print(f"{', '.join(left_out)}: pytrickle is not installed, left out; `make bench` installs it", file=sys.stderr)
    return there


def measure(
    names: list[str],
    cases: list[str],
    rounds: int,
    seconds: float,
    warm_up: float,
    *,
    with_sound: bool = True,
    beside: Callable[[Case, Path], None] = lambda _case, _source: None,
) -> Measured:
    """The figures over the rounds that gave any, and what went wrong in the others. `beside` is called in each round
    with each case and its source."""
    taken = defaultdict[tuple[str, str], list[Figure]](list)
    failures: Failures = {}
    interrupted = False
    with tempfile.TemporaryDirectory() as temporary, RelayProcess() as relay:
        folder = Path(temporary)
        turns = [(turn, CASES[case]) for turn in range(rounds) for case in cases]
        try:
            for turn, case in turns:
                source = case.write_source(folder, seconds, with_sound)
                first = turn % len(names)
                for name in names[first:] + names[:first]:
                    print(f"round {turn + 1} of {rounds}: {case.name}, {name}", file=sys.stderr)
                    try:
                        figure = run(name, case, relay, folder, source, seconds, warm_up)
                    except (Failed, Nonsense, RuntimeError) as problem:
                        failures[case.name, name] = str(problem)
                        print(problem, file=sys.stderr)
                    else:
                        taken[case.name, name].append(figure)
                beside(case, source)
        except KeyboardInterrupt:
            interrupted = True
    order = [(case, name) for case in cases for name in names if (case, name) in taken]
    return Measured({key: over_rounds(taken[key]) for key in order}, failures, interrupted)


def _as_json(machine: str, figures: Figures, failures: Failures) -> bytes:
    asdict = msgspec.structs.asdict
    everything = {
        "machine": machine,
        "figures": [{"case": case, "contestant": name} | asdict(value) for (case, name), value in figures.items()],
        "failures": [{"case": case, "contestant": name, "why": why} for (case, name), why in failures.items()],
        "goals": [asdict(goal) | {"met": goal.met} for goal in goals(figures)],
    }
    return msgspec.json.format(msgspec.json.encode(everything))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, and rougher")
    parser.add_argument("--rounds", type=int, help=f"repetitions (default {ROUNDS}, {QUICK_ROUNDS} with --quick)")
    parser.add_argument(
        "--seconds", type=float, help=f"length of the source (default {SECONDS:g}, {QUICK_SECONDS:g} with --quick)"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="only these")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="only these")
    parser.add_argument("--silent", action="store_true", help="a source without sound")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    return read_options(parser)


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Its options, with what --quick makes of `rounds`, `seconds` and `warm_up`; ends the program for a mistake."""
    options = parser.parse_args()
    options.rounds = options.rounds if options.rounds is not None else (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds if options.seconds is not None else (QUICK_SECONDS if options.quick else SECONDS)
    options.warm_up = QUICK_WARM_UP_S if options.quick else WARM_UP_S
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: needed: 1 or more")
    if not options.warm_up + 2 <= options.seconds <= 600:
        parser.error(f"--seconds {options.seconds:g}: needed: {options.warm_up + 2:g} to 600, warm-up included")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


if __name__ == "__main__":
    main()
