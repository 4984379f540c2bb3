"""The events that the source uses, read from its syntax trees, against those that docs/events.md describes."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/events.md"
LEVELS = {"debug", "info", "warning", "error"}

ADDED = {"_tell": {"stream", "label_NAME"}, "_say_waiting": {"url"}}
"""Fields that those who hand an event on add to it."""

HANDED = {"_report": "error", "_say_waiting": "info", "_tell": "info"}
"""Of those whom an event's name is given first, the level that they tell it with."""

HANDS_ON = {
    ("pipeline/ingest.py", "_say_waiting"),
    ("pipeline/stream_keeper.py", "_tell"),
    ("pipeline/supervisor.py", "_heard"),
    ("pipeline/processors/frame_work.py", "_report"),
    ("pipeline/log.py", "debug"),
    ("pipeline/log.py", "info"),
    ("pipeline/log.py", "warning"),
    ("pipeline/log.py", "error"),
    ("pipeline/log.py", "tell"),
}
"""Where an event's name is no literal, because it was given: a call of this function is what is read instead."""

BY_CONSTANT = {"log.OUTPUT": "output"}

RESERVED = {"time", "level", "pipeline", "event"}
"""What every line of the log has besides its stage."""


@dataclass
class Used:
    """An event, over all the places that tell it."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    has_more: bool = False  # fields that only the running program knows


@dataclass
class Call:
    """One place that tells an event."""

    where: tuple[str, str]
    name: ast.expr
    levels: set[str]
    fields: set[str]
    has_more: bool


def sources() -> list[Path]:
    return [*sorted((ROOT / "pipeline").rglob("*.py")), *sorted((ROOT / "workers").glob("*.py")), ROOT / "launcher.py"]


def calls(tree: ast.AST, file: str, function: str = "") -> Iterator[Call]:
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(node, ast.Call) and (found := event_of(node)) is not None:
            name, levels, fields = found
            given = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
            has_more = any(keyword.arg is None for keyword in node.keywords)
            yield Call((file, inside), name, levels, (given | fields) - {"stage"}, has_more)
        yield from calls(node, file, inside)


def event_of(call: ast.Call) -> tuple[ast.expr, set[str], set[str]] | None:
    """The event's name, its levels, and the fields that whoever is called adds; None if the call tells no event."""
    function, arguments = call.func, call.args
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    of = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if not arguments:
        return None
    if called in LEVELS and (of in ("log", "worker") or of.endswith("._worker")):
        return arguments[0], {called}, set()
    if called in ("_announce", "announce", "_tell") and len(arguments) >= 3:
        return arguments[2], literals(arguments[0]) & LEVELS, ADDED.get(called, set())
    if called in HANDED and isinstance(arguments[0], ast.Constant) and isinstance(arguments[0].value, str):
        return arguments[0], {HANDED[called]}, ADDED.get(called, set()) if called == "_say_waiting" else set()
    return None


def literals(expression: ast.expr) -> set[str]:
    return {
        node.value for node in ast.walk(expression) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def used() -> dict[str, Used]:
    events: dict[str, Used] = defaultdict(Used)
    for path in sources():
        file = str(path.relative_to(ROOT))
        for call in calls(ast.parse(path.read_text()), file):
            name = call.name.value if isinstance(call.name, ast.Constant) else BY_CONSTANT.get(ast.unparse(call.name))
            if name is None:
                assert call.where in HANDS_ON, f"{call.where}: an event's name is a literal, so that it can be found"
                continue
            events[name].levels |= call.levels
            events[name].fields |= call.fields
            events[name].has_more |= call.has_more
    return events


def callbacks() -> set[tuple[str, str]]:
    """Where what tells an event is handed on, and not called."""
    found = set()
    for path in sources():
        tree = ast.parse(path.read_text())
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in LEVELS and id(node) not in called:
                of = ast.unparse(node.value)
                if of in ("log", "worker") or of.endswith("._worker"):
                    found.add((str(path.relative_to(ROOT)), f"{of}.{node.attr}"))
    return found


def documented() -> dict[str, list[str]]:
    rows = re.findall(r"^\| `([\w.]+)` \|(.*)\|$", DOCUMENT.read_text(), re.M)
    assert len(rows) == len(dict(rows)), "each event has one row"
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


USED, DOCUMENTED = used(), documented()


def test_every_event_is_documented_and_every_documented_one_is_used() -> None:
    assert set(DOCUMENTED) == set(USED)
    assert len(USED) > 80, "the reading of the source finds them"


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_an_event_is_described_as_it_is_used(name: str) -> None:
    who, levels, fields, meaning, _to_do = DOCUMENTED[name]
    event = USED[name]
    assert who
    assert meaning
    assert set(levels.split(", ")) == event.levels
    told = set(re.findall(r"`(\w+)`", fields))
    assert event.fields <= told
    assert told == event.fields or event.has_more
    assert not told & RESERVED, "a field hides what every line has"


def test_what_tells_events_is_handed_only_to_those_whose_calls_are_read() -> None:
    assert callbacks() == {
        ("pipeline/processors/stream_work.py", "worker.error"),  # SoundWork._report
        ("workers/egress.py", "worker.error"),  # TextChannel._report
        ("workers/recorder.py", "worker.info"),  # Viewer._tell
    }


def test_what_is_bad_says_what_to_do() -> None:
    without = {name for name, (_, levels, *_, to_do) in DOCUMENTED.items() if "error" in levels and not to_do}
    assert not without


def test_the_reading_of_the_source_finds_what_it_should() -> None:
    source = """
def work(self, name):
    log.warning("relay.odd", url=1)
    self._worker.info("seen", stage="x", **fields)
    self._announce("error" if bad else "info", "launcher", "ended", reason=2)
    self._report("failed_on", seq=3)
    self._tell("info", stream, "stream_odd", seconds=4)
    self._say_waiting("away", problem=5)
    worker.error(name)
    self._tell(message)
    widget.info("not an event")
"""
    found = [
        (ast.unparse(call.name).strip("'"), call.levels, call.fields, call.has_more)
        for call in calls(ast.parse(source), "x.py")
    ]
    assert found == [
        ("relay.odd", {"warning"}, {"url"}, False),
        ("seen", {"info"}, set(), True),
        ("ended", {"error", "info"}, {"reason"}, False),
        ("failed_on", {"error"}, {"seq"}, False),
        ("stream_odd", {"info"}, {"seconds", "stream", "label_NAME"}, False),
        ("away", {"info"}, {"problem", "url"}, False),
        ("name", {"error"}, set(), False),
    ]
