"""What is compared: each reads one channel and writes another, is one or more processes, and leaves nothing behind."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
import yaml

from benchmarks.end_to_end_peers.cases import CRF, GOP_SECONDS, PRESET, THREADS, Case
from benchmarks.floor import READY
from benchmarks.trickle_peers.catalogue import CLIENTS, PYTRICKLE, ROOT
from pipeline.bench.helper_process import HelperProcess
from pipeline.control import ControlLine
from pipeline.parent_death import die_with
from pipeline.run_dir import NotRunning, control_endpoint
from pipeline.status import Status

CONTROL, OURS, FLOOR, QUEUES = "control", "livepipe", "one process", "ai-runner queues"

START_S = 90.0
STOP_S = 30.0
LAST_WORDS_S = 5.0
POLL_S = 0.1
HTTP_S = 10.0
LOG_LINES = 30


class Failed(Exception):
    """A contestant did not start, or ended before its time. The text says what and how."""


class Contestant(Protocol):
    """A context manager: inside, it waits for its input; after it, nothing of it is left."""

    pid: int | None
    """The root of its processes; None when there are none."""

    output: str
    """The URL of the channel that it writes."""

    def check(self) -> None:
        """Raises Failed when it has ended."""

    def stop(self) -> dict[str, int]:
        """Its input has ended. Returns what it says of lost pictures, by reason."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class Nobody:
    """The control: who watches the output watches the input."""

    pid: int | None = None

    def __init__(self, case: Case, source: str, target: str, folder: Path) -> None:
        self.output = source

    def check(self) -> None: ...

    def stop(self) -> dict[str, int]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class InOneHelper:
    """A contestant that one process of ours starts, with all that it is; its subclasses say which."""

    pid: int | None = None

    def __init__(self, target: str, python: str, module: str, *arguments: object) -> None:
        """`module` is run by the interpreter `python`."""
        self.output = target
        self._command = (python, module, *map(str, arguments))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._process = stack.enter_context(HelperProcess(*self._command))
            assert self._process.answer() == READY
            self._stack = stack.pop_all()
        self.pid = self._process.pid
        return self

    def check(self) -> None:
        if not self._process.is_alive:
            raise Failed("the process ended; what it said is above")

    def stop(self) -> dict[str, int]:
        return {}

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class OneProcess(InOneHelper):
    """The floor."""

    def __init__(self, case: Case, source: str, target: str, folder: Path) -> None:
        super().__init__(target, sys.executable, "benchmarks.floor", source, target, case.out_width, case.out_height)


class AiRunnerQueues(InOneHelper):
    """Two processes with torch queues between them, as ai-runner has them."""

    def __init__(self, case: Case, source: str, target: str, folder: Path) -> None:
        module = "benchmarks.end_to_end_peers.ai_runner_queues"
        size = case.out_width, case.out_height
        super().__init__(target, CLIENTS[PYTRICKLE].python, module, source, target, *size, case.fps)


