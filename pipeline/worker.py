"""What all workers share: being told what to be, signs of life, orders from the launcher, and a clean way out.

A worker's file calls `run(main)`; `main` gets a Worker and returns when its work is done.
"""

import argparse
import contextlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import zmq

from pipeline import log
from pipeline.boot import WorkerBoot
from pipeline.doorbell import wake
from pipeline.frame_tracer import FrameTracer
from pipeline.memory.cuda_driver import CudaUnavailable
from pipeline.memory.stage_stats import StageStats, Word
from pipeline.messages import (
    Abandon,
    Activate,
    Drain,
    Event,
    Finished,
    PeerRestarted,
    Ready,
    Record,
    Refused,
    SetLogLevel,
    SetPause,
    StreamBegin,
    StreamHandedOn,
    ToLauncher,
    ToWorker,
    Update,
    Updated,
)
from pipeline.parent_death import die_with
from pipeline.recording.tap import Tap
from pipeline.status import Parameter
from pipeline.topology import Inference
from pipeline.topology_sections import Schedule
from pipeline.worker_lane import WorkerLane

if TYPE_CHECKING:
    import asyncio

HEARTBEAT_MS = 200
EXIT_REFUSED = 78
"""sysexits.h EX_CONFIG: starting again would not help."""


class WorkerRefused(Exception):
    """The worker cannot work as configured. The text is one line for the user: what, where, how to mend it."""


class WorkerFailed(Exception):
    """The worker cannot go on, and another one may. The text is one line for the user."""


class WorkerAbandoned(Exception):
    """Nobody will take what this worker hands on. Ends `main` early; what it holds is counted by the launcher."""


