"""Changes while frames flow, of a processor's parameters and of the size that decode makes pictures: who asked, what
came of it, and what processes that come later are told. The processor itself decides what it takes; see
`processors/protocol.py`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from pipeline.keeper import Announce, Keeper
from pipeline.lane import Lane
from pipeline.messages import UNASKED, Answer, Update, Updated, UpdateRequest
from pipeline.stream_requests import json_problem
from pipeline.supervised_stage import FAILED, Life, SupervisedStage
from pipeline.switchboard import Switchboard
from pipeline.topology import Decode, Inference, Topology
from pipeline.topology_sections import Frame
from pipeline.wiring import Wiring

SHOWN_CHARACTERS = 200
"""Of the parameters, in events and answers."""

DIED = "died over this change; it was not made"

Params = dict[str, Any]

Tell = Callable[[str, Params], None]
"""Is called with the problem, empty when there is none, and with the parameters that Updated tells if there is none."""


class _Asked(NamedTuple):
    stream: str
    """Of which it is; empty: of all."""
    tell: Tell
    life: Life
    params: Params
    remember: Callable[[Params], None]
    """Takes what is in force now, for processes that come later."""


class ProcessorChanges:
    def __init__(self, wiring: Wiring, keeper: Keeper, switchboard: Switchboard, announce: Announce) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._switchboard = switchboard
        self._announce = announce
        self.renews = False
        """Whether replicas are being renewed, one after the other."""
        self._asked: dict[int, _Asked] = {}
        self._number = UNASKED

    def ask(self, sender: bytes, request: UpdateRequest, lanes: Sequence[Lane]) -> None:
        """Hand the wish to a process at work, of any replica where it is for inference. Whoever asked is answered
        when that has answered, or has died. `lanes` are those whose streams are meant; with none, all streams to come
        are."""
        replicas = self._keeper.of_kind(Inference)
        decode = next((each for each in self._keeper.of_kind(Decode) if each.name == request.stage), None)
        name = self._wiring.file_name(replicas[0].name)
        if problem := json_problem(request.params):
            self._answer(sender, False, f"{request.stage}: {problem}", "invalid")
        elif decode is not None:
            self._resize(sender, decode, request)
        elif request.stage not in (name, *(stage.name for stage in replicas)):
            names = ", ".join([*(each.name for each in self._keeper.of_kind(Decode)), name])
            self._answer(sender, False, f"{request.stage!r} has nothing that can be changed; allowed: {names}")
        elif request.renew:
            self._renew(sender, replicas, request.params)
        elif lanes:
            self._change_streams(sender, request.params, lanes)
        else:
            self._change(sender, replicas, request.params)

    def try_for(self, lane: Lane, stream: str, life: Life, params: Params, tell: Tell) -> None:
        """Ask the process at work whether it takes these parameters for this stream, which is to begin on the lane."""
        update = Update(self._next_number(), params, lane.number)
        self._ask(update, _Asked(stream, tell, life, params, lambda _: None))

    def heard(self, message: Updated) -> None:
        """A processor has taken, or refused, new parameters."""
        self._note_description(message)
        asked = self._asked.pop(message.number, None)
        if asked is None:
            self._heard_unasked(message)
        elif message.params is None:
            of = {"stream": asked.stream} if asked.stream else {}
            shown = _shown(asked.params)
            self._announce("warning", message.stage, "update_refused", **of, params=shown, problem=message.problem)
            asked.tell(message.problem, {})
        else:
            asked.remember(message.params)
            of = {"stream": asked.stream} if asked.stream else {}
            self._announce("info", message.stage, "updated", **of, params=_shown(asked.params))
            asked.tell("", message.params)

    def _note_description(self, message: Updated) -> None:
        stage = self._keeper.stages.get(message.stage)
        life = stage.life(message.incarnation) if stage else None
        if life is not None and message.parameters is not None:
            life.parameters = message.parameters

    def see_to_the_dead(self) -> None:
        """Answer those whose processor died over their wish. The next one starts with what was in force before."""
        alive = [life for stage in self._keeper.stages.values() for life in stage.lives]
        for number, asked in list(self._asked.items()):
            if asked.life not in alive:
                del self._asked[number]
                asked.tell(DIED, {})

    def give_up(self) -> None:
        """Answer everybody who still waits: the pipeline is at its end."""
        waiting = list(self._asked.values())
        self._asked.clear()
        for asked in waiting:
            asked.tell("the pipeline is at its end", {})

    def _change(self, sender: bytes, replicas: Sequence[SupervisedStage], params: Params) -> None:
        """For all streams: one replica is asked, and the others follow what it takes."""
        asked = next((stage for stage in replicas if not _not_at_work(stage)), replicas[0])
        if problem := self._renewed_now(replicas) or _not_at_work(asked):
            self._answer(sender, False, problem, "loading")
            return
        assert asked.active is not None
        life = asked.active
        tell = self._answering(sender, asked, params)
        remember = functools.partial(self._remember, replicas, life, params)
        self._ask(Update(self._next_number(), params), _Asked("", tell, life, params, remember))

    def _change_streams(self, sender: bytes, params: Params, lanes: Sequence[Lane]) -> None:
        """For the streams on these lanes alone; each is asked for of the replica that serves it."""
        stages = [self._keeper.stages[lane.inference] for lane in lanes]
        if problem := next(filter(None, map(_not_at_work, stages)), ""):
            self._answer(sender, False, problem, "loading")
            return
        tell_all = _Together(len(lanes), self._answering(sender, stages[0], params))
        for lane, stage in zip(lanes, stages, strict=True):
            assert stage.active is not None
            update = Update(self._next_number(), params, lane.number, lane.epoch)
            remember = _of_stream(lane, functools.partial(self._tell_begin, stage))
            self._ask(update, _Asked(lane.begin.stream, tell_all, stage.active, params, remember))

    def _tell_begin(self, stage: SupervisedStage, lane: Lane) -> None:
        self._keeper.tell(stage, lane.begin)

    def _remember(self, replicas: Sequence[SupervisedStage], asked: Life, given: Params, params: Params) -> None:
        """What is in force for all; the other processes that there are follow what was `given`: the rest may be what
        the one that was asked has kept of a stream."""
        self._wiring.change_params(replicas[0].name, params)
        for other in (life for stage in replicas for life in stage.mains):
            if other is not asked and other.ready:
                self._switchboard.send(other.process.boot.identity, Update(UNASKED, given))

    def _resize(self, sender: bytes, stage: SupervisedStage, request: UpdateRequest) -> None:
        """Pictures of another size from the next one on, which the slots must hold."""
        try:
            frame = self._wiring.frame_after(stage.name, request.params)
        except ValueError as error:
            self._answer(sender, False, f"{stage.name}: {error}")
            return
        if request.renew:
            self._answer(sender, False, f"{stage.name}: renew is for a processor")
            return
        if stage.active is None or not stage.active.ready:
            self._answer(sender, False, f"{stage.name} is {stage.state}; try again", "loading")
            return
        params = msgspec.to_builtins(frame)
        tell = self._answering(sender, stage, request.params)

        def remember(params: Params) -> None:
            self._wiring.change_frame(stage.name, msgspec.convert(params, Frame))

        self._ask(Update(self._next_number(), params), _Asked("", tell, stage.active, params, remember))

    def renew(
        self, replicas: Sequence[SupervisedStage], before: Topology, tell: Callable[[SupervisedStage, str], None]
    ) -> None:
        """Blue-green, to what the topology says now: what has to load models must not hold the streams up. One replica
        after the other, so that no more than one model is loaded beside those at work; if the first cannot be renewed,
        none is, and the topology is as `before`. `tell` is called for each that was tried, with the problem, empty when
        it runs what is new."""
        left = list(replicas)
        self.renews = True

        def begin_next() -> None:
            stage = left.pop(0)

            def heard(problem: str) -> None:
                is_first = stage is replicas[0]
                if problem and (is_first or self._keeper.stopping):
                    left.clear()
                self.renews = bool(left)
                if problem and is_first:
                    self._go_back(replicas, before)
                tell(stage, problem)
                if self.renews:
                    begin_next()

            if _not_at_work(stage):
                heard("")  # Its next process is told what is new.
            else:
                self._keeper.renew(stage, heard)

        begin_next()

    def _go_back(self, replicas: Sequence[SupervisedStage], before: Topology) -> None:
        """To the topology of before; so do processes that were started meanwhile, and replicas that have failed."""
        self._wiring.keep_stage(replicas[0].name, before)
        if self._keeper.stopping:
            return
        for stage in self._keeper.of_kind(Inference):
            new = [life for life in stage.mains if life.process.boot.spec != self._wiring.spec(stage.name)]
            if stage is not replicas[0] and (stage.outcome == FAILED or (new and stage.active not in new)):
                self._keeper.restart(stage, spares_too=True)

    def _renew(self, sender: bytes, replicas: Sequence[SupervisedStage], params: Params) -> None:
        """Other parameters for a new process, loaded beside the one at work. Answered once the first replica has one;
        those that have failed are left out."""
        replicas = [stage for stage in replicas if stage.outcome != FAILED] or replicas
        if problem := self._renewed_now(replicas) or next(filter(None, map(_not_at_work, replicas)), ""):
            self._answer(sender, False, problem, "loading")
            return
        before, shown = self._wiring.topology, _shown(params)
        self._wiring.change_params(replicas[0].name, params)
        others = "; the other replicas follow, one after the other" if len(replicas) > 1 else ""

        def tell(stage: SupervisedStage, problem: str) -> None:
            if not problem:
                self._announce("info", stage.name, "updated", params=shown)
            if stage is replicas[0]:
                text = problem or f"changed to {shown}{others}"
                self._answer(sender, not problem, f"{stage.name}: {text}")

        self.renew(replicas, before, tell)

    def _renewed_now(self, replicas: Sequence[SupervisedStage]) -> str:
        """Why they are not to be changed while some run what is new and some what was before; empty when they are."""
        return f"{replicas[0].name} is being renewed; try again" if self.renews else ""

    def _ask(self, update: Update, asked: _Asked) -> None:
        self._asked[update.number] = asked
        self._switchboard.send(asked.life.process.boot.identity, update)

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _heard_unasked(self, message: Updated) -> None:
        """One could not follow what another one has taken. One that waits for its turn must not take over with other
        parameters; a replica at work goes on with those that it has, for the sake of its streams."""
        stage = self._keeper.stages.get(message.stage)
        life = stage.life(message.incarnation) if stage else None
        if stage is None or life is None or message.params is not None:
            return
        if life is stage.active:
            self._announce("error", message.stage, "replica_could_not_follow", problem=message.problem)
        else:
            self._announce("error", message.stage, "spare_could_not_follow", problem=message.problem)
            self._keeper.replace(life)

    def _answering(self, sender: bytes, stage: SupervisedStage, params: Params) -> Tell:
        def tell(problem: str, _params: Params) -> None:
            text = problem or f"changed {_shown(params)}"
            self._answer(sender, not problem, f"{stage.name}: {text}", "loading" if problem == DIED else "")

        return tell

    def _answer(self, sender: bytes, ok: bool, text: str, code: Literal["", "loading", "invalid"] = "") -> None:
        self._switchboard.send(sender, Answer(ok, text, code))


def _not_at_work(stage: SupervisedStage) -> str:
    """Why its processor cannot be asked just now; empty when it can."""
    if stage.active is not None and not stage.active.stands_in and not stage.renewing:
        return ""
    doing = "is being renewed" if stage.renewing else f"is {stage.state}: no processor is at work"
    return f"{stage.name} {doing}; try again"


class _Together:
    """Tells what came of several wishes once all are answered: the first problem, if there was one."""

    def __init__(self, count: int, tell: Tell) -> None:
        self._left = count
        self._tell = tell
        self._problem = ""

    def __call__(self, problem: str, params: Params) -> None:
        self._left -= 1
        self._problem = self._problem or problem
        if not self._left:
            self._tell(self._problem, params)


def _of_stream(lane: Lane, tell_others: Callable[[Lane], None]) -> Callable[[Params], None]:
    """Remembers parameters with the stream that is on the lane now, for processes that wait for their turn."""
    epoch = lane.epoch

    def remember(params: Params) -> None:
        if lane.epoch == epoch and lane.stream is not None:
            lane.params = params
            tell_others(lane)

    return remember


def _shown(params: Params) -> str:
    text = msgspec.json.encode(params).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
