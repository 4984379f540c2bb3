"""Otel: sends the frames that are traced to an OpenTelemetry collector."""

import select
import time

import psutil

from pipeline.control import ControlLine, LauncherSilent
from pipeline.memory.stage_stats import Word
from pipeline.memory.trace_ring import RECORDS
from pipeline.otel_export import SpanSender
from pipeline.status import FrameTrace
from pipeline.trace_view import NewTraces
from pipeline.worker import Worker, run

SEND_SECONDS = 1.0
MAX_WAITING = 4 * RECORDS
"""Frames that wait for a collector that cannot be reached; then the oldest are given up."""


class Otel:
    def __init__(self, worker: Worker, launcher: ControlLine, sender: SpanSender) -> None:
        self._worker = worker
        self._launcher = launcher
        self._sender = sender
        self._new = NewTraces()
        self._waiting: list[FrameTrace] = []
        self._looked_ns = 0
        self._reachable = True

    def run_until_drained(self) -> None:
        self._skip_sent()
        woken = select.poll()
        woken.register(self._worker.wake_fd, select.POLLIN)
        while not self._worker.draining:
            woken.poll(int(1000 * SEND_SECONDS))
            self._worker.clear_wake()
            self._look()
            self._send()

    def _skip_sent(self) -> None:
        """What a predecessor had seen by its last success is with the collector."""
        seen_ns = self._worker.stats[Word.LAST_OUT_NS]
        if seen_ns:
            self._look()
            seen = (time.time_ns() - time.monotonic_ns() + seen_ns) / 1e9
            self._waiting = [each for each in self._waiting if each.arrived + each.total_ms / 1000 > seen]

    def _look(self) -> None:
        looked_ns = time.monotonic_ns()
        try:
            traces = self._launcher.traces()
        except LauncherSilent:
            return
        self._looked_ns = looked_ns
        new = list(self._new.of(traces))
        self._worker.stats.add(Word.UNITS_IN, len(new))
        self._waiting = [*self._waiting, *new][-MAX_WAITING:]

    def _send(self) -> None:
        if not self._waiting:
            return
        sent = self._sender.send(self._waiting)
        if sent != self._reachable:
            self._reachable = sent
            url = self._worker.boot.otel or ""
            if sent:
                self._worker.info("collector_reached", url=url)
            else:
                self._worker.warning("collector_unreachable", url=url)
        if sent:
            self._worker.stats.add(Word.UNITS_OUT, len(self._waiting))
            self._worker.stats[Word.LAST_OUT_NS] = self._looked_ns
            self._waiting.clear()


def main(worker: Worker) -> None:
    boot = worker.boot
    assert boot.otel is not None
    launcher = psutil.Process(boot.launcher_pid)
    sender = SpanSender(boot.otel, boot.pipeline, f"{launcher.pid} {launcher.create_time()}")
    with ControlLine(boot.control_endpoint) as line:
        worker.ready(boot.otel)
        Otel(worker, line, sender).run_until_drained()
    sender.close()


if __name__ == "__main__":
    run(main)
