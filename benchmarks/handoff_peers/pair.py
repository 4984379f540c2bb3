"""Two spawned processes and the transport between them, as the benchmark holds them."""

import multiprocessing
from typing import Any, Self

import msgspec

from benchmarks.handoff_peers.end import Job, Side, Stamps, serve
from benchmarks.handoff_peers.transport import Transport

ANSWER_SECONDS = 120.0
EXIT_SECONDS = 5.0

Cores = tuple[int, int] | None
"""Where producer and consumer are pinned; None leaves both to the kernel."""


class Pass(msgspec.Struct, frozen=True):
    """What both ends stamped in one job."""

    sent: Stamps
    received: Stamps


class Pair:
    """Fresh interpreters for both ends, started alike for every transport; they inherit its descriptors."""

    def __init__(self, transport: Transport, cores: Cores) -> None:
        self._transport = transport
        self._producer = _End("producer", transport, cores[0] if cores else None)
        self._consumer = _End("consumer", transport, cores[1] if cores else None)
        for end in (self._producer, self._consumer):
            end.answer()

    def run(self, job: Job) -> Pass:
        """The consumer opens first, so that no transport sends into the void. Raises RuntimeError when an end dies."""
        ends = self._consumer, self._producer
        for end in ends:
            end.send(job)
            end.answer()
        for end in ends:
            end.send("go")
        received, sent = (end.answer() for end in ends)
        for end in ends:
            end.send("close")
            end.answer()
        return Pass(sent, received)

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _End:
    def __init__(self, side: Side, transport: Transport, core: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._jobs, theirs = context.Pipe()
        name = f"{side} of {type(transport).__name__}"
        self._process = context.Process(target=serve, args=(side, transport, core, theirs), name=name, daemon=True)
        self._process.start()
        theirs.close()

    def send(self, message: Any) -> None:
        self._jobs.send(message)

    def answer(self) -> Any:
        try:
            if self._jobs.poll(ANSWER_SECONDS):
                return self._jobs.recv()
        except (EOFError, ConnectionResetError):
            pass
        raise RuntimeError(f"{self._process.name} did not answer")

    def close(self) -> None:
        try:
            self._jobs.send(None)
        except BrokenPipeError:
            pass
        self._process.join(EXIT_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._jobs.close()
