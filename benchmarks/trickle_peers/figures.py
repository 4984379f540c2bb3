"""From what was carried to figures, and from figures to the goals that we hold ourselves to."""

import math
from collections.abc import Iterator, Sequence
from statistics import median

import msgspec
import numpy as np

from benchmarks.trickle_peers.catalogue import OURS, PYTRICKLE
from benchmarks.trickle_peers.job import Arrivals, Job
from benchmarks.trickle_peers.processes import Carried

WARM_UP = 0.2
"""Of a job's chunks, from the start, that do not count where latencies are concerned. Rates are of the whole job, from
the first write to the last arrival: a publisher that runs ahead of its reader would gain by anything less."""

GAPLESS = "gapless"
"""The job that is repeated at other rates until the highest is known at which nothing is missed."""

WORST = ("duplicates", "missing")
"""Figures of which the worst round is shown."""


class Figure(msgspec.Struct, frozen=True):
    """Of one job, or of several rounds of it. Chunks are `missing` that a reader never had whole. Connections are those
    that the relay accepted; CPU is of whole processes, from the start of the job to its end."""

    mb_per_s: float
    chunks_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    switch_p50_ms: float
    switch_max_ms: float
    duplicates: float
    missing: float
    connections: float
    publisher_us_per_mb: float
    readers_us_per_mb: float
    relay_us_per_mb: float
    readers_cpu: float
    """Seconds a second, as the relay's."""
    relay_cpu: float


NOTHING_ARRIVED = Figure(*[0.0] * len(Figure.__struct_fields__))


class Goal(msgspec.Struct, frozen=True):
    what: str
    value: float
    at_most: float = math.inf
    at_least: float = 0.0

    @property
    def met(self) -> bool:
        return self.at_least <= self.value <= self.at_most


Figures = dict[tuple[str, str], Figure]
"""By client and job."""


def figure(job: Job, carried: Carried) -> Figure:
    readers = [_Reader(job, arrivals) for arrivals in carried.received.readers]
    latency = np.concatenate([reader.latency_ms for reader in readers])
    switch = np.concatenate([reader.switch_ms for reader in readers])
    seconds = float(np.mean([reader.seconds for reader in readers]))
    per_s = float(np.mean([reader.chunks_per_s for reader in readers]))
    mb = job.count * job.chunk_bytes / 1e6
    relay, received = carried.relay, carried.received
    return Figure(
        mb_per_s=per_s * job.chunk_bytes / 1e6,
        chunks_per_s=per_s,
        latency_p50_ms=_percentile(latency, 50),
        latency_p99_ms=_percentile(latency, 99),
        switch_p50_ms=_percentile(switch, 50),
        switch_max_ms=_percentile(switch, 100),
        duplicates=sum(reader.duplicates for reader in readers),
        missing=sum(reader.missing for reader in readers),
        connections=relay.accepted,
        publisher_us_per_mb=carried.sent.cpu_ns / 1e3 / mb,
        readers_us_per_mb=received.cpu_ns / 1e3 / mb,
        relay_us_per_mb=relay.cpu_ns / 1e3 / mb,
        readers_cpu=received.cpu_ns / 1e9 / seconds,
        relay_cpu=relay.cpu_ns / 1e9 / seconds,
    )


def over_rounds(rounds: Sequence[Figure]) -> Figure:
    """Medians, but the worst of what should never happen."""
    fields = Figure.__struct_fields__
    columns = zip(*map(msgspec.structs.astuple, rounds), strict=True)
    return Figure(*((max if name in WORST else median)(values) for name, values in zip(fields, columns, strict=True)))


def goals(figures: Figures, segments: int) -> Iterator[Goal]:
    """Those whose figures were all measured. `segments` is how many the job of that name has."""
    ours = {job: value for (client, job), value in figures.items() if client == OURS}
    theirs = {job: value for (client, job), value in figures.items() if client == PYTRICKLE}
    if ours and theirs:
        ratio = ours["saturating"].mb_per_s / theirs["saturating"].mb_per_s
        yield Goal("MB/s, livepipe / pytrickle", ratio, at_least=1.0)
        switch = ours["switches"].switch_p50_ms / theirs["switches"].switch_p50_ms
        yield Goal("segment switch p50, livepipe / pytrickle", switch, at_most=0.5)
        gapless = (
            ours[GAPLESS].chunks_per_s / theirs[GAPLESS].chunks_per_s if theirs[GAPLESS].chunks_per_s else math.inf
        )
        yield Goal("10 KB segments a second without a gap, livepipe / pytrickle", gapless, at_least=1.0)
    if ours:
        back_to_back = ours["segments"]
        yield Goal("10 KB segments back to back: duplicates", back_to_back.duplicates, at_most=0)
        yield Goal("TCP connections per 100 segments", 100 * back_to_back.connections / segments, at_most=2)
        yield Goal("fan-out: chunks that some reader missed", ours["fan-out"].missing, at_most=0)


class _Reader:
    """What one reader had, without the warm-up where latencies are concerned."""

    def __init__(self, job: Job, arrivals: Arrivals) -> None:
        numbers = np.array(arrivals.numbers, np.int64)
        distinct = np.unique(numbers)
        self.duplicates = len(numbers) - len(distinct)
        self.missing = job.count - len(distinct)
        counted = numbers >= WARM_UP * job.count
        arrived = np.array(arrivals.arrived_ns, np.int64)
        switched = np.array(arrivals.switched_ns, np.int64)
        begun = np.array(arrivals.begun_ns, np.int64)
        self.latency_ms = (arrived - np.array(arrivals.written_ns, np.int64))[counted] / 1e6
        self.switch_ms = (begun - switched)[counted & (switched > 0)] / 1e6
        self.seconds = (max(arrivals.arrived_ns) - min(arrivals.written_ns)) / 1e9 if len(numbers) else math.nan
        self.chunks_per_s = len(distinct) / self.seconds


def _percentile(values: np.ndarray, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else math.nan
