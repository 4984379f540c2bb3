"""The rings of traced frames as the launcher has them: it makes them, and tells what is in them, hop by hop.

Who writes them is in `frame_tracer`; how they are drawn in `trace_view`.
"""

import math
import os
import time
from collections.abc import Mapping, Sequence

from pipeline.boot import TraceBoot
from pipeline.frame_tracer import FrameTracer
from pipeline.memory.slab import Slab, create_slab
from pipeline.memory.slot_table import Outcome
from pipeline.memory.trace_ring import RECORDS, TraceRecord, TraceRing, rings_bytes
from pipeline.status import FrameTrace, Hop, HopTimes, Traces

HOPS = ("wait_decode", "decode", "wait_inference", "process", "wait_egress", "encode", "send")
"""From ingress on, each up to the next: `decode` and `process` end when the frame is READY in the slot behind, which
includes waiting for one that is free; the waits end when the next stage takes it; `send` when the connection has taken
its bytes, or they are written to the file."""

LAUNCHER = ""
"""The one that frees what dead stages held has a ring too."""


class TraceRings:
    """A ring for each seat of each stage. With `every` 0 there are none, and nothing is traced."""

    def __init__(self, name: str, every: int, seats: Mapping[str, int]) -> None:
        """Raises OSError when memory or descriptors run out."""
        self.every = every
        self._first: dict[str, int] = {}
        rings = 0
        for stage, count in ((LAUNCHER, 1), *seats.items()):
            self._first[stage] = rings
            rings += count
        self._fd = create_slab(f"{name}-traces", rings_bytes(rings)) if every else None
        self._slab = Slab(self._fd) if self._fd is not None else None
        self._rings = [TraceRing(self._slab, index) for index in range(rings)] if self._slab is not None else []
        self.own = FrameTracer(self.boot(LAUNCHER))

    def boot(self, stage: str, seat: int = 0) -> TraceBoot | None:
        """What the process in this seat is told; None for a stage that sees no frames, or when nothing is traced."""
        if self._fd is None or stage not in self._first:
            return None
        return TraceBoot(self._fd, self._first[stage] + seat, self.every)

    def read(self, streams: Mapping[int, str]) -> Traces:
        """The newest RECORDS frames, newest first; `streams` are the names of their streams by epoch."""
        records = [record for ring in self._rings for record in ring.read()]
        records.sort(key=_ended, reverse=True)
        since_epoch_ns = time.time_ns() - time.monotonic_ns()
        traces = [_trace(record, streams, since_epoch_ns) for record in records[:RECORDS]]
        return Traces(self.every, traces, hop_times(traces))

    def close(self) -> None:
        self.own.close()
        for ring in self._rings:
            ring.close()
        if self._slab is not None and self._fd is not None:
            self._slab.close()
            os.close(self._fd)


def hop_times(traces: Sequence[FrameTrace]) -> list[HopTimes]:
    """Median and 95th percentile of each hop, and of the whole way, over the frames that went all of it."""
    whole = [trace for trace in traces if len(trace.hops) == len(HOPS)]
    columns = {name: [trace.hops[index].ms for trace in whole] for index, name in enumerate(HOPS)}
    columns["total"] = [trace.total_ms for trace in whole]
    return [
        HopTimes(name, len(times), _quantile(times, 0.5), _quantile(times, 0.95)) for name, times in columns.items()
    ]


def _quantile(values: Sequence[float], fraction: float) -> float | None:
    return sorted(values)[math.ceil(fraction * len(values)) - 1] if values else None


def _ended(record: TraceRecord) -> int:
    return record.ended_ns


def _trace(record: TraceRecord, streams: Mapping[int, str], since_epoch_ns: int) -> FrameTrace:
    begins = (
        record.arrived_ns,
        record.decoding_ns,
        record.decoded_ns,
        record.taken_ns,
        record.processed_ns,
        record.collected_ns,
        record.encoded_ns,
    )
    passed = next((count for count, moment in enumerate(begins) if not moment), len(begins))
    moments = (*begins[:passed], record.ended_ns)
    hops = [
        Hop(name, _ms(begin - record.arrived_ns), _ms(end - begin))
        for name, begin, end in zip(HOPS, moments, moments[1:], strict=False)
    ]
    return FrameTrace(
        stream=streams.get(record.epoch, ""),
        epoch=record.epoch,
        seq=record.seq,
        pts=record.pts,
        outcome=Outcome(record.outcome).name.lower(),
        arrived=(record.arrived_ns + since_epoch_ns) / 1e9,
        total_ms=_ms(record.ended_ns - record.arrived_ns),
        hops=hops,
    )


def _ms(nanoseconds: int) -> float:
    return round(max(0, nanoseconds) / 1e6, 3)
