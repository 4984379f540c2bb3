"""A live stream through a whole pipeline, run as a user runs it, whose stages can be killed while somebody watches.

It starts, kills, listens and stops; what the figures mean is `recovery`'s.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil
import yaml

from benchmarks.onlooker import Onlooker
from pipeline.control import ControlLine, EventStream
from pipeline.run_dir import NotRunning, control_endpoint
from pipeline.status import Status

ROOT = Path(__file__).resolve().parents[1]
FPS = 30
PRESET = "superfast"
BUDGET = {"max_restarts": 1_000_000, "window": 0.5}
"""No death is the second within the window: every one is answered at once, as a first one is by default."""

PATIENCE_S = 90.0
"""Nothing here takes so long, however busy the machine is."""

LOOK_S = 0.02
"""How long one wait for an event lasts: what is looked at besides has no descriptor to wait for."""

LOG_LINES = 60

INVERT = {"callable": "pipeline.processors.torch_ops:invert"}


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A supervision event, at CLOCK_MONOTONIC seconds of the launcher's."""

    at: float
    stage: str
    name: str


class Kill(msgspec.Struct, frozen=True):
    """A stage's active process was killed `at`; at `over` its successor, and who waits behind that one, were there,
    and pictures that nobody had seen before came again. CLOCK_MONOTONIC seconds."""

    stage: str
    at: float
    over: float


class Usage(msgspec.Struct, frozen=True):
    """Resident megabytes of every process, and the launcher's open descriptors."""

    launcher_mb: float
    launcher_fds: int
    stages_mb: dict[str, float]


class Stuck(Exception):
    """The stream did not start, come back, or end. The text is the end of the launcher's log."""


class LiveRun:
    """A context manager: inside, the stream flows; after it, nothing is left."""

    def __init__(
        self, folder: Path, source: Path, *, size: int, spares: int = 0, processor: dict[str, Any] = INVERT
    ) -> None:
        """`source` is a pattern, played once; `size` is width and height of the frames, and the most that they can be
        changed to."""
        self.events: list[Heard] = []
        self._name = f"recovery-{os.getpid()}"
        self._port = _free_port()
        self._log, self._file = folder / f"{self._name}.log", folder / f"{self._name}.yaml"
        self._summary = folder / f"{self._name}.json"
        self._file.write_text(yaml.safe_dump(_topology(self._name, self._port, source, size, spares, processor)))
        self._spares = spares
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            output = stack.enter_context(self._log.open("wb"))
            command = [sys.executable, "launcher.py", "run", str(self._file), "--summary", str(self._summary)]
            self.launcher = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            stack.callback(self._end_launcher)
            self.wait_until(self._is_up)
            endpoint = control_endpoint(self._name)
            self._control = stack.enter_context(ControlLine(endpoint))
            self._events = stack.enter_context(EventStream(endpoint))
            self.onlooker = stack.enter_context(Onlooker(f"http://127.0.0.1:{self._port}/output"))
            self.wait_until(lambda: self.onlooker.newest >= 0)
            self.wait_until_complete()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def status(self) -> Status:
        return self._control.status()

    def update(self, stage: str, params: dict[str, Any], *, renew: bool = False) -> None:
        """Change parameters, and wait until they are in force. Raises Stuck when they are refused."""
        answer = self._control.update(stage, params, renew=renew)
        if not answer.ok:
            raise Stuck(answer.text)

    def usage(self) -> Usage:
        pid = self.launcher.pid
        return Usage(
            launcher_mb=psutil.Process(pid).memory_info().rss / 1e6,
            launcher_fds=len(os.listdir(f"/proc/{pid}/fd")),
            stages_mb={stage.stage: stage.rss_bytes / 1e6 for stage in self.status().stages},
        )

    def kill(self, stage: str) -> float | None:
        """SIGKILL to the stage's active process. Returns when it was; None when there is no process just now."""
        (pid,) = (found.pid for found in self.status().stages if found.stage == stage)
        if pid is None:
            return None
        at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        return at

    def kill_and_wait(self, stage: str) -> Kill:
        """The same, and wait until the stream flows again and everybody is back. Raises Stuck."""
        at = self.kill(stage)
        assert at is not None, f"{stage} was away before it was killed"

        def is_over() -> bool:
            in_charge, back = self.first(stage, taking_over(stage), at), self.first(stage, "ready", at)
            return bool(in_charge and back and self.onlooker.renewed_at > in_charge)

        self.wait_until(is_over)
        return Kill(stage, at, time.monotonic())

    def first(self, stage: str, name: str, after: float) -> float | None:
        """When the first event of this name was after that time."""
        return next((e.at for e in self.events if e.at >= after and e.stage == stage and e.name == name), None)

    def listen(self, seconds: float) -> None:
        """Take in events for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._hear(left)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Take in events until `condition`. Raises Stuck."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or self.launcher.poll() is not None:
                raise Stuck(self.log_end())
            self._hear(LOOK_S)

    def wait_until_complete(self) -> None:
        """Until every stage is at work and every spare ready. Raises Stuck."""
        self.wait_until(self._is_complete)

    def stop(self) -> Status:
        """Drain, wait until the last picture was seen and the launcher has ended, and return its summary. Raises Stuck
        unless all ended well."""
        self.launcher.send_signal(signal.SIGTERM)
        seen_all = self.onlooker.wait_for_end(PATIENCE_S)
        if self.launcher.wait(PATIENCE_S) != 0 or not seen_all:
            raise Stuck(self.log_end())
        return msgspec.json.decode(self._summary.read_bytes(), type=Status)

    def pids(self) -> list[int]:
        """Every process that the launcher has started so far."""
        return [int(pid) for pid in re.findall(r"started stage=\S+ pid=(\d+)", self._log.read_text(errors="replace"))]

    def log_end(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def _is_up(self) -> bool:
        try:
            control_endpoint(self._name)
        except NotRunning:
            return False
        return True

    def _is_complete(self) -> bool:
        stages = self.status().stages
        return all(stage.state == "READY" for stage in stages) and sum(s.spares for s in stages) == self._spares

    def _hear(self, seconds: float) -> None:
        if not hasattr(self, "_events"):
            time.sleep(seconds)  # There is nobody to listen to yet.
        elif event := self._events.next(seconds):
            at = event.time + time.monotonic() - time.time()
            self.events.append(Heard(at, event.stage, event.name))

    def _end_launcher(self) -> None:
        self.launcher.kill()  # Its workers die with it.
        self.launcher.wait()


def taking_over(stage: str) -> str:
    """The event that says that a successor has the links: inference processes take turns, others begin with theirs."""
    return "active" if stage == "inference" else "ready"


def _topology(name: str, port: int, source: Path, size: int, spares: int, processor: dict[str, Any]) -> dict[str, Any]:
    """The demo's chain with a cheap processor, `latest` before it, and no recorder: the onlooker is the viewer."""
    demo = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    demo |= {"name": name, "relay": {"port": port}, "api": None, "restart": BUDGET}
    demo["frame"] = {"width": size, "height": size}
    for link in ("raw", "styled"):
        demo["links"][link]["max_frame"] = {"width": size, "height": size}
    stages = demo["stages"]
    del stages["recorder"]
    stages["publisher"]["file"] = str(source)
    stages["inference"] |= {
        "processor": processor | {"threads": 1},
        "while_away": "last_frame",
        "spares": spares,
    }
    stages["egress"]["encoder"]["preset"] = PRESET
    return demo


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
