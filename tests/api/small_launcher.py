"""A launcher for tests: the real control socket and a little real state of streams, and no processes behind it."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import msgspec

from pipeline.boot import FrameFormat, Pause
from pipeline.messages import (
    Answer,
    PauseRequest,
    PlanRequest,
    RestartRequest,
    StatusRequest,
    StreamStartRequest,
    StreamStopRequest,
    SupervisionEvent,
    TraceRequest,
    UpdateRequest,
)
from pipeline.status import (
    FrameCount,
    Parameter,
    Plan,
    StagePlan,
    StageStatus,
    Status,
    StreamSpec,
    StreamStatus,
    Traces,
)
from pipeline.switchboard import BadMessage, Switchboard
from pipeline.topology_sections import Frame

POLL_MS = 5
OF_ONE_STREAM = ("ingress", "decode", "egress")


class SmallLauncher:
    """Answers in a thread of its own, one stream at a time, as the launcher does. Tests change the attributes."""

    def __init__(self, endpoint: str, *, on_request: bool = True) -> None:
        self.endpoint = endpoint
        self.on_request = on_request
        self.state = "OK"
        self.reasons: list[str] = []
        self.silent = False
        self.inference = "READY"
        self.restarts = 0
        self.restarted: list[str] = []
        self.channels = {"ingress": "input", "egress": "output"}  # of a stream that is not on request
        self.updates: list[tuple[str, dict[str, Any]]] = []
        self.pause: Pause | None = None
        self.held: list[bytes] | None = None  # who waits for an update while it is a list
        self.streams: list[StreamStatus] = []
        self.traces = Traces(0, [], [])
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="small-launcher")

    def __enter__(self) -> Self:
        self._switchboard = Switchboard(self.endpoint)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def running(self) -> StreamStatus | None:
        return next((stream for stream in self.streams if not stream.ended), None)

    @property
    def listeners(self) -> int:
        """How many hear what is announced."""
        return len(self._switchboard._listeners)

    def announce(self, stage: str, name: str, level: str = "info", **fields: str | int | float) -> None:
        event = SupervisionEvent(time.time(), level, stage, name, fields)
        self._orders.put(lambda: self._switchboard.publish(event))

    def set(self, **fields: Any) -> None:
        """Change the running stream's status, and tell that something happened."""
        assert self.running is not None
        name = self.running.spec.stream
        self.streams = [msgspec.structs.replace(self.streams[0], **fields), *self.streams[1:]]
        over = self.streams[0].state in ("ENDED", "FAILED")
        self.announce("launcher", "stream_stopped" if over else "stream_online", stream=name)

    def end(self, state: str = "ENDED", reason: str = "the source ended") -> None:
        self.set(state=state, reason=reason, ended=time.time())

    def release(self) -> None:
        """Answer the updates that were held."""

        def answer() -> None:
            held, self.held = self.held or [], None
            for sender in held:
                self._switchboard.send(sender, Answer(True, "changed"))

        self._orders.put(answer)

    def status(self) -> Status:
        idle = self.on_request and self.running is None
        return Status(
            pipeline="test",
            state="LOADING" if self.inference != "READY" and self.state == "OK" else self.state,
            reasons=self.reasons,
            uptime_s=1.0,
            stages=[self._stage(name, idle) for name in ("ingress", "decode", "inference", "egress")],
            links=[],
            frames=FrameCount(0, 0, {}, 0),
            repeated=0,
            fps=0.0,
            end_to_end_ms=(None, None),
            streams=self.streams,
            paused=self.pause is not None,
        )

    def plan(self) -> Plan:
        channels = {} if self.on_request and self.running is None else self.channels
        if self.running is not None:
            spec = self.running.spec
            channels = {"ingress": spec.subscribe_url, "egress": spec.publish_url}
        links = {"ingress": ("", "encoded"), "decode": ("encoded", "raw"), "inference": ("raw", "styled")}
        stages = [
            StagePlan(
                stage=name,
                worker=name,
                input=links.get(name, ("styled", ""))[0],
                output=links.get(name, ("styled", ""))[1],
                reads=channels.get(name, "") if name == "ingress" else "",
                writes=channels.get(name, "") if name == "egress" else "",
            )
            for name in ("ingress", "decode", "inference", "egress")
        ]
        frame, parameters = Frame(width=16, height=16), [Parameter("strength", "float", 2.0)]
        return Plan("test", self.on_request, True, stages, frame, FrameFormat(16, 16), "callable", parameters)

    def _stage(self, name: str, idle: bool) -> StageStatus:
        state = self.inference if name == "inference" else "IDLE" if idle else "READY"
        return StageStatus(
            stage=name,
            worker=name,
            state=state,
            pid=None,
            restarts=self.restarts,
            uptime_s=0.0,
            units_in=0,
            units_out=0,
            rate_in=30.0,
            rate_out=30.0,
            latency_ms=(None, None),
            cpu_s=0.0,
            cpu_percent=0.0,
            rss_bytes=0,
            spares=0,
            passing_through=False,
            last_death="SIGKILL" if self.restarts else "",
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._switchboard.socket.poll(POLL_MS)
            for sender, message in self._switchboard.messages():
                if not self.silent:
                    self._answer(sender, message)
            while not self._orders.empty():
                self._orders.get()()
        self._switchboard.close()

    def _answer(self, sender: bytes, message: Any) -> None:
        match message:
            case StatusRequest():
                self._switchboard.send(sender, self.status())
            case TraceRequest():
                self._switchboard.send(sender, self.traces)
            case PlanRequest():
                self._switchboard.send(sender, self.plan())
            case RestartRequest(stage=stage):
                self.restarted.append(stage)
                ok = self.inference != "FINISHED"
                self._switchboard.send(sender, Answer(ok, f"{stage} is{'' if ok else ' not'} started again"))
            case StreamStartRequest(spec=spec):
                self._switchboard.send(sender, self._start(spec))
            case StreamStopRequest(stream=stream):
                self._switchboard.send(sender, self._stop(stream))
            case PauseRequest(stream=stream, pause=pause):
                self.pause = pause
                self.streams = [msgspec.structs.replace(each, paused=pause is not None) for each in self.streams]
                self._switchboard.send(sender, Answer(True, f"{stream} is so"))
            case UpdateRequest():
                self._update(sender, message)
            case BadMessage(problem=problem):
                raise AssertionError(problem)

    def _start(self, spec: StreamSpec) -> Answer:
        if not self.on_request:
            return Answer(
                False, "streams.on_request: this pipeline runs the stream of its file; allowed: true", "invalid"
            )
        if self.inference != "READY":
            return Answer(False, f"inference is {self.inference}", "loading")
        running = self.running
        if running is not None and running.spec == spec:
            return Answer(True, f"{spec.stream} runs already")
        if running is not None and running.spec.stream == spec.stream:
            return Answer(False, f"{spec.stream} runs already, with another request; stop it first", "exists")
        if running is not None:
            return Answer(False, f"{running.spec.stream} runs, and streams.max is 1; stop it first", "full")
        if (spec.width or 0) > 4096:
            return Answer(False, f"width: {spec.width} is no size of a frame", "invalid")
        begun = StreamStatus(spec, "STARTING", "", time.time(), 0.0, None, None, 0.0, FrameCount(0, 0, {}, 0))
        self.streams = [begun, *self.streams][:4]
        self.announce("launcher", "stream_started", stream=spec.stream)
        return Answer(True, f"{spec.stream} is being started")

    def _stop(self, stream: str) -> Answer:
        if self.running is not None and self.running.spec.stream == stream:
            self.end(reason="stopped on request")
        elif all(each.spec.stream != stream for each in self.streams):
            return Answer(False, f"there is no stream {stream!r}", "unknown")
        return Answer(True, f"{stream} is over")

    def _update(self, sender: bytes, request: UpdateRequest) -> None:
        if self.inference != "READY":
            answer = Answer(False, f"inference is {self.inference}: no processor is at work; try again", "loading")
        elif request.stage not in ("inference", "decode"):
            answer = Answer(False, f"no stage {request.stage!r}")
        elif "refuse" in request.params:
            answer = Answer(False, f"{request.stage}: refuse: not known here; allowed: strength")
        else:
            self.updates.append((request.stage, request.params))
            if self.held is not None:
                self.held.append(sender)
                return
            answer = Answer(True, f"{request.stage}: changed")
        self._switchboard.send(sender, answer)
