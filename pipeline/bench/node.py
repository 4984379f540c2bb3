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
from typing import Self

import msgspec

from pipeline.bench.benched import INPUT, OUTPUT, Benched
from pipeline.control import ControlLine, EventStream, LauncherSilent
from pipeline.import_path import ROOT
from pipeline.parent_death import die_with
from pipeline.run_dir import NotRunning, control_endpoint
from pipeline.status import Status, StreamSpec

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


class NodeFailed(Exception):
    """The pipeline did not start, stay, or do what was asked. The text is one line, or the end of its log."""


class StreamRefused(NodeFailed):
    """The pipeline takes no more streams. The text is its answer."""


class Heard(msgspec.Struct, frozen=True):
    """A supervision event at CLOCK_MONOTONIC seconds."""

    at: float
    stage: str
    name: str


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
        """Asks again where a busy machine lets the launcher be silent. Raises LauncherSilent, NodeFailed."""
        for _ in range(QUESTIONS - 1):
            try:
                return self._control.status()
            except LauncherSilent:
                self.check()
                self._hang_up()
                self._control = ControlLine(self._endpoint)  # A late answer is not taken for that of the next question.
        return self._control.status()

    def start_stream(self) -> Line:
        """One more stream on request. Raises StreamRefused, NodeFailed when it does not come."""
        self._begun += 1
        stream = f"bench-{self._begun}"
        channels = f"{INPUT}-{self._begun}", f"{OUTPUT}-{self._begun}"
        answer = self._control.start_stream(StreamSpec(stream, *channels))
        if not answer.ok:
            raise StreamRefused(f"stream {stream}: {answer.text}")
        self.wait_until(lambda: self._has_stages(stream), self.benched.ready_s)
        line = Line(stream, *(f"{self._relay}/{channel}" for channel in channels))
        self.lines.append(line)
        return line

    def stop_stream(self, line: Line) -> None:
        self._control.stop_stream(line.stream)
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

    def kill(self, worker: str) -> tuple[str, float] | None:
        """SIGKILL to the active process of the first stage with this worker: its name, and when that was
        (CLOCK_MONOTONIC seconds); None if there is no such process."""
        for stage in self.status().stages:
            if stage.worker == worker and stage.pid is not None:
                at = time.monotonic()
                os.kill(stage.pid, signal.SIGKILL)
                return stage.stage, at
        return None

    def taken_over(self, stage: str, worker: str, after: float) -> float | None:
        """When a successor of the stage's process had the links; None: not yet, as far as was heard."""
        name = TAKES_OVER.get(worker, "ready")
        return next((e.at for e in self.events if e.at >= after and (e.stage, e.name) == (stage, name)), None)

    def hear(self, seconds: float) -> None:
        """Take in events for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if event := self._events.next(left):
                self.events.append(Heard(event.time + time.monotonic() - time.time(), event.stage, event.name))

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Raises NodeFailed when it takes longer, or the pipeline ends."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise NodeFailed(f"the pipeline was not there within {seconds:g} s:\n{self._log_end()}")
            if hasattr(self, "_events"):
                self.hear(LOOK_S)
            else:
                time.sleep(LOOK_S)  # There is nobody to listen to yet.

    def check(self) -> None:
        """Raises NodeFailed when the pipeline has ended."""
        if self._launcher.poll() is not None:
            raise NodeFailed(f"the pipeline ended with exit code {self._launcher.returncode}:\n{self._log_end()}")

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
                raise NodeFailed(f"stream {stream}: {found.reason}")
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
