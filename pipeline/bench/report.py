"""What a benchmark found, as Structs: the JSON that it writes, and that a later run is compared with."""

from pathlib import Path
from statistics import median

import msgspec

VERSION = 1


class ReportFileError(Exception):
    """The one line for the user: which file, what is wrong with it."""


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured. `load` is the load average of the last minute at the start; `memory_mb` what there is."""

    cpu: str
    cores: int
    memory_mb: int
    gpus: list[str]
    system: str
    python: str
    versions: dict[str, str]
    load: float


class Settings(msgspec.Struct, frozen=True):
    """What was asked for. A step is measured for `seconds`; `latency_ms` is what the 95th percentile may reach;
    `reference_fps` is the rate of a stream whose latency and costs are told, and of which there may be several;
    `digest` is that of the resolved topology."""

    topology: str
    processor: str
    command: str
    width: int
    height: int
    seconds: float
    latency_ms: float
    max_fps: float
    reference_fps: float
    repeats: int
    kills: int
    digest: str = ""


class Samples(msgspec.Struct, frozen=True):
    """One figure, as often as it was measured."""

    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """From the lowest to the highest."""
        return max(self.values) - min(self.values)


class StageUse(msgspec.Struct, frozen=True):
    """One kind of stage during a step, all streams' together. `busy` is the part of the time in which it worked on a
    frame, of the busiest one (None: it does not count that); `busy_ms` that time for each frame; `cores` how many its
    processes kept busy; `cpu_ms` CPU time for each frame that a viewer had."""

    stage: str
    busy: float | None
    busy_ms: float | None
    cores: float
    cpu_ms: float
    rss_mb: float


class Step(msgspec.Struct, frozen=True):
    """One load, after its warm-up. `fps` is that of each of the `streams`. Of the `sent` pictures `arrived` were at the
    viewer in the end; latency runs from the picture's being written at the source until its last byte is at the viewer;
    `drift_ms` is by how much its median is higher in the last quarter than in the first. `late` frames were dropped for
    a newer one, others for the reasons in `dropped`. Of several streams `worst_p95_ms` and `worst_arrived`, a part of
    what was sent, are those of the one that fared worst. `latencies` counts pictures by LATENCY_EDGES_MS. `numbered`:
    so large a part of what arrived bore the number that was sent with its time stamp; None: no number could be read
    behind this processor. `cores_busy` is of the whole machine, `cores_others` what was not the benchmark's. `gpus`:
    the part of the time in which each graphics card worked. `failings`: why the load was not sustained; empty if it
    was."""

    purpose: str
    streams: int
    fps: float
    seconds: float
    sent: int
    arrived: int
    late: int
    dropped: dict[str, int]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    drift_ms: float
    latencies: list[int]
    numbered: float | None
    source_late_ms: float
    kbit_per_s: float
    stages: list[StageUse]
    harness_cores: float
    cores_busy: float
    cores_others: float
    gpus: dict[str, float]
    failings: list[str]
    worst_p95_ms: float | None = None
    worst_arrived: float | None = None

    @property
    def sustained(self) -> bool:
        return not self.failings

    @property
    def out_fps(self) -> float:
        """Pictures a second at all viewers together."""
        return self.arrived / self.seconds


LATENCY_EDGES_MS = (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 2048, 4096, 8192)
"""Upper edges; what takes longer is counted behind the last."""


class Limit(msgspec.Struct, frozen=True):
    """The highest load that was sustained, and the lowest that was not; None: the search went no higher."""

    sustained: float
    not_sustained: float | None


class Recovery(msgspec.Struct, frozen=True):
    """One SIGKILL to a stage's process, at `fps`. Milliseconds: `new_ms` from the kill until the viewer had a new
    picture that came after a successor had taken over; `gap_ms` the longest time without a new one, `dark_ms` without
    any, repeated ones included; `lost` pictures of the source were never seen. `problem`: it did not come back."""

    stage: str
    fps: float
    new_ms: float
    gap_ms: float
    dark_ms: float
    lost: int
    problem: str = ""


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run, or what there was of it when it was `interrupted`. `limits` are of one stream's pictures a second,
    one for each time that the limit was searched for; `most_streams` held at once at `reference_fps`, of the
    `streams_allowed` that the topology allows."""

    version: int
    began: str
    interrupted: bool
    problem: str
    machine: Machine
    settings: Settings
    warnings: list[str]
    limits: list[Limit]
    steps: list[Step]
    most_streams: int | None
    streams_allowed: int
    recoveries: list[Recovery]

    @property
    def reference(self) -> list[Step]:
        """The steps at `reference_fps` whose latency and costs are told; none where that did not hold."""
        return [step for step in self.steps if step.purpose == "reference"]

    def figures(self) -> dict[str, Samples]:
        """What two runs are compared by, under stable names, as often as each was measured."""
        found: dict[str, list[float]] = {"max_fps": [limit.sustained for limit in self.limits]}
        found["max_streams"] = [] if self.most_streams is None else [float(self.most_streams)]
        for name in ("p50_ms", "p95_ms", "p99_ms"):
            found[f"latency_{name}"] = [getattr(step, name) for step in self.reference]
        for step in self.reference:
            for use in step.stages:
                found.setdefault(f"cpu_ms.{use.stage}", []).append(use.cpu_ms)
        for recovery in self.recoveries:
            if not recovery.problem:
                found.setdefault(f"recovery_ms.{recovery.stage}", []).append(recovery.new_ms)
        return {name: Samples(values) for name, values in found.items() if values}

    def best(self) -> Step | None:
        """The step with the highest rate of one stream that was sustained."""
        sustained = [step for step in self.steps if step.sustained and step.streams == 1]
        return max(sustained, key=lambda step: step.fps, default=None)

    def beyond(self) -> Step | None:
        """The step with the lowest rate of one stream that was not, above the best."""
        best = self.best()
        failed = [step for step in self.steps if not step.sustained and step.streams == 1]
        return min((step for step in failed if best is None or step.fps > best.fps), key=lambda s: s.fps, default=None)


def read_report(path: Path) -> Report:
    """Raises ReportFileError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReportFileError(f"{path}: {error.strerror}; needed: what `bench --json` wrote") from error
    try:
        version = msgspec.json.decode(data, type=dict).get("version")
        if version != VERSION:
            raise ReportFileError(f"{path}: a report of version {version}; this program reads version {VERSION}")
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError as error:
        raise ReportFileError(f"{path}: no report of `bench --json`: {error}") from error


def write_report(path: Path, report: Report) -> None:
    """Whole, or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    new.replace(path)