class Worker:
    """This process: what it was told, and its line to the launcher. Made by `run`."""

    def __init__(self, boot: WorkerBoot) -> None:
        self.boot = boot
        self.stats = StageStats(boot.stats_fd)
        self.tracer = FrameTracer(boot.trace)
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.tap = Tap(self.zmq, boot.tap, boot.stage)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._draining = threading.Event()
        self._orders: queue.SimpleQueue[Activate | Update | StreamBegin] = queue.SimpleQueue()
        # While it has none, the links' bells are another process's to hear.
        self._has_links = not isinstance(boot.spec, Inference)
        self.lanes = [WorkerLane(lane) for lane in boot.lanes]
        """The streams that this process of inference serves."""
        self._lane_of = {lane.number: lane for lane in self.lanes}
        self.farewell = ""
        """Why this process comes to its end by itself, for the launcher to say."""
        self.abandoned = False
        self._restarted: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[ToLauncher | None] = queue.SimpleQueue()
        self._outbox_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._line = threading.Thread(target=self._talk_forever, name="control", daemon=True)

    def lane(self, number: int) -> WorkerLane:
        """By its number in the whole pipeline."""
        return self._lane_of[number]

    @property
    def draining(self) -> bool:
        """Whether the launcher wants no new input to be taken."""
        return self._draining.is_set()

    def check_abandoned(self) -> None:
        """To be called while waiting for the stage behind. Raises WorkerAbandoned."""
        if self.abandoned:
            raise WorkerAbandoned

    def restarted_peers(self) -> list[str]:
        """The workers, such as "ingress", of the neighbours that died since the last call."""
        peers = []
        with contextlib.suppress(queue.Empty):
            while True:
                peers.append(self._restarted.get_nowait())
        return peers

    def ready(self, detail: str = "", parameters: list[Parameter] | None = None) -> None:
        """Tell the launcher that this stage can take work, and what its processor's parameters are."""
        self._send(Ready(self.boot.stage, self.boot.incarnation, detail, parameters))

    def wait_for_turn(
        self, apply: Callable[[Update], object] | None = None, follow: Callable[[WorkerLane], None] | None = None
    ) -> None:
        """Return when the links are this process's to use; until then `apply` sees to each Update, and `follow` to a
        lane on which another stream has begun. One that is not needed any more waits until it is killed."""
        while not isinstance(order := self._orders.get(), Activate):
            if isinstance(order, Update) and apply is not None:
                apply(order)
            elif isinstance(order, StreamBegin) and follow is not None:
                self.lane(order.lane).take_up()
                follow(self.lane(order.lane))
        self._has_links = True
        for lane in self.lanes:
            lane.take_up()

    def handed_on(self, lane: WorkerLane) -> None:
        """Everything of the lane's stream was handed on. Its links must be left alone until it takes up another."""
        if self.boot.on_request:
            self._send(StreamHandedOn(self.boot.stage, self.boot.incarnation, lane.number, lane.epoch))

    def next_update(self) -> Update | None:
        """A change of parameters that is asked for, if there is one. To be answered with `updated`."""
        with contextlib.suppress(queue.Empty):
            while True:
                order = self._orders.get_nowait()
                if isinstance(order, Update):
                    return order
        return None

    def updated(
        self,
        order: Update,
        params: dict[str, Any] | None,
        problem: str = "",
        parameters: list[Parameter] | None = None,
    ) -> None:
        """`params` are all that are in force now, or all that a stream has of its own, described by `parameters` if the
        processor does that; None: nothing was changed, because of `problem`."""
        self._send(Updated(self.boot.stage, self.boot.incarnation, order.number, params, problem, parameters))

    def debug(self, name: str, **fields: str | int | float) -> None:
        if log.is_wanted("DEBUG"):
            self._send(Event(self.boot.stage, "debug", name, fields))

    def info(self, name: str, **fields: str | int | float) -> None:
        self._send(Event(self.boot.stage, "info", name, fields))

    def warning(self, name: str, **fields: str | int | float) -> None:
        self._send(Event(self.boot.stage, "warning", name, fields))

    def error(self, name: str, **fields: str | int | float) -> None:
        self._send(Event(self.boot.stage, "error", name, fields))

    def drain(self) -> None:
        """Take no new input; safe to call from a signal handler."""
        self._draining.set()
        self.wake()

    def clear_wake(self) -> None:
        """To be called after `wake_fd` ended a wait."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)

    def draining_event(self) -> "asyncio.Event":
        """For workers with an event loop: set once `draining` is. To be called in the running loop, once."""
        import asyncio  # 25 ms, a tenth of the restart of a stage that has no event loop.

        event = asyncio.Event()

        def on_wake() -> None:
            self.clear_wake()
            if self.draining:
                event.set()

        asyncio.get_running_loop().add_reader(self.wake_fd, on_wake)
        on_wake()
        return event

    def start(self) -> None:
        self.stats.clear_life()
        self._line.start()

    def close(self, last_words: ToLauncher | None = None) -> None:
        """Say `last_words`, wait until they are out, and hang up."""
        if last_words is not None:
            self._send(last_words)
        self._send(None)
        self._line.join()
        self.zmq.destroy(linger=1000)

    def wake(self) -> None:
        """Bring the main thread back to its loop, wherever it waits: in a poll of `wake_fd`, or at a link."""
        os.eventfd_write(self.wake_fd, 1)
        for link in self.boot.inputs:
            wake(link.ready_fd)
        for link in self.boot.outputs:
            wake(link.free_fd)

    def _send(self, message: ToLauncher | None) -> None:
        self._outbox.put(message)
        os.eventfd_write(self._outbox_fd, 1)

    def _talk_forever(self) -> None:
        """The control thread: one heartbeat per HEARTBEAT_MS at least, messages as they come."""
        line = self.zmq.socket(zmq.DEALER)
        line.set(zmq.LINGER, 1000)
        line.set(zmq.IDENTITY, self.boot.identity)
        line.connect(self.boot.control_endpoint)
        decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
        poller = zmq.Poller()
        poller.register(line, zmq.POLLIN)
        poller.register(self._outbox_fd, zmq.POLLIN)
        talking = True
        while talking:
            events = dict(poller.poll(HEARTBEAT_MS))
            self.stats.beat()
            if line in events:
                self._obey(decoder.decode(line.recv()))
            if self._outbox_fd in events:
                os.eventfd_read(self._outbox_fd)
                talking = self._post(line)
        line.close()

    def _obey(self, order: ToWorker) -> None:
        if isinstance(order, Activate | Update):
            self._orders.put(order)
            if self._has_links:
                self.wake()
        elif isinstance(order, StreamBegin | SetPause):
            self.lane(order.lane).hear(order)
            if self._has_links:
                self.wake()
            elif isinstance(order, StreamBegin):
                self._orders.put(order)
        elif isinstance(order, Record):
            self.tap.recording = order.recording
        elif isinstance(order, Drain):
            self.drain()
        elif isinstance(order, Abandon):
            self.abandoned = True
            self.drain()
        elif isinstance(order, SetLogLevel):
            log.set_level(order.level)
        elif isinstance(order, PeerRestarted):
            self._restarted.put(order.worker)
            self.wake()

    def _post(self, line: zmq.Socket[bytes]) -> bool:
        with contextlib.suppress(queue.Empty):
            while True:
                message = self._outbox.get_nowait()
                if message is None:
                    return False
                line.send(msgspec.msgpack.encode(message))
        return True


def run(main: Callable[[Worker], None]) -> NoReturn:
    """The body of every `workers/*.py`: set the process up, call `main`, report how it ended, exit."""
    boot = _read_boot()
    die_with(boot.launcher_pid, boot.stage)
    log.configure_worker(boot.log_level)
    worker = Worker(boot)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle.
    signal.signal(signal.SIGTERM, lambda *_: worker.drain())
    worker.start()
    try:
        if boot.spec is not None:
            _take_place(boot.section, boot.spec.schedule)
        main(worker)
    except WorkerAbandoned:
        pass
    except (WorkerRefused, CudaUnavailable) as refusal:
        worker.close(Refused(boot.stage, boot.incarnation, str(refusal)))
        sys.exit(EXIT_REFUSED)
    except WorkerFailed as failure:
        worker.error("gives_up", reason=str(failure))
        worker.close()
        sys.exit(1)
    except Exception:  # noqa: BLE001 - the outermost loop of the process
        traceback.print_exc()
        worker.close()
        sys.exit(1)
    worker.stats[Word.FINISHED] = 1
    worker.close(Finished(boot.stage, boot.incarnation, worker.farewell))
    sys.exit(0)


def _read_boot() -> WorkerBoot:
    parser = argparse.ArgumentParser(description="A worker of the pipeline; started by launcher.py, not by hand.")
    parser.add_argument("stage", help="name of the stage, for people who read `ps`")
    parser.add_argument("--boot-fd", type=int, required=True)
    arguments = parser.parse_args()
    with open(arguments.boot_fd, "rb") as file:
        return msgspec.msgpack.decode(file.read(), type=WorkerBoot)


def _take_place(section: str, schedule: Schedule) -> None:
    """Take the CPUs, the nice value and the OOM score that the topology gives. Raises WorkerRefused."""
    key = f"{section}.schedule"
    if schedule.cpus is not None:
        allowed = sorted(os.sched_getaffinity(0))
        if not set(schedule.cpus) <= set(allowed):
            raise WorkerRefused(f"{key}.cpus: {list(schedule.cpus)} are not all there; allowed: {allowed}")
        for task in _threads():
            os.sched_setaffinity(task, schedule.cpus)
    if schedule.nice is not None:
        try:
            for task in _threads():
                os.setpriority(os.PRIO_PROCESS, task, schedule.nice)
        except OSError as error:
            raise WorkerRefused(f"{key}.nice: {schedule.nice} needs CAP_SYS_NICE: {error.strerror}") from error
    if schedule.oom_score is not None:
        try:
            Path("/proc/self/oom_score_adj").write_text(str(schedule.oom_score))
        except OSError as error:
            raise WorkerRefused(
                f"{key}.oom_score: {schedule.oom_score} needs CAP_SYS_RESOURCE: {error.strerror}"
            ) from error


def _threads() -> list[int]:
    """On Linux affinity and nice value belong to the thread; those to come inherit them."""
    return [int(name) for name in os.listdir("/proc/self/task")]
