"""The exposition of a Status, held against Prometheus's own parser and against the table in docs/metrics.md."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.api.drops import drops_by_stage
from pipeline.api.exposition import Scrape, render
from pipeline.api.hardware import GpuStats
from pipeline.api.metrics import METRICS
from pipeline.histogram import Histogram
from pipeline.memory.stage_stats import TOLD_EDGES_S
from pipeline.status import Encoding, FrameCount, LinkStatus, SlotStatus, Status, StreamSpec, StreamStatus, Usage
from tests.api.small_launcher import SmallLauncher

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/metrics.md"
ROW = re.compile(r"^\| `(livepipe_\w+)` \| (\w+) \|([^|]*)\|", re.M)
LATENCY = Histogram((0.1, 1.0), (7, 2, 1), 4.5)
SPINE = ("ingress", "decode", "inference", "egress")


def stream(name: str, *, ended: float = 0.0) -> StreamStatus:
    frames = FrameCount(12, 9, {"late": 2}, 1)
    state = "ENDED" if ended else "ONLINE"
    return StreamStatus(StreamSpec(name, "in", "out"), state, "", 1.0, ended, 500.0, 600.0, 30.0, frames, LATENCY)


def link(name: str, ends: tuple[str, str], outcomes: dict[str, int], *states: str) -> LinkStatus:
    slots = [SlotStatus(state, 1, 0, 0, "", 40.0 + 10 * index) for index, state in enumerate(states)]
    return LinkStatus(name, *ends, "latest", 0, 0, False, 0, outcomes, slots)


@pytest.fixture
def status(short_dir: Path) -> Status:
    """One in which every metric has something to tell."""
    whole = SmallLauncher(f"ipc://{short_dir}/unused").status()
    stages = [
        msgspec.structs.replace(
            stage,
            latency=LATENCY,
            recovery=LATENCY,
            output_gap=LATENCY,
            encoding=Encoding(1_600_000, 800_000, 4711) if stage.worker == "egress" else None,
        )
        for stage in whole.stages
    ]
    return msgspec.structs.replace(
        whole,
        stages=stages,
        links=[
            link("raw", ("decode", "inference"), {"late": 3, "no_slot": 1, "crash": 2}, "READY", "READY", "IN_USE"),
            link(
                "styled",
                ("inference", "egress"),
                {"delivered": 9, "processor_error": 4, "paused": 5, "crash": 1},
                "FREE",
            ),
        ],
        frames=FrameCount(21, 9, {"late": 3, "no_slot": 1, "crash": 3, "processor_error": 4, "paused": 5}, 1),
        end_to_end=LATENCY,
        streams=[stream("now"), stream("before", ended=2.0)],
        streams_ended={"ENDED": 1, "FAILED": 0},
        launcher=Usage(1.5, 1000, 3, 40),
    )


GPU = GpuStats("GPU-1", "H200", 1000, 400, 50, 20, 61, 350.0)


def families(status: Status, gpus: dict[int, GpuStats]) -> dict[str, Metric]:
    """By the name that is exposed."""
    content_type, body = render(METRICS, Scrape(status, gpus, "1.2.3"))
    assert content_type.startswith("text/plain")
    text = body.decode()
    typed = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(typed) == len(set(typed)), "each metric is described once"
    parsed = list(text_string_to_metric_families(text))
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in parsed}


@pytest.fixture
def exposed(status: Status) -> dict[str, Metric]:
    return families(status, {0: GPU})


@pytest.fixture
def value(exposed: dict[str, Metric]) -> Callable[..., float]:
    def value(name: str, **labels: str) -> float:
        (sample,) = (sample for sample in exposed[name].samples if sample.labels == labels)
        return sample.value

    return value


def test_the_table_and_the_exposition_agree(exposed: dict[str, Metric]) -> None:
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(DOCUMENT.read_text())
    }
    assert documented == {described.name: (described.kind, set(described.labels)) for described in METRICS}
    assert len(documented) == len(METRICS)
    for name, family in exposed.items():
        kind, labels = documented[name]
        assert family.type == kind
        assert family.samples, f"{name} tells nothing of a status that has everything"
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
    assert set(exposed) == set(documented)


def test_names_follow_the_conventions_of_prometheus() -> None:
    """https://prometheus.io/docs/practices/naming/: base units, plural, counters end in _total."""
    units = ("_seconds", "_bytes", "_bytes_per_second", "_ratio", "_celsius", "_watts")
    plain = (
        "info",
        "healthy",
        "paused",
        "up",
        "state",
        "spares",
        "through",
        "flight",
        "threads",
        "fds",
        "slots",
        "running",
    )
    for name, kind, labels, text, _ in METRICS:
        assert re.fullmatch(r"livepipe_[a-z0-9_]+", name)
        assert text
        assert name.endswith("_total") == (kind == "counter"), name
        if kind == "histogram":
            assert name.endswith("_seconds")
        if kind == "gauge":
            assert name.endswith(units) or name.rsplit("_", 1)[1] in plain, name
        assert "le" not in labels


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say(status: Status) -> None:
    _, body = render(METRICS, Scrape(status, {0: GPU}, "1.2.3"))
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_histogram_has_rising_buckets_a_sum_and_a_count(exposed: dict[str, Metric]) -> None:
    samples = {
        (sample.name.removeprefix("livepipe_stage_latency_seconds"), sample.labels.get("le")): sample.value
        for sample in exposed["livepipe_stage_latency_seconds"].samples
        if sample.labels["stage"] == "inference"
    }
    buckets = {("_bucket", "0.1"): 7.0, ("_bucket", "1.0"): 9.0, ("_bucket", "+Inf"): 10.0}
    assert samples == buckets | {("_sum", None): 4.5, ("_count", None): 10.0}


