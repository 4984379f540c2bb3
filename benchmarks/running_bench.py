"""What `launcher.py bench` runs, for benchmarks that use its parts: one search of the limit at most, without kills."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from pipeline.bench.benched import Benched
from pipeline.bench.interruption import EXIT_INTERRUPTED
from pipeline.bench.measure import DID_NOT_LAST, Bench
from pipeline.bench.progress import BenchProgress, print_warnings
from pipeline.bench.report import Settings
from pipeline.topology_file import TopologyFileError


@contextmanager
def failures_told(*mistakes: type[Exception]) -> Iterator[None]:
    """Ends the program with one line for what is wrong inside: exit code 2 for a mistake in the topology, or one of
    `mistakes`, 1 when pipeline, source or viewer did not last, and 130 for Ctrl-C."""
    try:
        yield
    except (TopologyFileError, *mistakes) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except DID_NOT_LAST as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def running_bench(
    topology: Benched,
    file: Path,
    console: Console,
    *,
    seconds: float,
    latency_ms: float,
    max_fps: float,
    reference_fps: float,
) -> Iterator[Bench]:
    """Pipeline, source and viewer run inside. `seconds` are those of a step; the rest is as in Settings. Raises
    NodeFailed or HelperDied."""
    settings = Settings(
        topology=str(file),
        processor=topology.processor,
        command=" ".join(sys.argv),
        width=topology.width,
        height=topology.height,
        seconds=seconds,
        latency_ms=latency_ms,
        max_fps=max_fps,
        reference_fps=reference_fps,
        repeats=1,
        kills=0,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        BenchProgress(console) as progress,
        Bench(topology, settings, Path(folder), progress) as bench,
    ):
        print_warnings(console, bench.warnings)
        yield bench
