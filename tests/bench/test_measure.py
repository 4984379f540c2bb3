"""How a whole run goes about it, with everything that it drives made up: which streams run, what is asked of whom."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.bench import measure
from pipeline.bench.benched import benched
from pipeline.bench.measure import Bench
from pipeline.bench.node import Line, StreamRefused
from pipeline.bench.report import Limit, Settings
from pipeline.bench.words import READY, End, Unwatch, Watch
from pipeline.shipped import find_topology
from pipeline.topology_file import load_topology
from tests.bench.conftest import step


class Progress:
    def phase(self, title: str) -> None: ...
    def begin(self, what: str, seconds: float) -> None: ...
    def done(self, what: str, text: str) -> None: ...


class Node:
    """Starts and stops streams at once."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.begun = 0
        self.room = 8

    def start_stream(self) -> None:
        if len(self.lines) == self.room:
            raise StreamRefused("stream s: full")
        self.begun += 1
        self.lines.append(Line(f"s{self.begun}", f"in{self.begun}", f"out{self.begun}"))

    def stop_stream(self, line: Line) -> None:
        self.lines.remove(line)


class Helper:
    """Does whatever it is told, and forgets only what it was told to watch."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.watched: set[str] = set()

    def send(self, order: Any) -> None:
        self.told.append(order)
        match order:
            case Watch(url):
                self.watched.add(url)
            case Unwatch(url):
                self.watched.remove(url)

    def answer(self, seconds: float) -> str:
        return READY


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Of a topology with up to eight streams on request."""
    monkeypatch.setattr(measure, "idle_problem", lambda: "")
    topology = msgspec.structs.replace(benched(load_topology(find_topology(Path("api")))), most_streams=8)
    settings = Settings("t", "p", "c", 64, 64, 1.0, 100.0, 480.0, 30.0, 3, 3)
    made = Bench(topology, settings, tmp_path, Progress())
    made.node, made.source, made.viewer = Node(), Helper(), Helper()  # type: ignore[assignment]
    return made


def held_up_to(
    bench: Bench, most: float, monkeypatch: pytest.MonkeyPatch, *, accidents: tuple[int, ...] = ()
) -> list[tuple[str, int, float]]:
    """Steps hold while streams x fps is no more than that, and fail hopelessly above; those of these numbers, from 0
    on, fail by little. Returns the list of those that were made."""
    made: list[tuple[str, int, float]] = []

    def take(purpose: str, streams: int, fps: float) -> Any:
        holds, by_accident = streams * fps <= most, len(made) in accidents
        made.append((purpose, streams, fps))
        found = step(purpose=purpose, streams=streams, fps=fps, p95_ms=30.0 if holds else 500.0)
        found = msgspec.structs.replace(found, failings=[] if holds and not by_accident else ["late"])
        bench._steps.append(found)
        return found

    monkeypatch.setattr(bench, "_step", take)
    return made


def test_every_stream_that_runs_is_watched_and_no_other(bench: Bench) -> None:
    bench.want_streams(3)
    assert bench.viewer.told == [Watch("out1"), Watch("out2"), Watch("out3")]  # type: ignore[attr-defined]
    bench.want_streams(1)
    assert bench.urls() == ["in1"]
    assert bench.source.told == [End("in3"), End("in2")]  # type: ignore[attr-defined]
    assert bench.viewer.told[3:] == [Unwatch("out3"), Unwatch("out2")]  # type: ignore[attr-defined]
    bench.want_streams(2)
    assert bench.urls() == ["in1", "in4"], "a channel is not used twice"


def test_the_streams_that_hold_at_once_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = held_up_to(bench, 150, monkeypatch)
    bench.find_streams()
    assert bench.report().most_streams == 5
    assert {(purpose, fps) for purpose, _, fps in made} == {("streams", 30.0)}


def test_a_stream_that_is_refused_does_not_hold(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.node.room = 3  # type: ignore[attr-defined]
    made = held_up_to(bench, 1000, monkeypatch)
    take = bench._step

    def take_if_there_is_room(purpose: str, streams: int, fps: float) -> Any:
        bench.want_streams(streams)
        return take(purpose, streams, fps)

    monkeypatch.setattr(bench, "_step", take_if_there_is_room)
    bench.find_streams()
    assert bench.report().most_streams == 3
    assert [count for _, count, _ in made] == [1, 2, 3]


def test_streams_that_came_before_one_was_refused_can_be_stopped(bench: Bench) -> None:
    bench.node.room = 7  # type: ignore[attr-defined]
    bench.want_streams(4)
    with pytest.raises(StreamRefused):
        bench.want_streams(8)
    bench.want_streams(6)
    assert bench.viewer.watched == {f"out{number}" for number in range(1, 7)}  # type: ignore[attr-defined]


def test_what_was_proven_is_kept_when_it_is_interrupted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    held_up_to(bench, 1000, monkeypatch)
    take = bench._step

    def take_up_to_four(purpose: str, streams: int, fps: float) -> Any:
        if streams > 4:
            raise KeyboardInterrupt
        return take(purpose, streams, fps)

    monkeypatch.setattr(bench, "_step", take_up_to_four)
    with pytest.raises(KeyboardInterrupt):
        bench.find_streams()
    assert bench.report().most_streams == 4


def test_where_one_is_all_there_is_the_steps_before_say_whether_it_holds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench._benched = msgspec.structs.replace(bench._benched, most_streams=1)
    made = held_up_to(bench, 29, monkeypatch)
    bench.find_limit(0)
    bench.find_streams()
    assert bench.report().most_streams == 0
    assert all(purpose == "search" for purpose, _, _ in made)


def test_a_limit_that_is_known_is_searched_for_near_by(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = held_up_to(bench, 100, monkeypatch)
    bench.find_limit(0)
    first = len(made)
    bench.find_limit(1)
    assert len(made) - first < first
    assert [one.sustained <= 100 < (one.not_sustained or 0) for one in bench.report().limits] == [True, True]


def test_an_accident_does_not_end_the_search(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = held_up_to(bench, 100, monkeypatch, accidents=(1,))
    bench.find_limit(0)
    assert [fps for _, _, fps in made] == [30, 60, 60, 120, 85, 101, 93, 97]
    assert bench.report().limits == [Limit(97.0, 101.0)]


def test_figures_of_reference_are_of_a_rate_that_holds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = held_up_to(bench, 20, monkeypatch)
    bench.find_limit(0)
    bench._take_reference()
    assert not [one for one in made if one[0] == "reference"]
    bench._limits.append(Limit(40.0, None))
    bench._take_reference()
    assert [one for one in made if one[0] == "reference"] == [("reference", 1, 30.0)] * 3
