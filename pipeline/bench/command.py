"""The command `launcher.py bench`: measure a topology, or take a report that is there, say what was found, compare."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from pipeline.bench.benched import Benched, benched
from pipeline.bench.compare import Comparison, compare
from pipeline.bench.html_report import html_report
from pipeline.bench.interruption import EXIT_INTERRUPTED, INTERRUPTED, sigterm_like_ctrl_c
from pipeline.bench.measure import DID_NOT_LAST, Bench
from pipeline.bench.options import problem_of, size_of
from pipeline.bench.progress import BenchProgress, print_warnings
from pipeline.bench.report import Report, ReportFileError, Settings, read_report, write_report
from pipeline.bench.summary import comparison_table, summary
from pipeline.topology import Topology

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
WIDTH = 120
"""Columns where there is no terminal to ask."""


def bench(options: argparse.Namespace, load: Callable[[], Topology], command: str) -> int:
    """The exit code. `load` reads the topology; a FILE that ends in .json is a report, taken in the place of a run.
    `command` is what was typed."""
    if problem := problem_of(options):
        print(problem, file=sys.stderr)
        return EXIT_USAGE
    try:
        old = read_report(options.against) if options.against is not None else None
        there = read_report(options.file) if options.file.suffix == ".json" else None
    except ReportFileError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    report = there if there is not None else _measure(options, benched(load()), command)
    comparison = compare(old, report) if old is not None else None
    if options.json is not None:
        write_report(options.json, report)
    if options.report is not None:
        options.report.write_text(html_report(report, comparison))
    _say(report, comparison)
    return _exit_code(report, comparison, options.fail_if_worse)


def _measure(options: argparse.Namespace, topology: Benched, command: str) -> Report:
    for path in filter(None, (options.json, options.report)):
        path.touch()  # A place that cannot be written to is better known now than after the run.
    width, height = size_of(options.size or "") or (topology.width, topology.height)
    settings = Settings(
        topology=str(options.file),
        processor=topology.processor,
        command=command,
        width=width,
        height=height,
        seconds=options.seconds,
        latency_ms=options.latency_ms,
        max_fps=options.max_fps,
        reference_fps=min(options.fps, options.max_fps),
        repeats=options.repeats,
        kills=options.kills,
        digest=topology.digest,
    )
    console = Console(stderr=True)
    with (
        sigterm_like_ctrl_c(),
        tempfile.TemporaryDirectory(prefix="livepipe-bench-") as folder,
        BenchProgress(console) as progress,
    ):
        run = Bench(topology, settings, Path(folder), progress)
        print_warnings(console, run.warnings)
        try:
            with run:
                run.run()
        except KeyboardInterrupt:
            return run.report(interrupted=True)
        except DID_NOT_LAST as failure:
            return run.report(problem=str(failure))
        return run.report()


def _say(report: Report, comparison: Comparison | None) -> None:
    out = Console(width=None if sys.stdout.isatty() else WIDTH)
    out.print(*summary(report), sep="\n")
    if comparison is not None:
        out.print(comparison_table(comparison))
        for line in comparison.gone:
            out.print(f"worse: {line}", style="bold red", highlight=False, soft_wrap=True)
        for line in comparison.unlike:
            out.print(f"the two runs differ in {line}", style="yellow", highlight=False, soft_wrap=True)
    if report.interrupted:
        print(INTERRUPTED, file=sys.stderr)
    if report.problem:
        print(report.problem, file=sys.stderr)


def _exit_code(report: Report, comparison: Comparison | None, fail_if_worse: bool) -> int:
    if report.problem:
        return EXIT_FAILED
    if report.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_FAILED if fail_if_worse and comparison is not None and comparison.is_worse else EXIT_OK
