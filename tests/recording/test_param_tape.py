"""Which changes of parameters whoever records is told of, and behind which picture."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.messages import StreamBegin, Update
from pipeline.processors.param_sets import ParamSets
from pipeline.recording.format import Change
from pipeline.recording.param_tape import ParamTape
from pipeline.worker_lane import WorkerLane
from tests.processors.lanes_alone import Worker


class Processor:
    def __init__(self) -> None:
        self.params = {"strength": 1, "mix": 0}

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        self.params = self.params | params
        return dict(self.params)


class Told(SimpleNamespace):
    """Takes what a tap would hand on: each stream's number, the parameters, and the picture before them."""

    def __init__(self) -> None:
        super().__init__(recording="r", changes=[])

    def send(self, record: Change, epoch: int) -> None:
        self.changes.append((epoch, record.params, record.after))


class Inference:
    """One process with two lanes, each with a stream."""

    def __init__(self) -> None:
        worker = Worker(2)
        worker.boot.changes_from, worker.boot.incarnation = None, 1
        self.lanes = worker.lanes
        self.told = worker.tap = Told()
        self._params = ParamSets(worker, Processor(), "callable", {})
        self._tapes = [ParamTape(worker, lane, self._params) for lane in worker.lanes]

    def update(self, order: Update) -> None:
        assert self._params.apply(order) is not None
        for tape in self._tapes:
            tape.was_changed(order, 90)

    def begin_stream(self, lane: WorkerLane) -> None:
        assert lane.take_up()
        self._params.begin(lane)
        self._tapes[lane.number].begin_stream()


@pytest.fixture
def inference() -> Inference:
    return Inference()


def test_a_change_is_told_of_the_stream_that_it_was_for(inference: Inference) -> None:
    inference.update(Update(1, {"mix": 3}, lane=1, epoch=1))
    assert inference.told.changes == [(1, {"mix": 3}, 90)]


def test_a_change_for_all_is_told_of_each_with_what_it_has_of_its_own(inference: Inference) -> None:
    inference.update(Update(1, {"mix": 3}, lane=1, epoch=1))
    inference.told.changes.clear()
    inference.update(Update(2, {"mix": 7, "strength": 2}))
    assert inference.told.changes == [(0, {"mix": 7, "strength": 2}, 90), (1, {"mix": 3, "strength": 2}, 90)]


def test_what_a_stream_brings_is_no_change(inference: Inference) -> None:
    inference.update(Update(1, {"mix": 4}, lane=1))  # is tried
    inference.lanes[1].hear(StreamBegin(1, "next", 2, {"mix": 4}))
    inference.begin_stream(inference.lanes[1])
    assert inference.told.changes == []


@pytest.mark.parametrize("of", [{}, {"lane": 1, "epoch": 2}], ids=["of all streams", "of its own"])
def test_a_change_that_overtakes_the_beginning_of_its_stream_is_told_then(
    inference: Inference, of: dict[str, int]
) -> None:
    lane = inference.lanes[1]
    lane.hear(StreamBegin(1, "next", 2, {"mix": 4}))
    inference.update(Update(1, {"strength": 5}, **of))
    inference.told.changes.clear()
    inference.begin_stream(lane)
    assert inference.told.changes == [(2, {"strength": 5, "mix": 4}, None)]
    lane.hear(StreamBegin(1, "after", 3, {"mix": 2}))
    inference.begin_stream(lane)
    assert len(inference.told.changes) == 1
