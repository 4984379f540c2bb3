"""What the ends of a comparison are asked to carry, and what they and the relay report.

Standard library only: peers' interpreters import it.
"""

import struct
from dataclasses import dataclass, field

HEADER = struct.Struct("<QQQ")
"""In front of every chunk: its number in the job, when it was written, and when the publisher turned to closing the
segment before, if the chunk is the first of its segment (else 0). Nanoseconds of CLOCK_MONOTONIC, which all processes
of a machine share."""


@dataclass(frozen=True)
class Job:
    segments: int
    chunks: int
    """In each segment."""
    chunk_bytes: int
    chunks_per_second: float = 0.0
    """0 is as fast as the client takes them."""
    readers: int = 1
    url: str = ""
    """The channel's; every time that the job is done it is another."""

    @property
    def count(self) -> int:
        """Chunks in all."""
        return self.segments * self.chunks


@dataclass(frozen=True)
class Sent:
    """What a publisher says once the server has everything. CPU is that of its process."""

    cpu_ns: int


@dataclass
class Arrivals:
    """What one reader has had: for each whole chunk its header, when its first byte was there, and when its last."""

    job: Job
    numbers: list[int] = field(default_factory=list)
    written_ns: list[int] = field(default_factory=list)
    switched_ns: list[int] = field(default_factory=list)
    begun_ns: list[int] = field(default_factory=list)
    arrived_ns: list[int] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)
    _head: bytes = b""
    _left: int = 0
    _begun_ns: int = 0

    @property
    def complete(self) -> bool:
        return len(self._seen) == self.job.count

    def begin(self) -> None:
        """A segment begins. A chunk that the one before did not complete is none."""
        self._head, self._left = b"", 0

    def feed(self, data: bytes, now_ns: int) -> None:
        at = 0
        while at < len(data):
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
                if not self._left:
                    self._take(now_ns)
            else:
                if not self._head:
                    self._begun_ns = now_ns
                piece = data[at : at + HEADER.size - len(self._head)]
                self._head += piece
                at += len(piece)
                self._left = self.job.chunk_bytes - HEADER.size if len(self._head) == HEADER.size else 0

    def _take(self, now_ns: int) -> None:
        number, written_ns, switched_ns = HEADER.unpack(self._head)
        self._head = b""
        self._seen.add(number)
        self.numbers.append(number)
        self.written_ns.append(written_ns)
        self.switched_ns.append(switched_ns)
        self.begun_ns.append(self._begun_ns)
        self.arrived_ns.append(now_ns)


@dataclass(frozen=True)
class Received:
    """What the readers of a job had, one after another. CPU is that of the process that they share."""

    readers: list[Arrivals]
    cpu_ns: int


@dataclass(frozen=True)
class Usage:
    """What the relay has used since it began."""

    accepted: int
    """Connections that clients made."""
    cpu_ns: int

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.accepted - other.accepted, self.cpu_ns - other.cpu_ns)
