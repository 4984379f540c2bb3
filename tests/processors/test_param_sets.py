"""One processor, several streams: each frame meets the parameters of its own."""

from typing import Any

import pytest

from pipeline.messages import StreamBegin, Update
from pipeline.processors.errors import ProcessorError
from pipeline.processors.param_sets import ParamSets
from pipeline.worker_lane import WorkerLane
from tests.processors.lanes_alone import Worker


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
    assert worker.answers == [(1, {"strength": 5}, "")]
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
    assert of(processor, sets, lane) == (5, 4)
    assert worker.answers == [(1, {"strength": 5, "mix": 4}, "")]


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
    assert worker.answers == [(1, {"strength": 5}, "")]
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


def test_a_process_that_waits_for_its_turn_has_what_the_launcher_said_last(
    worker: Worker, processor: Processor
) -> None:
    lane = worker.lanes[0]
    sets = ParamSets(worker, processor, "callable", {})
    for own, met in (({"strength": 8}, (8, 0)), ({"strength": 8, "mix": 2}, (8, 2)), (None, (1, 0))):
        lane.hear(StreamBegin(0, "s0", 0, own))
        sets.follow(lane)
        assert of(processor, sets, lane) == met


def test_after_a_set_that_is_refused_nothing_of_it_is_taken_for_known(processor: Processor) -> None:
    class Tolerant(Worker):
        def error(self, name: str, **fields: object) -> None:
            self.answers.append((-1, name, ""))

    worker = Tolerant(3)
    sets = ParamSets(worker, processor, "callable", {})
    sets.apply(Update(1, {"strength": 5}, lane=0, epoch=0))
    sets.apply(Update(2, {"mix": 9}, lane=1, epoch=1))
    take = processor.update

    def half(params: dict[str, Any]) -> dict[str, Any]:
        """Takes what is refused for one stream in part."""
        take(params)
        if params.get("strength") == 5:
            raise RuntimeError("no more room")
        return dict(processor.params)

    processor.update = half  # type: ignore[method-assign]
    sets.use(worker.lanes[0])
    assert worker.answers[-1] == (-1, "params_refused", "")
    told = len(processor.told)
    assert of(processor, sets, worker.lanes[2]) == (1, 0)
    assert processor.told[told:] == [{"strength": 1, "mix": 0}], "those of which it is not known"


class Workflow(Processor):
    """Answers with one whole workflow, however it was changed, as ComfyUI's does."""

    def __init__(self) -> None:
        super().__init__()
        self.params = {"prompt": {"1": "topology"}}

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        prompt = dict(self.params["prompt"])
        if "prompts" in params:
            (prompt,) = params["prompts"]
        if "prompt" in params:
            prompt = params["prompt"]
        self.params = {"prompt": prompt | params.get("nodes", {})}
        return dict(self.params)


def test_a_stream_has_the_workflow_that_it_brings_and_the_next_one_the_topologys() -> None:
    worker, processor = Worker(1), Workflow()
    lane = worker.lanes[0]
    sets = ParamSets(worker, processor, "comfyui", {})
    sets.apply(Update(1, {"prompts": [{"1": "mine"}]}, lane=0))
    own = worker.answers[-1][1]
    assert own == {"prompt": {"1": "mine"}}, "in the processor's own words, so that any process can be given it"
    lane.hear(StreamBegin(0, "s", 1, own))
    assert lane.take_up()
    sets.begin(lane)
    sets.use(lane)
    assert processor.params == {"prompt": {"1": "mine"}}

    for number, nodes in enumerate(({"2": "a"}, {"3": "b"}), 2):
        sets.apply(Update(number, {"nodes": nodes}, lane=0, epoch=1))
    changed = {"prompt": {"1": "mine", "2": "a", "3": "b"}}
    assert (processor.params, worker.answers[-1][1]) == (changed, changed)

    lane.hear(StreamBegin(0, "t", 2))
    assert lane.take_up()
    sets.begin(lane)
    sets.use(lane)
    assert processor.params == {"prompt": {"1": "topology"}}


def test_a_workflow_is_not_exchanged_from_frame_to_frame() -> None:
    worker = Worker(2)
    sets = ParamSets(worker, Workflow(), "comfyui", {})
    assert sets.apply(Update(1, {"nodes": {"2": "a"}}, lane=1, epoch=1)) is None
    assert "a replica for each stream" in worker.answers[-1][2]


def test_what_nobody_could_take_back_is_no_streams_own_where_it_is_alone_either(processor: Processor) -> None:
    worker = Worker(1)
    sets = ParamSets(worker, processor, "callable", {})
    processor.params["colour"] = "red"
    assert sets.apply(Update(1, {"colour": "blue"}, lane=0)) is None
    assert processor.params["colour"] == "red"
