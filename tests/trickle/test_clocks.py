"""Nothing in the package may wait, count or expire by a clock that somebody can set."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline.trickle

SOURCES = sorted(Path(pipeline.trickle.__file__).parent.glob("*.py"))
MONOTONIC = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}
DATE_HEADER = "reply.py"
"""Writes the Date header, which is the time of day by its nature (RFC 9110, 6.6.1), and of which nothing depends."""


def clocks(source: Path) -> Iterator[str]:
    """What a module takes from `time`, and whether it knows of dates."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name == "datetime")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_only_monotonic_clocks_are_read(source: Path) -> None:
    allowed = MONOTONIC | ({"time"} if source.name == DATE_HEADER else set())

    assert set(clocks(source)) <= allowed
