"""The parameters of a processor that serves several streams: those of all, and a stream's own in their place. The
processor has one set at a time, and is given the other's before another stream's frame."""

from typing import Any

from pipeline.messages import Update
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import Described, Processor
from pipeline.worker import Worker
from pipeline.worker_lane import WorkerLane

SILENT_KINDS = ("trickle_app", "file")
"""Processors that cannot be asked for their parameters: one hands the question to the user's code, one has none."""

Params = dict[str, Any]


class ParamSets:
    def __init__(self, worker: Worker, processor: Processor, kind: str, told: Params) -> None:
        """`told` are those that a processor of this `kind` was made with, `of_all`."""
        self._worker = worker
        self._processor = processor
        self._of_all = told if kind in SILENT_KINDS else processor.update({})
        self._own: dict[int, Params] = {}
        self._in_force = self._of_all
        for lane in worker.lanes:
            self.begin(lane)

    def begin(self, lane: WorkerLane) -> None:
        """Another stream is on the lane, with its own parameters, or none."""
        if lane.params is None:
            self._own.pop(lane.number, None)
        else:
            self._own[lane.number] = lane.params

    def use(self, lane: WorkerLane) -> None:
        """The next frame is one of this lane's."""
        wanted = self.of(lane)
        if wanted is not self._in_force:
            self._go_over_to(wanted)

    def of(self, lane: WorkerLane) -> Params:
        """All that are in force for the lane's stream."""
        return self._own.get(lane.number, self._of_all)

    def change(self, params: Params) -> None:
        """Of all streams. May raise anything, with nothing changed."""
        self._change(Update(0, params))

    def apply(self, order: Update) -> Params | None:
        """Change parameters, and say what came of it. Returns all that are in force, None if they were refused."""
        try:
            params = self._change(order)
        except ProcessorError as error:
            self._worker.updated(order, None, str(error))
        except Exception as error:  # noqa: BLE001 - the user's own code; what it ran with before goes on
            self._worker.updated(order, None, f"{type(error).__name__}: {error}")
        else:
            parameters = self._processor.parameters() if isinstance(self._processor, Described) else None
            self._worker.updated(order, params, parameters=parameters)
            return params
        return None

    def _change(self, order: Update) -> Params:
        lane = None if order.lane is None or order.epoch is None else order.lane
        before = self._of_all if lane is None else self._own.get(lane, self._of_all)
        if before is not self._in_force:
            self._go_over_to(before)
        params = self._processor.update(order.params)
        self._in_force = params
        if order.lane is None:
            self._of_all = params
        elif lane is not None and self._worker.lanes[lane].epoch == order.epoch:
            self._own[lane] = params
        return params

    def _go_over_to(self, wanted: Params) -> None:
        before = self._in_force
        changed = {name: value for name, value in wanted.items() if name not in before or before[name] != value}
        self._in_force = wanted
        if not changed:
            return
        try:
            self._processor.update(changed)
        except Exception as error:  # noqa: BLE001 - the user's own code, which has taken these before
            self._worker.error("params_refused", problem=f"{type(error).__name__}: {error}")
