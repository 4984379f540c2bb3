"""One processor, several streams: each frame meets the parameters of its own."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.boot import FrameFormat, LaneBoot, LinkBoot
from pipeline.messages import StreamBegin, Update
from pipeline.processors.errors import ProcessorError
from pipeline.processors.param_sets import ParamSets
from pipeline.worker_lane import WorkerLane

LINK = LinkBoot("raw", -1, 2, "block", FrameFormat(2, 2), -1, -1)


class Processor:
    """Has two parameters, and notes what it is told."""

    is_made_anew = False

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"strength": 1, "mix": 0}
        self.told: list[dict[str, Any]] = []

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(params) - set(self.params):
            raise ProcessorError(f"{unknown}: not known")
        if params:
            self.told.append(params)
        self.params = self.params | params
        return dict(self.params)


class Worker:
    """As far as the parameters are concerned."""

    def __init__(self, lanes: int) -> None:
        self.lanes = [WorkerLane(LaneBoot(number, f"s{number}", number, LINK, LINK, "")) for number in range(lanes)]
        self.answers: list[tuple[int, Any, str]] = []
        self.boot = SimpleNamespace(on_request=True, of_several=lanes > 1)

    def lane(self, number: int) -> WorkerLane:
        return self.lanes[number]

    def updated(self, order: Update, params: Any, problem: str = "", parameters: Any = None) -> None:
        self.answers.append((order.number, params, problem))

    def error(self, name: str, **fields: object) -> None:
        raise AssertionError(name, fields)


@pytest.fixture
def worker() -> Worker:
    return Worker(2)


@pytest.fixture
def processor() -> Processor:
    return Processor()


@pytest.fixture
def sets(worker: Worker, processor: Processor) -> ParamSets:
    return ParamSets(worker, processor, "callable", {})


def of(processor: Processor, sets: ParamSets, lane: WorkerLane) -> tuple[int, int]:
    """What the lane's next frame meets."""
    sets.use(lane)
    return processor.params["strength"], processor.params["mix"]


def test_a_streams_own_parameters_are_its_alone(worker: Worker, processor: Processor, sets: ParamSets) -> None:
    first, second = worker.lanes
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=1))
    assert worker.answers == [(1, {"strength": 5, "mix": 0}, "")]
    assert [of(processor, sets, lane) for lane in (first, second, first)] == [(1, 0), (5, 0), (1, 0)]


def test_frames_of_the_same_parameters_cost_no_change(worker: Worker, processor: Processor, sets: ParamSets) -> None:
    for lane in worker.lanes * 3:
        sets.use(lane)
    assert processor.told == []


def test_what_is_changed_for_all_comes_below_what_a_stream_has_of_its_own(
    worker: Worker, processor: Processor, sets: ParamSets
) -> None:
    first, second = worker.lanes
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=1))
    sets.apply(Update(2, {"strength": 2, "mix": 9}))
    assert (of(processor, sets, first), of(processor, sets, second)) == ((2, 9), (5, 9))


def test_a_stream_is_changed_by_and_by(worker: Worker, processor: Processor, sets: ParamSets) -> None:
    for order in (Update(1, {"strength": 5}, lane=1, epoch=1), Update(2, {"mix": 3}, lane=1, epoch=1)):
        sets.apply(order)
    assert [of(processor, sets, lane) for lane in worker.lanes] == [(1, 0), (5, 3)]


def test_a_change_that_overtakes_the_beginning_of_its_stream_is_not_lost(
    worker: Worker, processor: Processor, sets: ParamSets
) -> None:
    lane = worker.lanes[1]
    lane.hear(StreamBegin(1, "next", 2, {"mix": 4}))
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=2))
    assert lane.take_up()
    sets.begin(lane)
    assert of(processor, sets, lane)[0] == 5


def test_what_nobody_could_take_back_is_no_streams_own(worker: Worker, processor: Processor, sets: ParamSets) -> None:
    processor.params["colour"] = "red"
    assert sets.apply(Update(1, {"colour": "blue"}, lane=1, epoch=1)) is None
    assert "colour: not known what other streams have" in worker.answers[0][2]
    processor.is_made_anew = True
    assert sets.apply(Update(2, {"strength": 5}, lane=1, epoch=1)) is None
    assert "update(...)" in worker.answers[1][2]


def test_nothing_is_under_way_when_the_processor_is_given_another_set(
    worker: Worker, processor: Processor, sets: ParamSets
) -> None:
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=1))
    told = len(processor.told)
    sets.before_change = lambda: processor.told.append({"settled": True})
    sets.use(worker.lanes[0])
    assert processor.told[told:] == [{"settled": True}, {"strength": 1}]


def test_a_processor_that_cannot_be_asked_goes_by_what_it_was_told(worker: Worker) -> None:
    class Strict(Processor):
        def update(self, params: dict[str, Any]) -> dict[str, Any]:
            if not params:
                raise TypeError("strength is missing")
            return super().update(params)

    sets = ParamSets(worker, Strict(), "callable", {"strength": 1})
    assert sets.of(worker.lanes[0]) == {"strength": 1}


def test_the_next_stream_on_the_lane_has_what_it_brings_or_that_of_all(
    worker: Worker, processor: Processor, sets: ParamSets
) -> None:
    lane = worker.lanes[1]
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=1))
    for epoch, own, met in ((2, None, (1, 0)), (3, {"strength": 7, "mix": 7}, (7, 7)), (4, None, (1, 0))):
        lane.hear(StreamBegin(1, "next", epoch, own))
        assert lane.take_up()
        sets.begin(lane)
        assert of(processor, sets, lane) == met


def test_what_is_tried_for_a_stream_to_come_changes_none_that_runs(
    worker: Worker, processor: Processor, sets: ParamSets
) -> None:
    sets.apply(Update(1, {"strength": 5}, lane=1))
    assert worker.answers == [(1, {"strength": 5, "mix": 0}, "")]
    assert [of(processor, sets, lane) for lane in worker.lanes] == [(1, 0), (1, 0)]


def test_a_change_for_a_stream_that_is_over_is_none_of_the_next(
    worker: Worker, processor: Processor, sets: ParamSets
) -> None:
    lane = worker.lanes[1]
    lane.hear(StreamBegin(1, "next", 2))
    assert lane.take_up()
    sets.begin(lane)
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=1))
    assert of(processor, sets, lane) == (1, 0)


def test_a_refusal_changes_nothing(worker: Worker, processor: Processor, sets: ParamSets) -> None:
    sets.apply(Update(1, {"strength": 5}, lane=1, epoch=1))
    assert sets.apply(Update(2, {"hue": 1}, lane=0, epoch=0)) is None
    assert worker.answers[-1][:2] == (2, None)
    assert [of(processor, sets, lane) for lane in worker.lanes] == [(1, 0), (5, 0)]


def test_a_process_that_waited_for_its_turn_begins_with_the_newest(worker: Worker, processor: Processor) -> None:
    lane = worker.lanes[0]
    lane.hear(StreamBegin(0, "s0", 0, {"strength": 8, "mix": 0}))
    assert not lane.take_up(), "it is the stream that it was born with"
    sets = ParamSets(worker, processor, "callable", {})
    assert of(processor, sets, lane) == (8, 0)