class Livepipe:
    """The four processes under their launcher, run as a user runs them: the demo's chain with the identity for a
    processor, between two channels of a relay that is not its own."""

    pid: int | None = None

    def __init__(self, case: Case, source: str, target: str, folder: Path) -> None:
        self.output = target
        self._name = f"end-to-end-{os.getpid()}"
        self._file, self._log, self._summary = (folder / f"{self._name}.{end}" for end in ("yaml", "log", "json"))
        self._file.write_text(yaml.safe_dump(_topology(self._name, case, source, target)))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            log = stack.enter_context(self._log.open("wb"))
            command = [sys.executable, "launcher.py", "run", str(self._file), "--summary", str(self._summary)]
            self._launcher = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(die_with, os.getpid(), "launcher"),
            )
            stack.callback(self._end)
            _wait_until(self._is_ready, self.check, "livepipe")
            self._stack = stack.pop_all()
        self.pid = self._launcher.pid
        return self

    def check(self) -> None:
        if self._launcher.poll() is not None:
            end = "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise Failed(f"the launcher ended with {self._launcher.returncode}:\n{end}")

    def stop(self) -> dict[str, int]:
        """Raises Failed unless all ended well, nothing had to be restarted and every frame is accounted for."""
        self._launcher.terminate()
        try:
            code = self._launcher.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"the launcher did not end within {STOP_S:.0f} s") from None
        if code:
            self.check()
        status = msgspec.json.decode(self._summary.read_bytes(), type=Status)
        if not status.frames.balanced or any(stage.restarts for stage in status.stages):
            raise Failed(f"frames {status.frames}, restarts { {s.stage: s.restarts for s in status.stages} }")
        return status.frames.dropped

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _is_ready(self) -> bool:
        try:
            endpoint = control_endpoint(self._name)
        except NotRunning:
            return False
        with ControlLine(endpoint) as control:
            return all(stage.state == "READY" for stage in control.status().stages)

    def _end(self) -> None:
        """Without draining, which the second signal says; its workers die with it, however it ends."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._launcher.send_signal(number)
        try:
            self._launcher.wait(LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._launcher.kill()
            self._launcher.wait()


class Pytrickle:
    """pytrickle's StreamProcessor, told to take so many frames a second and give this size."""

    pid: int | None = None

    def __init__(self, case: Case, source: str, target: str, folder: Path) -> None:
        self.output = target
        self._port = _free_port()
        self._request = {
            "subscribe_url": source,
            "publish_url": target,
            "gateway_request_id": "benchmark",
            "params": {"width": case.out_width, "height": case.out_height, "max_framerate": case.fps},
        }

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._process = stack.enter_context(
                HelperProcess(CLIENTS[PYTRICKLE].python, "benchmarks.end_to_end_peers.pytrickle_app", str(self._port))
            )
            self.versions: dict[str, str] = self._process.answer()
            _wait_until(self._is_idle, self.check, "pytrickle")
            answer = self._ask("POST", "/stream/start", self._request)
            if answer.get("status") != "success":
                raise Failed(f"pytrickle refused to start: {answer}")
            self._stack = stack.pop_all()
        self.pid = self._process.pid
        return self

    def check(self) -> None:
        if not self._process.is_alive:
            raise Failed("pytrickle ended; what it said is above")

    def stop(self) -> dict[str, int]:
        return {}

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _is_idle(self) -> bool:
        try:
            return self._ask("GET", "/health").get("status") == "IDLE"
        except ConnectionError:
            return False

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HTTP_S)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())  # type: ignore[no-any-return]
        finally:
            connection.close()


NEEDS_PYTRICKLE = (PYTRICKLE, QUEUES)
"""Those that run in its interpreter."""

CONTESTANTS: dict[str, Callable[[Case, str, str, Path], Contestant]] = {
    CONTROL: Nobody,
    FLOOR: OneProcess,
    OURS: Livepipe,
    PYTRICKLE: Pytrickle,
    QUEUES: AiRunnerQueues,
}


def _topology(name: str, case: Case, source: str, target: str) -> dict[str, Any]:
    demo: dict[str, Any] = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    demo |= {"name": name, "relay": None, "api": None}
    demo["frame"] |= {"width": case.out_width, "height": case.out_height}
    stages = demo["stages"]
    del stages["publisher"], stages["recorder"]
    stages["ingress"]["source"] = {"trickle": source}
    stages["inference"]["processor"] = {"callable": "pipeline.processors.torch_ops:identity", "threads": THREADS}
    stages["egress"]["encoder"] = {"preset": PRESET, "crf": CRF, "gop_seconds": GOP_SECONDS, "threads": THREADS}
    stages["egress"]["sink"] = {"trickle": target}
    return demo


def _wait_until(condition: Callable[[], bool], check: Callable[[], None], name: str) -> None:
    """Raises Failed when it takes too long, or `check` does."""
    deadline = time.monotonic() + START_S
    while not condition():
        check()
        if time.monotonic() > deadline:
            raise Failed(f"{name} was not ready within {START_S:.0f} s")
        time.sleep(POLL_S)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
