"""A whole benchmark of one topology: warm it up, find what one stream holds and how many hold at once, take the figures
at a steady load, kill its stages. Whatever was found is kept, also when it is interrupted."""

import contextlib
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, Self

import msgspec

from pipeline.api.hardware import gpu_stats
from pipeline.bench.benched import Benched
from pipeline.bench.helper_process import HelperDied, HelperProcess
from pipeline.bench.machine import describe_machine, idle_problem
from pipeline.bench.node import Line, Node, NodeFailed, NotInTime, StreamRefused
from pipeline.bench.recovery import Kill, recovery
from pipeline.bench.report import VERSION, Limit, Recovery, Report, Settings, Step
from pipeline.bench.search import find_count, find_limit
from pipeline.bench.step import Asked, Look, figures, look, nearly_held
from pipeline.bench.words import READY, End, Play, Played, Prepare, Stop, Tell, Unwatch, Watch, Watched
from pipeline.control import LauncherSilent

WARM_UP_S = 1.5
"""Of every step, before what is measured; the last of several streams begins within it."""

FIRST_PICTURE_FPS = 10.0
ARRIVING_S = 1.0
"""What has not arrived so long after the last picture was sent has not arrived."""

ENCODE_S_A_PICTURE = 0.5
"""More than the slowest machine takes for a picture of the clip."""

REFINEMENT = 1.12
"""The first step away from a limit that is searched for again."""

SHARE_FOR_KILLS = 0.5
"""Of the highest rate; kills are at the reference rate, or so much of what there is."""

BEFORE_KILL_S, AFTER_KILL_S = 1.0, 1.0
GPU_LOOK_S = 0.5

SPINE = ("ingress", "decode", "inference", "egress")


DID_NOT_LAST = (NodeFailed, HelperDied, LauncherSilent)
"""What a run ends with when pipeline, source or viewer do."""


class Progress(Protocol):
    """Who shows how far it is."""

    def phase(self, title: str) -> None: ...
    def begin(self, what: str, seconds: float) -> None: ...
    def done(self, what: str, text: str) -> None: ...


