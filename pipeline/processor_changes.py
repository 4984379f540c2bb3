"""Changes while frames flow, of a processor's parameters and of the size that decode makes pictures: who asked, what
came of it, and what processes that come later are told. The processor itself decides what it takes; see
`processors/protocol.py`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from pipeline.keeper import UNASKED, Announce, Keeper
from pipeline.messages import Answer, Update, Updated, UpdateRequest
from pipeline.supervised_stage import Life, SupervisedStage
from pipeline.switchboard import Switchboard
from pipeline.topology import Decode, Inference
from pipeline.topology_sections import Frame
from pipeline.wiring import Wiring

SHOWN_CHARACTERS = 200
"""Of the parameters, in events and answers."""


Tell = Callable[[str, dict[str, Any]], None]
"""Is called with the problem, empty when there is none, and with all parameters that are in force if there is none."""


class _Asked(NamedTuple):
    tell: Tell
    stage: SupervisedStage
    life: Life
    params: dict[str, Any]
    changes: bool


class ProcessorChanges:
    def __init__(self, wiring: Wiring, keeper: Keeper, switchboard: Switchboard, announce: Announce) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._switchboard = switchboard
        self._announce = announce
        self._asked: dict[int, _Asked] = {}
        self._number = UNASKED

    def ask(self, sender: bytes, request: UpdateRequest) -> None:
        """Hand the wish to the process at work. Whoever asked is answered when that has answered, or has died."""
        stage = self._keeper.stages.get(request.stage)
        kind = type(self._wiring.topology.stages.get(request.stage))
        if stage is None or kind not in (Inference, Decode):
            names = ", ".join(each.name for of in (Decode, Inference) for each in self._keeper.of_kind(of))
            self._answer(sender, False, f"{request.stage!r} has nothing that can be changed; allowed: {names}")
        elif kind is Decode:
            self._resize(sender, stage, request)
        elif stage.active is None or stage.active.stands_in or stage.renewing:
            doing = "is being renewed" if stage.renewing else f"is {stage.state}: no processor is at work"
            self._answer(sender, False, f"{stage.name} {doing}; try again")
        elif request.renew:
            self._renew(sender, stage, request.params)
        else:
            self.change(stage, stage.active, request.params, self._answering(sender, stage, request.params))

    def change(self, stage: SupervisedStage, life: Life, params: dict[str, Any], tell: Tell) -> None:
        """Have the process at work change these parameters, and `tell` what came of it when it has, or has died."""
        self._ask(_Asked(tell, stage, life, params, changes=True))

    def inquire(self, stage: SupervisedStage, life: Life, tell: Tell) -> None:
        """Ask the process at work for all parameters that are in force."""
        self._ask(_Asked(tell, stage, life, {}, changes=False))

    def go_back(self, stage: SupervisedStage, params: dict[str, Any]) -> None:
        """From now on `params` are in force again, which were before, for all processes that there are and will be."""
        now = self._wiring.params(stage.name)
        changed = {name: value for name, value in params.items() if name not in now or now[name] != value}
        self._wiring.change_params(stage.name, params)
        for life in stage.mains:
            if life.ready and changed:
                self._switchboard.send(life.process.boot.identity, Update(UNASKED, changed))

    def _ask(self, asked: _Asked) -> None:
        self._number += 1
        self._asked[self._number] = asked
        self._switchboard.send(asked.life.process.boot.identity, Update(self._number, asked.params))

    def heard(self, message: Updated) -> None:
        """A processor has taken, or refused, new parameters."""
        self._note_description(message)
        asked = self._asked.pop(message.number, None)
        if asked is None:
            self._heard_unasked(message)
        elif message.params is None:
            if asked.changes:
                shown = _shown(asked.params)
                self._announce("warning", message.stage, "update_refused", params=shown, problem=message.problem)
            asked.tell(message.problem, {})
        elif not asked.changes:
            asked.tell("", message.params)
        else:
            self._remember(message.stage, message.params)
            for life in asked.stage.mains:
                if life is not asked.life and life.ready:
                    self._switchboard.send(life.process.boot.identity, Update(UNASKED, message.params))
            self._announce("info", message.stage, "updated", params=_shown(asked.params))
            asked.tell("", message.params)

    def _note_description(self, message: Updated) -> None:
        stage = self._keeper.stages.get(message.stage)
        life = stage.life(message.incarnation) if stage else None
        if life is not None and message.parameters is not None:
            life.parameters = message.parameters

    def _resize(self, sender: bytes, stage: SupervisedStage, request: UpdateRequest) -> None:
        """Pictures of another size from the next one on, which the slots must hold."""
        try:
            frame = self._wiring.frame_after(request.params)
        except ValueError as error:
            self._answer(sender, False, f"{stage.name}: {error}")
            return
        if request.renew or stage.active is None or not stage.active.ready:
            problem = "renew is for a processor" if request.renew else f"is {stage.state}; try again"
            self._answer(sender, False, f"{stage.name}: {problem}")
            return
        self.change(stage, stage.active, msgspec.to_builtins(frame), self._answering(sender, stage, request.params))

    def _answering(self, sender: bytes, stage: SupervisedStage, params: dict[str, Any]) -> Tell:
        def tell(problem: str, _params: dict[str, Any]) -> None:
            self._answer(sender, not problem, f"{stage.name}: {problem or f'changed {_shown(params)}'}")

        return tell

    def _remember(self, stage: str, params: dict[str, Any]) -> None:
        if isinstance(self._wiring.topology.stages[stage], Decode):
            self._wiring.change_frame(msgspec.convert(params, Frame))
        else:
            self._wiring.change_params(stage, params)

    def _renew(self, sender: bytes, stage: SupervisedStage, params: dict[str, Any]) -> None:
        """Blue-green: what has to load models must not hold the stream up."""
        before = self._wiring.topology
        shown = _shown(params)
        self._wiring.change_params(stage.name, params)

        def tell(problem: str) -> None:
            if problem:
                self._wiring.keep_stage(stage.name, before)
                self._answer(sender, False, f"{stage.name}: {problem}")
            else:
                self._announce("info", stage.name, "updated", params=shown)
                self._answer(sender, True, f"{stage.name}: changed to {shown}")

        self._keeper.renew(stage, tell)

    def see_to_the_dead(self) -> None:
        """Answer those whose processor died over their wish. The next one starts with what was in force before."""
        for number, asked in list(self._asked.items()):
            if asked.life not in asked.stage.lives:
                del self._asked[number]
                asked.tell("died over this change; it was not made", {})

    def give_up(self) -> None:
        """Answer everybody who still waits: the pipeline is at its end."""
        waiting = list(self._asked.values())
        self._asked.clear()
        for asked in waiting:
            asked.tell("the pipeline is at its end", {})

    def _heard_unasked(self, message: Updated) -> None:
        """One that waits for its turn could not follow: it must not take over with other parameters."""
        stage = self._keeper.stages.get(message.stage)
        life = stage.life(message.incarnation) if stage else None
        if stage is not None and life is not None and message.params is None:
            self._announce("error", message.stage, "spare_could_not_follow", problem=message.problem)
            self._keeper.replace(life)

    def _answer(self, sender: bytes, ok: bool, text: str) -> None:
        self._switchboard.send(sender, Answer(ok, text))


def _shown(params: dict[str, Any]) -> str:
    text = msgspec.json.encode(params).decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
