"""How a part of the benchmark reports, and how it starts its other processes.

A part is a module with a generator of named figures. It runs in a process of its own, which prints each figure as one
line of JSON as soon as it has it, so that a part that hangs or dies takes no figure with it.
"""

import json
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ANSWER_SECONDS = 40.0
DEVICE = 0

Figures = Iterator[tuple[str, Any]]


def report(figures: Figures) -> None:
    """Print the figures as they come. What stops them is a figure too."""
    try:
        for name, figure in figures:
            print(json.dumps([name, figure]), flush=True)
    except Exception as error:  # noqa: BLE001 - the outermost loop of the process
        traceback.print_exc()
        print(json.dumps(["error", one_line(error)]), flush=True)


def attempt(measure: Callable[..., Any], *arguments: Any) -> Any:
    """What `measure` gives, or {"error": one line}: the other figures of the part are still wanted."""
    try:
        return measure(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the report
        traceback.print_exc()
        return {"error": one_line(error)}


def one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def quantiles(nanoseconds: list[int]) -> dict[str, float]:
    """Median and 99th percentile in microseconds."""
    p50, p99 = np.percentile(nanoseconds, (50, 99)) / 1000
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


class Child:
    """Another process of a part, `python -m MODULE ROLE JOB`, that prints and reads lines of JSON. Killed at the end of
    the `with`, whatever it does."""

    def __init__(self, module: str, role: str, job: msgspec.Struct, fds: list[int]) -> None:
        self._role = role
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, role, msgspec.json.encode(job).decode()],
            pass_fds=fds,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def tell(self, message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Its next line. Raises RuntimeError when it dies instead, or says nothing for ANSWER_SECONDS."""
        assert self.process.stdout is not None
        watch = threading.Timer(ANSWER_SECONDS, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        watch.cancel()
        if not line:
            raise RuntimeError(f"the {self._role} process died or hung: exit code {self.process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def say(message: Any) -> None:
    """From a child to its part."""
    print(json.dumps(message), flush=True)


def listen() -> Any:
    """In a child, what its part tells it."""
    return json.loads(sys.stdin.readline())
