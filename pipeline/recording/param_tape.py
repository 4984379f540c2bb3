"""A processor's changes of parameters in recordings: told to whoever records, and made again where a recording that is
the source says so."""

import time
from typing import Any

from pipeline.messages import Update
from pipeline.processors.param_sets import ParamSets
from pipeline.recording.changes import RecordedChanges
from pipeline.recording.format import Change
from pipeline.worker import Worker
from pipeline.worker_lane import WorkerLane


class ParamTape:
    """One lane's."""

    def __init__(self, worker: Worker, lane: WorkerLane, params: ParamSets) -> None:
        """Raises RecordingError."""
        self._worker = worker
        self._lane = lane
        self._params = params
        self._changes = RecordedChanges(worker.boot.changes_from, "inference")
        self._owed = False  # the stream that is to begin was changed since it was told of

    def begin(self, after: int | None) -> None:
        """A process in the place of another: its parameters may be others than those of the one before it. `after` is
        the time of the last picture that was handed on."""
        if self._worker.boot.incarnation > 1:
            self._tell(self._params.of(self._lane), after)

    def begin_stream(self) -> None:
        """What the launcher said that it begins with is in the recording's header; what was changed since is not."""
        if self._owed:
            self._owed = False
            self._tell(self._params.of(self._lane), None)

    def are_due(self, pts: int) -> bool:
        """Whether there is something to be changed before the picture at `pts`. To be asked for each picture."""
        return self._changes.are_due(pts)

    def change_as_recorded(self, pts: int, after: int | None) -> None:
        for params in self._changes.due(pts):
            try:
                self._params.change(params)
            except Exception as error:  # noqa: BLE001 - the user's own code; what it ran with before goes on
                self._worker.error("recorded_change_refused", problem=f"{type(error).__name__}: {error}")
            else:
                self._tell(params, after)

    def was_changed(self, order: Update, after: int | None) -> None:
        """For all streams, or for one, behind the picture at `after`. What this one has of its own stays."""
        lane = self._lane
        if self._is_of(order, lane.epoch):
            in_force = self._params.of(lane)
            self._tell({name: in_force.get(name, value) for name, value in order.params.items()}, after)
        if lane.newest_epoch != lane.epoch and self._is_of(order, lane.newest_epoch):
            self._owed = True

    def _is_of(self, order: Update, epoch: int) -> bool:
        """Whether it has to do with the stream of this number. What is tried for one to come has with none."""
        return order.lane is None or (order.lane, order.epoch) == (self._lane.number, epoch)

    def _tell(self, params: dict[str, Any], after: int | None) -> None:
        """Whoever records, of what is in force behind the picture at `after`."""
        tap = self._worker.tap
        if tap.recording and params:
            tap.send(Change("inference", params, after, time.monotonic_ns()), self._lane.epoch)
