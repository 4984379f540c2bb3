"""A live stream through the real processes: what went in comes out, in order, counted, in sync."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS, SECONDS
from tests.integration.running import RunningPipeline, topology

FRAMES = FPS * SECONDS
Launch = Callable[..., RunningPipeline]


def test_every_frame_comes_out_once_in_order_with_sound_in_sync(launch: Launch, source: Path, tmp_path: Path) -> None:
    still = {"stages__recorder__still": str(tmp_path / "seen.png"), "stages__recorder__compare": "input"}
    pipeline = launch(source, **still)

    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert (frames.decoded, frames.delivered, frames.dropped, frames.in_flight) == (FRAMES, FRAMES, {}, 0)
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.frames == FRAMES
    assert (report.first_index, report.last_index) == (0, FRAMES - 1)
    assert (report.out_of_order, report.duplicates, report.unreadable, report.missing) == (0, 0, 0, 0)
    assert report.inverted == FRAMES, "every picture went through the processor"
    assert len(report.audio_offsets_ms) >= SECONDS - 2
    assert report.max_audio_offset_ms < 40
    assert (tmp_path / "seen.png").stat().st_size > 1000


def test_a_processor_slower_than_the_stream_gets_the_newest_frames(
    launch: Launch, source: Path, tmp_path: Path
) -> None:
    pipeline = launch(
        source,
        links__raw__policy="latest",
        stages__inference__processor={"callable": "tests.integration.odd_ops:slow", "params": {"seconds": 0.1}},
    )

    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.dropped.keys() <= {"late", "no_slot"}  # the latter if a burst comes before the skimmer gets a CPU
    assert frames.dropped["late"] > FRAMES / 2
    assert 0 < frames.delivered < FRAMES / 2
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert (report.frames, report.out_of_order, report.duplicates) == (frames.delivered, 0, 0)
    assert report.max_audio_offset_ms < 40


def test_a_file_is_processed_whole_without_a_relay(launch: Launch, source: Path, tmp_path: Path) -> None:
    stages = topology("unused", tmp_path, None)["stages"]
    del stages["recorder"]
    stages["ingress"]["source"] = {"file": str(source)}
    stages["egress"]["sink"] = {"file": str(tmp_path / "result.ts")}

    pipeline = launch(None, relay=None, stages=stages)

    assert pipeline.end() == 0, pipeline.log
    report = verify_recording(tmp_path / "result.ts", FPS)
    assert (report.frames, report.missing, report.duplicates, report.out_of_order) == (FRAMES, 0, 0, 0)
    assert report.max_audio_offset_ms < 40


def test_the_api_tells_health_status_and_metrics(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source, api={"port": 0})
    base = pipeline.url_of("api")
    pipeline.wait_for_delivered(1)

    health = json.loads(urllib.request.urlopen(f"{base}/health").read())
    status = json.loads(urllib.request.urlopen(f"{base}/status").read())
    metrics = urllib.request.urlopen(f"{base}/metrics").read().decode()

    assert health == {"status": "OK", "reasons": []}
    assert {stage["stage"] for stage in status["stages"]} >= {"relay", "ingress", "decode", "inference", "egress"}
    samples = {
        (sample.name.removeprefix("livepipe_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert samples["stage_up", "inference"] == 1
    for stage in ("decode", "inference", "egress"):
        assert samples["stage_latency_seconds_count", stage] > 0
        assert samples["stage_latency_seconds_sum", stage] > 0
        assert samples["stage_busy_seconds_total", stage] > 0
        assert samples["stage_threads", stage] > 0
        assert samples["stage_open_fds", stage] > 0
    assert samples["stage_received_bytes_total", "ingress"] > 0
    assert samples["encoder_target_bytes_per_second", "egress"] == samples["encoder_wanted_bytes_per_second", "egress"]
    assert samples["stage_sent_bytes_total", "egress"] > samples["encoder_output_bytes_total", "egress"] > 0
    assert 0 < samples["end_to_end_latency_seconds_count",] <= samples["frames_decoded_total",]
    assert samples["launcher_threads",] > 0