def test_every_drop_is_told_once_with_the_stage_that_made_it(status: Status, value: Callable[..., float]) -> None:
    drops = drops_by_stage(status)
    assert {key: count for key, count in drops.items() if count} == {
        ("decode", "no_slot"): 1,
        ("decode", "crash"): 2,
        ("inference", "late"): 3,
        ("inference", "processor_error"): 4,
        ("inference", "paused"): 5,
        ("egress", "crash"): 1,
    }
    assert sum(drops.values()) == sum(status.frames.dropped.values())
    assert value("livepipe_frames_dropped_total", stage="egress", reason="late") == 0, "there before the first"


def test_a_queue_shows_as_slots_and_as_age(value: Callable[..., float]) -> None:
    assert value("livepipe_link_slots", link="raw", state="READY") == 2
    assert value("livepipe_link_slots", link="raw", state="FREE") == 0
    assert value("livepipe_link_oldest_ready_seconds", link="raw") == 0.05
    assert value("livepipe_link_oldest_ready_seconds", link="styled") == 0


def test_a_stage_is_in_one_state_and_says_what_it_runs(exposed: dict[str, Metric]) -> None:
    states = [s for s in exposed["livepipe_stage_state"].samples if s.labels["stage"] == "inference"]
    assert [sample.labels["state"] for sample in states if sample.value] == ["READY"]
    runs = {sample.labels["stage"]: sample.labels["worker"] for sample in exposed["livepipe_stage_info"].samples}
    assert runs == {name: name for name in SPINE}


def test_bitrates_are_bytes_and_a_constant_quality_has_none(status: Status, value: Callable[..., float]) -> None:
    assert value("livepipe_encoder_wanted_bytes_per_second", stage="egress") == 200_000
    assert value("livepipe_encoder_target_bytes_per_second", stage="egress") == 100_000
    egress = msgspec.structs.replace(status.stages[-1], encoding=Encoding(0, 0, 4711))
    exposed = families(msgspec.structs.replace(status, stages=[*status.stages[:-1], egress]), {})
    assert not exposed["livepipe_encoder_wanted_bytes_per_second"].samples
    assert exposed["livepipe_encoder_output_bytes_total"].samples[0].value == 4711


def test_only_streams_under_way_have_series_and_the_totals_stay(
    exposed: dict[str, Metric], value: Callable[..., float]
) -> None:
    named = {s.labels["stream"] for family in exposed.values() for s in family.samples if "stream" in s.labels}
    assert named == {"now"}
    own = [s for family in exposed.values() for s in family.samples if "stream" in s.labels]
    (promised,) = re.findall(r"costs it (\d+) short series", DOCUMENT.read_text())
    buckets = len(TOLD_EDGES_S) + 1  # Of the one histogram, which is told by fewer here.
    assert sum(not s.name.endswith("_bucket") for s in own) + buckets == int(promised)
    assert value("livepipe_streams_running") == 1
    assert value("livepipe_streams_ended_total", state="ENDED") == 1
    assert value("livepipe_frames_decoded_total") == 21


def test_what_a_card_does_not_tell_has_no_series(status: Status) -> None:
    part_of_a_card = GpuStats("MIG-1", "H200", 1000, 400, None, None)
    exposed = families(status, {0: part_of_a_card})
    told = {name for name, family in exposed.items() if name.startswith("livepipe_gpu") and family.samples}
    assert told == {"livepipe_gpu_info", "livepipe_gpu_memory_bytes", "livepipe_gpu_memory_used_bytes"}
    assert exposed["livepipe_gpu_memory_used_bytes"].samples[0].value == 600
    assert not any(family.samples for name, family in families(status, {}).items() if "_gpu_" in name)