class Bench:
    """A context manager: inside, pipeline, source and viewer run. `report` is what was found so far."""

    def __init__(self, benched: Benched, settings: Settings, folder: Path, progress: Progress) -> None:
        self._benched, self._settings = benched, settings
        self.progress = progress
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._machine = describe_machine()
        self._warnings = [problem] if (problem := idle_problem()) else []
        self.node = Node(benched, folder)
        self._limits: list[Limit] = []
        self._steps: list[Step] = []
        self._recoveries: list[Recovery] = []
        self._most_streams: int | None = None
        self._watched: list[Line] = []
        self._stack = ExitStack()

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.progress.phase("starting the pipeline")
            self.node = stack.enter_context(self.node)
            self.source = stack.enter_context(HelperProcess(sys.executable, "pipeline.bench.source"))
            self.viewer = stack.enter_context(HelperProcess(sys.executable, "pipeline.bench.viewer"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def report(self, *, interrupted: bool = False, problem: str = "") -> Report:
        return Report(
            version=VERSION,
            began=self._began,
            interrupted=interrupted,
            problem=problem,
            machine=self._machine,
            settings=self._settings,
            warnings=self._warnings,
            limits=self._limits,
            steps=self._steps,
            most_streams=self._most_streams,
            streams_allowed=self._benched.most_streams,
            recoveries=self._recoveries,
        )

    def run(self) -> None:
        """Everything. Raises one of DID_NOT_LAST."""
        self.warm_up()
        for number in range(self._settings.repeats):
            self.find_limit(number)
        self._take_reference()
        self.find_streams()
        for worker in SPINE if self._settings.kills else ():
            self._kill(worker)

    def warm_up(self) -> None:
        """Until the first picture is through: a processor may load or compile then."""
        self.progress.begin("the first picture", self._benched.ready_s)
        self.want_streams(1)
        self.prepare(FIRST_PICTURE_FPS)
        before = self.node.status().frames.delivered
        self.source.send(Play(self.urls(), float("inf")))
        try:
            self.node.wait_until(lambda: self.node.status().frames.delivered > before, self._benched.ready_s)
        finally:
            self._stop_source()
        self.node.settle()
        self._tell()
        self.progress.done("the first picture", "is through")

    def find_limit(self, number: int) -> None:
        """Of one stream, for the `number`-th time: those after the first begin near what was found."""
        settings = self._settings
        self.progress.phase(f"the highest rate of one stream, {number + 1} of {settings.repeats}")
        known = next((limit.sustained for limit in self._limits if limit.sustained), None)
        start, factor = (known, REFINEMENT) if known else (min(settings.reference_fps, settings.max_fps), 2.0)
        self._limits.append(
            find_limit(lambda fps: self._sustains("search", 1, fps), start, settings.max_fps, factor=factor)
        )

    def look_at(self, fps: float) -> None:
        """One more step of one stream, at this rate."""
        self._step("search", 1, fps)

    def find_streams(self) -> None:
        """How many hold at once at the reference rate; of a topology that has only one, whether that did."""
        most = self._benched.most_streams
        if most == 1:
            held = any(step.sustained for step in self._steps if step.fps >= self._settings.reference_fps)
            self._most_streams = int(held)
            return
        self.progress.phase(f"how many streams at {self._settings.reference_fps:g} fps")
        fps = self._settings.reference_fps
        self._most_streams = find_count(lambda count: self._hold_at_once(count, fps), most)
        self.want_streams(1)

    def _sustains(self, purpose: str, streams: int, fps: float) -> bool:
        """A step that failed by little is tried again: a limit fails twice, an accident does not."""
        first = self._step(purpose, streams, fps)
        if first.sustained or not nearly_held(first, self._settings.latency_ms):
            return first.sustained
        return self._step(purpose, streams, fps).sustained

    def _take_reference(self) -> None:
        """The figures that two runs are compared by are of a rate that does not depend on what was found."""
        fps = self._settings.reference_fps
        if not any(limit.sustained >= fps for limit in self._limits):
            return
        self.progress.phase(f"latency and cost at {fps:g} fps")
        for _ in range(self._settings.repeats):
            self._step("reference", 1, fps)

    def _hold_at_once(self, count: int, fps: float) -> bool:
        """What the pipeline itself does not admit, or cannot start, does not hold."""
        try:
            holds = self._sustains("streams", count, fps)
        except StreamRefused as refusal:
            self.progress.done(f"{count} x {fps:g} fps", f"refused: {refusal}")
            return False
        if holds:
            self._most_streams = max(count, self._most_streams or 0)
        return holds

    def _step(self, purpose: str, streams: int, fps: float) -> Step:
        what = f"{streams} x {fps:g} fps" if streams > 1 or purpose == "streams" else f"{fps:g} fps"
        seconds = WARM_UP_S + self._settings.seconds
        self.want_streams(streams)
        self.prepare(fps)
        self.progress.begin(what, seconds + ARRIVING_S)
        lines = list(self.node.lines)
        self.source.send(Play([line.source for line in lines], seconds))
        began = time.monotonic()
        self.node.hear(WARM_UP_S)
        before = self._look()
        cards = self._watch_cards(began + seconds)
        after = self._look()
        played = dict(zip((line.source for line in lines), self.source.answer(), strict=True))
        self.node.hear(ARRIVING_S)
        problems = self._new_deaths(began)
        watched = self._tell()
        pairs = [(played[line.source], watched[line.output]) for line in lines]
        asked = Asked(purpose, streams, fps, self._settings.latency_ms, before.at, after.at)
        step = figures(asked, pairs, before, after, cards, problems)
        self._steps.append(step)
        self.node.check()
        self.node.settle()
        self.progress.done(what, _in_words(step))
        return step

    def _watch_cards(self, until: float) -> dict[str, float]:
        """The mean use of each graphics card up to then; takes in events meanwhile."""
        seen: dict[str, list[float]] = {}
        while (left := until - time.monotonic()) > 0:
            self.node.hear(min(left, GPU_LOOK_S))
            for index, card in gpu_stats().items():
                if card.utilization_compute is not None:
                    seen.setdefault(f"{index}: {card.name}", []).append(card.utilization_compute / 100)
        return {name: sum(values) / len(values) for name, values in seen.items()}

    def _kill(self, worker: str) -> None:
        best = max((limit.sustained for limit in self._limits), default=0.0)
        fps = min(self._settings.reference_fps, max(1.0, SHARE_FOR_KILLS * best))
        self.progress.phase(f"recovery of {worker} at {fps:g} fps")
        self.prepare(fps)
        for number in range(self._settings.kills):
            what = f"kill {number + 1} of {self._settings.kills}"
            self.progress.begin(what, BEFORE_KILL_S + AFTER_KILL_S)
            found = self._kill_once(worker, fps)
            self._recoveries.append(found)
            self.progress.done(what, found.problem or f"{found.new_ms:.0f} ms, {found.lost} pictures lost")

    def _kill_once(self, worker: str, fps: float) -> Recovery:
        self.source.send(Play(self.urls(), float("inf")))
        problem = ""
        self.node.hear(BEFORE_KILL_S)
        with contextlib.suppress(NotInTime):
            self.node.wait_until(lambda: self.node.is_at_work(worker), self._benched.ready_s)
        killed = self.node.kill(worker)
        if killed is None:
            self._stop_source()
            return Recovery(worker, fps, 0.0, 0.0, 0.0, 0, f"there was no process of {worker}")
        stage, at = killed
        try:
            self.node.wait_until(lambda: self.node.taken_over(stage, worker, at) is not None, self._benched.ready_s)
            self.node.hear(AFTER_KILL_S)
        except NodeFailed as failure:
            problem = str(failure).splitlines()[0]
        played = self._stop_source()
        self.node.hear(ARRIVING_S)
        watched = self._tell()
        line = self.node.lines[0]
        took_over = self.node.taken_over(stage, worker, at)
        self.node.check()
        self.node.settle()
        return recovery(Kill(worker, fps, at, took_over, problem), played[0], watched[line.output])

    def want_streams(self, count: int) -> None:
        """That so many run; each has its channel watched. Raises StreamRefused, and leaves those that came."""
        self._watch_all()
        while self._benched.on_request and len(self.node.lines) < count:
            self.node.start_stream()
            self._watch_all()
        while len(self.node.lines) > count:
            line = self.node.lines[-1]
            self._order(self.source, End(line.source))
            self.node.stop_stream(line)
            self._order(self.viewer, Unwatch(line.output))
            self._watched.remove(line)

    def _watch_all(self) -> None:
        for line in self.node.lines:
            if line not in self._watched:
                self._watched.append(line)
                self._order(self.viewer, Watch(line.output))

    def urls(self) -> list[str]:
        """The channels of the streams that run, as the source writes them."""
        return [line.source for line in self.node.lines]

    def prepare(self, fps: float) -> None:
        """Have the source ready for this rate."""
        clip = Prepare(self._settings.width, self._settings.height, fps)
        self._order(self.source, clip, 30 + 2 * fps * ENCODE_S_A_PICTURE)

    def _stop_source(self) -> list[Played]:
        self.source.send(Stop())
        return self.source.answer()  # type: ignore[no-any-return]

    def _tell(self) -> dict[str, Watched]:
        self.viewer.send(Tell())
        return self.viewer.answer(600)  # type: ignore[no-any-return]

    def _look(self) -> Look:
        return look(self.node.status(), self.node.pid, (self.source.pid, self.viewer.pid))

    def _new_deaths(self, since: float) -> list[str]:
        return [f"{event.stage} died" for event in self.node.events if event.at >= since and event.name == "died"]

    def _order(self, helper: HelperProcess, order: msgspec.Struct, seconds: float = 60.0) -> None:
        helper.send(order)
        assert helper.answer(seconds) == READY


def _in_words(step: Step) -> str:
    figures_text = f"p50 {step.p50_ms:.1f}, p95 {step.p95_ms:.1f} ms"
    return f"holds, {figures_text}" if step.sustained else f"does not hold: {'; '.join(step.failings)}"
