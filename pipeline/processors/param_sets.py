"""The parameters of a processor that serves several streams: those of all, and over them what a stream has of its own.
The processor has one set at a time, and is given the other's before another stream's frame."""

from collections.abc import Callable, Set
from typing import Any

from pipeline.messages import UNASKED, Update
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import Described, Processor
from pipeline.worker import Worker
from pipeline.worker_lane import WorkerLane

SILENT_KINDS = ("trickle_app", "file")
"""Processors that cannot be asked for their parameters: one hands the question to the user's code, one has none."""

Params = dict[str, Any]


class ParamSets:
    def __init__(self, worker: Worker, processor: Processor, kind: str, told: Params) -> None:
        """`told` are those that a processor of this `kind` was made with."""
        self.before_change: Callable[[], None] = lambda: None
        """Is called before the processor is given another set: nothing may be under way then."""
        self._worker = worker
        self._processor = processor
        self._kind = kind
        self._of_all = self._ask(told)
        self._own: dict[int, tuple[int, Params]] = {}  # by lane: the stream's number, and what is its own
        self._sets: dict[int, Params] = {}  # and what that makes of those of all
        self._in_force = self._of_all
        self._known = self._of_all  # without those that a change which failed has left nobody knows how
        for lane in worker.lanes:
            self.begin(lane)

    def begin(self, lane: WorkerLane) -> None:
        """Another stream is on the lane, with parameters of its own, or none. What it was given since it was told of
        stays."""
        if self._own_of(lane, lane.epoch) is None:
            self._take(lane)

    def load_own(self) -> None:
        """Those of the stream that runs, if there is only one: its first frame shall not wait for a model. Raises
        ProcessorError."""
        if len(self._worker.lanes) > 1:
            return
        try:
            self._go_over_to(self.of(self._worker.lanes[0]))
        except ProcessorError:
            raise
        except Exception as error:  # Whatever the user's own code raises.
            raise ProcessorError(f"{type(error).__name__}: {error}") from error

    def follow(self, lane: WorkerLane) -> None:
        """Load what the lane's stream has before this process has its turn, which is always what the launcher says. One
        that cannot tells the launcher."""
        self._take(lane)
        try:
            self.load_own()
        except ProcessorError as error:
            self._worker.updated(Update(UNASKED, {}), None, str(error))

    def use(self, lane: WorkerLane) -> None:
        """The next frame is one of this lane's."""
        wanted = self.of(lane)
        if wanted is self._in_force:
            return
        try:
            self._go_over_to(wanted)
        except Exception as error:  # noqa: BLE001 - the user's own code, which has taken these before
            self._in_force = wanted  # It is not asked again with every frame.
            problem = f"{type(error).__name__}: {error}"
            self._worker.error("params_refused", stream=lane.stream, problem=problem)

    def of(self, lane: WorkerLane) -> Params:
        """All that are in force for the lane's stream."""
        return self._sets.get(lane.number, self._of_all)

    def change(self, params: Params) -> None:
        """Of all streams. May raise anything, with nothing changed."""
        self._change(Update(UNASKED, params))

    def apply(self, order: Update) -> Params | None:
        """Change parameters, and say what came of it. Returns what Updated says, None if they were refused."""
        try:
            params = self._change(order)
        except ProcessorError as error:
            self._worker.updated(order, None, str(error))
        except Exception as error:  # noqa: BLE001 - the user's own code; what it ran with before goes on
            self._worker.updated(order, None, f"{type(error).__name__}: {error}")
        else:
            self._worker.updated(order, params, parameters=self._described())
            return params
        return None

    def tell(self) -> None:
        """What is in force, to whoever shows it."""
        if (parameters := self._described()) is not None:
            self._worker.updated(Update(UNASKED, {}), self._in_force, parameters=parameters)

    def _ask(self, told: Params) -> Params:
        """All that are in force, where a stream may change some and they are to be gone back to."""
        if not self._worker.boot.on_request or self._kind in SILENT_KINDS:
            return told
        try:
            return self._processor.update({})
        except Exception:  # noqa: BLE001 - the user's own code; then what it was told is all that is known
            return told

    def _change(self, order: Update) -> Params:
        """Raises what the processor raises, with nothing changed."""
        lane, own = self._meant(order)
        if order.lane is not None:
            self._check(order.params)
        self._go_over_to(self._of_all | own)
        if order.params:
            self.before_change()
        params = self._processor.update(order.params)
        self._in_force = self._known = params
        if order.lane is None:
            self._of_all = params
            for number, (epoch, given) in list(self._own.items()):
                self._give(number, epoch, given)
            return params
        own = {name: value for name, value in params.items() if self._is_own(name, value, own.keys() | order.params)}
        if lane is not None:
            assert order.epoch is not None
            self._give(lane.number, order.epoch, own)
        return own

    def _meant(self, order: Update) -> tuple[WorkerLane | None, Params]:
        """Where the stream is whose parameters are to be changed, and what it has of its own: one that is only to come,
        and one that is over, are nowhere and have nothing."""
        lane = None if order.lane is None or order.epoch is None else self._worker.lane(order.lane)
        if lane is None or lane.newest_epoch != order.epoch:
            return None, {}
        own = self._own_of(lane, order.epoch)
        return lane, (lane.newest_params or {}) if own is None else own

    def _own_of(self, lane: WorkerLane, epoch: int) -> Params | None:
        """Of the lane's stream of this number; None: it was given nothing."""
        of, own = self._own.get(lane.number, (None, {}))
        return own if of == epoch else None

    def _is_own(self, name: str, value: Any, given: Set[str]) -> bool:
        """Whether this is the stream's own: what it was given, as the processor calls it, and what has come of that."""
        return name in given or name not in self._of_all or self._of_all[name] != value

    def _check(self, params: Params) -> None:
        """What one stream may have of its own, so that the others, and the next one, can be given theirs again. Raises
        ProcessorError."""
        if self._kind == "callable" and (unknown := ", ".join(sorted(set(params) - set(self._of_all)))):
            known = ", ".join(self._of_all) or "none"
            raise ProcessorError(
                f"{unknown}: not known what other streams have; parameters that it takes: {known}, and what the "
                "topology's params name"
            )
        if not self._worker.boot.of_several:
            return
        if getattr(self._processor, "is_made_anew", False):
            raise ProcessorError(
                "is made anew for each change, and several streams would have it made for each frame: give it a method "
                "update(...), or change it for all streams while none runs"
            )
        if self._kind == "comfyui":
            raise ProcessorError(
                "several streams would have another workflow taken for each frame; allowed: a replica for each stream, "
                "or the same workflow for all"
            )

    def _take(self, lane: WorkerLane) -> None:
        """What the launcher says that the lane's stream has of its own."""
        if lane.params:
            self._give(lane.number, lane.epoch, lane.params)
        else:
            self._own.pop(lane.number, None)
            self._sets.pop(lane.number, None)

    def _give(self, lane: int, epoch: int, own: Params) -> None:
        self._own[lane] = epoch, own
        self._sets[lane] = self._of_all | own

    def _go_over_to(self, wanted: Params) -> None:
        """Raises what the processor raises; what is in force then of that which was changed nobody knows."""
        before = self._known
        changed = {name: value for name, value in wanted.items() if name not in before or before[name] != value}
        if changed:
            self.before_change()
            self._known = {name: value for name, value in before.items() if name not in changed}
            self._processor.update(changed)
        self._in_force = self._known = wanted

    def _described(self) -> Any:
        return self._processor.parameters() if isinstance(self._processor, Described) else None
