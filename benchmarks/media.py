"""CPU per picture, stage by stage, from MPEG-TS in to trickle out: ours, the shortest loop over libav, FFmpeg's command
line and pytrickle, on the same bytes with the same x264 settings.

`make bench`, or: python -m benchmarks.media [--quick] [--rounds N] [--pictures N] [--works W ...] [--json FILE]

Everything runs in one thread and as fast as it goes, but publishing, which has the pace of a stream. Only what is alike
is compared: libav's loop has a copy for a processor, and a bare socket for the publisher. FFmpeg's command line
takes part when it is on PATH, pytrickle when its interpreter is there (`make` installs it). Sound is copied, by
pytrickle encoded anew. All take turns in every round; medians over the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from statistics import median

from benchmarks.machine import describe
from benchmarks.media_peers import ffmpeg, libav, ours, publishing
from benchmarks.media_peers.work import FPS, PUBLISH, STAGES, WARM_UP, WORKS, Work
from benchmarks.trickle_peers.catalogue import CLIENTS, PYTRICKLE, ROOT
from benchmarks.trickle_peers.processes import RelayProcess

OURS, LIBAV, FFMPEG = "livepipe", "libav loop", "ffmpeg"
ROUNDS, PICTURES = 3, 240
QUICK_ROUNDS, QUICK_PICTURES = 1, 90
PUBLISHED = 90
"""Pictures of which publishing is measured: 3 s."""

VERSIONED = ("av", "numpy", "torch", "msgspec")
PART_S = 300.0

Figures = dict[tuple[str, str], dict[str, float]]
"""CPU ms per picture by stage; by work and by who did it."""


def main() -> None:
    options = _options()
    load = os.getloadavg()[0]  # Before the run, which makes a load of its own.
    try:
        figures = measure([WORKS[name] for name in options.works], options.rounds, options.pictures)
    except KeyboardInterrupt:
        sys.exit("interrupted; everything that was started has been ended")
    machine = describe(load, {name: metadata.version(name) for name in VERSIONED})
    print(f"CPU ms a picture, {options.rounds} rounds of {options.pictures} (python -m benchmarks.media)\n")
    print(markdown(figures, options.works), machine, sep="\n\n")
    if options.json:
        rows = [{"work": work, "by": name, "cpu_ms": stages} for (work, name), stages in figures.items()]
        options.json.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2))


def measure(works: list[Work], rounds: int, pictures: int) -> Figures:
    """Medians over the rounds."""
    taken = defaultdict[tuple[str, str], list[dict[str, float]]](list)
    with tempfile.TemporaryDirectory() as folder, RelayProcess() as relay:
        for turn in range(rounds):
            for work in works:
                print(f"round {turn + 1} of {rounds}: {work.name}", file=sys.stderr)
                source = work.write_source(Path(folder), pictures)
                for name, stages in _measure(work, source, pictures, relay).items():
                    taken[work.name, name].append(stages)
    return {key: {stage: median(one[stage] for one in all_) for stage in all_[0]} for key, all_ in taken.items()}


def _measure(work: Work, source: Path, pictures: int, relay: RelayProcess) -> dict[str, dict[str, float]]:
    chunks: list[bytes] = []
    results = {OURS: ours.measure(work, source, chunks), LIBAV: libav.measure(work, source)}
    results[OURS][PUBLISH] = publishing.sink(chunks[:PUBLISHED], relay)
    results[LIBAV][PUBLISH] = publishing.bare_socket(chunks[:PUBLISHED], relay)
    if ffmpeg.installed():
        results[FFMPEG] = {"all": ffmpeg.measure(work, source, pictures)}
    if CLIENTS[PYTRICKLE].installed:
        results[PYTRICKLE] = _pytrickle(work, source)
    return results


def _pytrickle(work: Work, source: Path) -> dict[str, float]:
    """Raises RuntimeError with the end of what it said when it fails."""
    numbers = map(str, (work.out_width, work.out_height, FPS, WARM_UP))
    command = [CLIENTS[PYTRICKLE].python, "-m", "benchmarks.media_peers.pytrickle_av", str(source), *numbers]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PART_S)
    if done.returncode:
        raise RuntimeError(f"pytrickle on {work.name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def markdown(figures: Figures, works: list[str]) -> str:
    """A row a stage, a column a work: ours, and how many times libav's loop that is; then the totals of all."""
    rows = [_row(["", *works]), _row(["---", *["---:"] * len(works)])]
    for stage in STAGES:
        cells = [_cell(figures[work, OURS][stage], figures[work, LIBAV][stage]) for work in works]
        rows.append(_row([stage, *cells]))
    floors = {work: sum(figures[work, LIBAV].values()) for work in works}
    for name in (OURS, LIBAV, FFMPEG, PYTRICKLE):
        if all((work, name) in figures for work in works):
            cells = [_cell(sum(figures[work, name].values()), floors[work]) for work in works]
            rows.append(_row([f"**{name}, all**", *cells]))
        if name == PYTRICKLE and (works[0], name) in figures:
            for half in figures[works[0], name]:
                rows.append(_row([f"of it {half}", *(f"{figures[work, name][half]:.2f}" for work in works)]))
    note = "In brackets: times the same stage of libav's loop. FFmpeg and pytrickle do not publish here."
    return "\n".join([*rows, "", note])


def _cell(value: float, floor: float) -> str:
    return f"{value:.3f} ({value / floor:.2f})"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, and rougher")
    parser.add_argument("--rounds", type=int, help=f"repetitions (default {ROUNDS}, {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--pictures", type=int, help=f"a source (default {PICTURES}, {QUICK_PICTURES} with --quick)")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="only these")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    options = parser.parse_args()
    options.rounds = options.rounds if options.rounds is not None else (QUICK_ROUNDS if options.quick else ROUNDS)
    quick = QUICK_PICTURES if options.quick else PICTURES
    options.pictures = options.pictures if options.pictures is not None else quick
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: needed: 1 or more")
    if options.pictures < 2 * WARM_UP:
        parser.error(f"--pictures {options.pictures}: needed: {2 * WARM_UP} or more, of which {WARM_UP} warm up")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {options.json.parent}")
    return options


if __name__ == "__main__":
    main()
