"""The pipeline that is measured, run as a user runs it, `launcher.py run FILE`, and asked over its control socket."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from pipeline.bench.benched import INPUT, OUTPUT, Benched
from pipeline.control import ControlLine, EventStream, LauncherSilent
from pipeline.import_path import ROOT
from pipeline.parent_death import die_with
from pipeline.run_dir import NotRunning, control_endpoint
from pipeline.status import StageStatus, Status, StreamSpec

LOOK_S = 0.05
"""Between two looks at what nobody tells of."""

QUESTIONS = 10
"""So often a launcher that does not answer is asked."""

SETTLED_S = 0.3
"""No frame has moved for so long: nothing is under way any more."""

MAX_BACKLOG_S = 30.0
STOP_S = 60.0
LOG_LINES = 20

TAKES_OVER = {"inference": "active"}
"""The event that says that a successor has the links, by worker: inference processes take turns, the others have theirs
as soon as they are `ready`."""


Answered = TypeVar("Answered")


class NodeFailed(Exception):
    """The pipeline did not start, stay, or do what was asked. The text is one line, or the end of its log."""


class NotInTime(NodeFailed):
    """What was waited for did not come."""


class StreamRefused(NodeFailed):
    """The pipeline takes no more streams, or the one that it took did not come. The text is what it says."""


class Heard(msgspec.Struct, frozen=True):
    """A supervision event at CLOCK_MONOTONIC seconds. `stands_in`: it is one that passes frames through."""

    at: float
    stage: str
    name: str
    stands_in: bool = False


class Line(msgspec.Struct, frozen=True):
    """The two channels of one stream, as URLs; `stream` is its id, empty where the topology has a source of its own."""

    stream: str
    source: str
    output: str


class Node:
    """A context manager: inside, every stage is at work; after it, nothing is left."""

    def __init__(self, benched: Benched, folder: Path) -> None:
        self.benched = benched
        self.events: list[Heard] = []
        self.lines: list[Line] = []
        """The streams that run."""
        self._file, self._log = folder / f"{benched.name}.yaml", folder / f"{benched.name}.log"
        self._file.write_text(benched.text)
        self._begun = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            log = stack.enter_context(self._log.open("wb"))
            self._launcher = subprocess.Popen(
                [sys.executable, str(ROOT / "launcher.py"), "run", str(self._file)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), "launcher"),
            )
            stack.callback(self._end)
            self.wait_until(self._is_up, self.benched.ready_s)
            self._endpoint = control_endpoint(self.benched.name)
            self._control = ControlLine(self._endpoint)
            stack.callback(self._hang_up)
            self._events = stack.enter_context(EventStream(self._endpoint))
            self.wait_until(self._is_ready, self.benched.ready_s)
            self._relay = self._relay_url()
            if not self.benched.on_request:
                self.lines = [Line("", f"{self._relay}/{INPUT}", f"{self._relay}/{OUTPUT}")]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        return self._launcher.pid

    def status(self) -> Status:
        """Raises LauncherSilent, NodeFailed."""
        return self._ask(lambda control: control.status())

    def start_stream(self) -> Line:
        """One more stream on request. Raises StreamRefused."""
        self._begun += 1
        stream = f"bench-{self._begun}"
        channels = f"{INPUT}-{self._begun}", f"{OUTPUT}-{self._begun}"
        spec = StreamSpec(stream, *channels)
        answer = self._ask(lambda control: control.start_stream(spec))
        if not answer.ok:
            raise StreamRefused(f"stream {stream}: {answer.text}")
        try:
            self.wait_until(lambda: self._has_stages(stream), self.benched.ready_s)
        except NotInTime:
            self._ask(lambda control: control.stop_stream(stream))
            raise StreamRefused(f"stream {stream}: not there within {self.benched.ready_s:g} s") from None
        line = Line(stream, *(f"{self._relay}/{channel}" for channel in channels))
        self.lines.append(line)
        return line

    def stop_stream(self, line: Line) -> None:
        self._ask(lambda control: control.stop_stream(line.stream))
        self.lines.remove(line)

    def settle(self) -> None:
        """Wait until nothing is under way any more, a backlog that an overload has left included."""
        deadline = time.monotonic() + MAX_BACKLOG_S
        before, since = -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < SETTLED_S:
            status = self.status()
            moved = sum(stage.units_in + stage.units_out + stage.bytes_in for stage in status.stages)
            if moved != before or status.frames.in_flight:
                before, since = moved, time.monotonic()
            self.hear(LOOK_S)

    def is_at_work(self, worker: str) -> bool:
        """Whether there is a process of this worker to kill."""
        return self._at_work(worker) is not None

    def kill(self, worker: str) -> tuple[str, float] | None:
        """SIGKILL to the process at work of the first stage with this worker: its name, and when that was
        (CLOCK_MONOTONIC seconds); None if there is no such process, one that stands in aside."""
        stage = self._at_work(worker)
        if stage is None or stage.pid is None:
            return None
        at = time.monotonic()
        os.kill(stage.pid, signal.SIGKILL)
        return stage.stage, at

    def _at_work(self, worker: str) -> StageStatus | None:
        stages = (stage for stage in self.status().stages if stage.worker == worker and stage.pid is not None)
        return next((stage for stage in stages if stage.state == "READY"), None)

    def taken_over(self, stage: str, worker: str, after: float) -> float | None:
        """When a successor of the stage's process had the links; None: not yet, as far as was heard."""
        wanted = stage, TAKES_OVER.get(worker, "ready")
        successors = (each for each in self.events if (each.stage, each.name) == wanted and not each.stands_in)
        return next((each.at for each in successors if each.at >= after), None)

    def hear(self, seconds: float) -> None:
        """Take in events for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if event := self._events.next(left):
                at, stands_in = event.time + time.monotonic() - time.time(), bool(event.fields.get("role"))
                self.events.append(Heard(at, event.stage, event.name, stands_in))

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Raises NotInTime when it takes longer, NodeFailed when the pipeline ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise NotInTime(f"the pipeline was not there within {seconds:g} s:\n{self._log_end()}")
            if hasattr(self, "_events"):
                self.hear(LOOK_S)
            else:
                time.sleep(LOOK_S)  # There is nobody to listen to yet.

    def check(self) -> None:
        """Raises NodeFailed when the pipeline has ended."""
        if self._launcher.poll() is not None:
            raise NodeFailed(f"the pipeline ended with exit code {self._launcher.returncode}:\n{self._log_end()}")

    def _ask(self, ask: Callable[[ControlLine], Answered]) -> Answered:
        """Asks again where a busy machine lets the launcher be silent, which does no harm: a stream that is there is
        not begun a second time. Raises LauncherSilent, NodeFailed."""
        for _ in range(QUESTIONS - 1):
            try:
                return ask(self._control)
            except LauncherSilent:
                self.check()
                self._hang_up()
                self._control = ControlLine(self._endpoint)  # A late answer is not taken for that of the next question.
        return ask(self._control)

    def _hang_up(self) -> None:
        self._control.__exit__(None, None, None)

    def _is_up(self) -> bool:
        try:
            control_endpoint(self.benched.name)
        except NotRunning:
            return False
        return True

    def _is_ready(self) -> bool:
        return all(stage.state in ("READY", "IDLE") for stage in self.status().stages)

    def _has_stages(self, stream: str) -> bool:
        status = self.status()
        for found in status.streams:
            if found.spec.stream == stream and found.state == "FAILED":
                raise StreamRefused(f"stream {stream}: {found.reason}")
        ready = [stage for stage in status.stages if stage.worker == "egress" and stage.state == "READY"]
        return len(ready) > len(self.lines)

    def _relay_url(self) -> str:
        found = re.search(r"ready stage=relay .*?detail=\"?(http://[^\s\"]+)", self._log.read_text(errors="replace"))
        if found is None:
            raise NodeFailed(f"the relay is not there:\n{self._log_end()}")
        return found[1]

    def _log_end(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def _end(self) -> None:
        """Without draining, which the second signal says; its workers die with it, however it ends."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._launcher.send_signal(number)
        try:
            self._launcher.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._launcher.kill()
            self._launcher.wait()
