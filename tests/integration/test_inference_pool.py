"""Streams shared among several processes of inference."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.api.health import health_of
from tests.integration.box import FPS, STREAMS, box, check_unmixed, write_films
from tests.integration.camera import Camera

SECONDS = 60  # longer than anybody waits
SHORT_SECONDS = 6

SERVED_BY = {0: "inference.1", 1: "inference.2", 2: "inference.1"}
"""Each stream goes to the replica that has fewest."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("films"), SECONDS)


def test_the_death_of_one_replica_is_no_matter_of_the_others_streams(films: list[Path], tmp_path: Path) -> None:
    """One of them makes batches of two streams, the other has one stream alone."""
    batch = {"max": STREAMS, "wait_ms": 20}
    processor = {"callable": "tests.integration.odd_ops:together", "threads": 1, "batch": batch}
    with box(tmp_path, processor=processor, inference={"replicas": 2}) as running, ExitStack() as cameras:
        running.play(films, cameras)
        for number in range(STREAMS):
            assert running.stream(number).stages[-1] == SERVED_BY[number]
        survivor = running.pipeline.pid_of("inference.1")

        os.kill(running.pipeline.pid_of("inference.2"), signal.SIGKILL)
        running.pipeline.wait_for("active stage=inference.2", 2)
        for number in range(STREAMS):
            running.wait_for_delivered(number, FPS)

        status = running.line.status()
        pids = {stage.stage: stage.pid for stage in status.stages}
        assert pids["inference.1"] == survivor
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    frames = running.pipeline.summary().frames
    assert (frames.balanced, frames.in_flight) == (True, 0), frames
    for number in range(STREAMS):
        seen = check_unmixed(tmp_path / f"s{number}.mp4", number, SECONDS)
        assert seen.inverted == seen.frames > 0


def test_every_replica_takes_what_is_changed_for_all(long_source: Path, tmp_path: Path) -> None:
    processor = {"callable": "tests.integration.odd_ops:tells_identity", "params": {"word": "own"}, "threads": 1}
    with box(tmp_path, processor=processor, inference={"replicas": 2}) as running, ExitStack() as cameras:
        assert running.line.update("inference", {"word": "all"}).ok
        for number in range(2):
            running.start(number)
            cameras.enter_context(Camera(long_source, f"{running.relay}/s{number}-in"))
        for number in range(2):
            running.pipeline.wait_for(rf'text stage={SERVED_BY[number]} stream=s{number} .*text="s{number} \d all 0"')

        assert running.line.update("inference", {"other": 7}, stream="s1").ok
        running.pipeline.wait_for(r'text stage=inference.2 stream=s1 .*text="s1 \d all 7"')

        answer = running.line.update("inference", {"word": "renewed"}, renew=True)
        assert answer.ok, answer
        assert answer.text.endswith("; the other replicas follow, one after the other")
        busy = running.line.update("inference", {"word": "x"}, stream="s1")
        assert (busy.ok, busy.code) == (False, "loading")
        for replica in ("inference.1", "inference.2"):
            running.pipeline.wait_for(f"updated stage={replica} .*renewed")
        running.pipeline.wait_for(r'text stage=inference.1 .*text="s0 \d renewed 0"')
        running.pipeline.wait_for(r'text stage=inference.2 .*text="s1 \d renewed 7"')

        nonsense = running.line.update("inference", {"word": {None: 1}})  # type: ignore[dict-item]
        assert (nonsense.code, nonsense.text.partition("; ")[2]) == ("invalid", "allowed: what JSON has")
        unknown = running.line.update("inference.3", {"word": "x"})
        assert unknown.text == (
            "'inference.3' has nothing that can be changed; allowed: decode.1, decode.2, decode.3, inference"
        )


def test_a_replica_that_cannot_be_renewed_stays_as_it_is_and_the_others_are_renewed(tmp_path: Path) -> None:
    processor = {"callable": "tests.integration.odd_ops:tells_identity", "threads": 1}
    with box(tmp_path, processor=processor, inference={"replicas": STREAMS}) as running:
        assert running.line.update("inference", {"word": "new"}, renew=True).ok
        os.kill(running.pipeline.pid_of("inference.2", 2), signal.SIGKILL)
        running.pipeline.wait_for("renewal_failed stage=inference.2 reason=SIGKILL")
        running.pipeline.wait_for("updated stage=inference.3 .*new")
        lives = {stage.stage: stage.pid for stage in running.line.status().stages}
        assert lives["inference.1"] == running.pipeline.pid_of("inference.1", 2)
        assert lives["inference.2"] == running.pipeline.pid_of("inference.2", 1)
        assert lives["inference.3"] == running.pipeline.pid_of("inference.3", 2)


def test_a_processor_of_one_stream_serves_several_with_a_replica_for_each(tmp_path: Path) -> None:
    films = write_films(tmp_path, SHORT_SECONDS)
    processor = {"trickle_app": "tests.integration.trickle_app_ops:Negative", "params": {"strength": 0.0}, "threads": 1}
    with box(tmp_path, processor=processor, inference={"replicas": STREAMS}) as running, ExitStack() as cameras:
        for number in range(2):
            running.start(number, params={"strength": float(number)})
        for number in range(2):
            cameras.enter_context(Camera(films[number], f"{running.relay}/s{number}-in"))
        for number in range(2):
            running.wait_until_over(number)
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    recordings = [tmp_path / f"s{number}.mp4" for number in range(2)]
    plain, negative = (
        check_unmixed(file, number, SHORT_SECONDS, to_its_end=True) for number, file in enumerate(recordings)
    )
    assert plain.inverted == 0
    assert negative.inverted == negative.frames


def test_streams_go_where_inference_has_not_failed(long_source: Path, tmp_path: Path) -> None:
    with box(tmp_path, inference={"replicas": 2, "restart": {"max_restarts": 0, "window": 60}}) as running:
        assert running.kill("inference.1")
        running.pipeline.wait_for("failed stage=inference.1")
        health = health_of(running.line.status())
        assert (health.status, health.http_status, health.is_loaded) == ("DEGRADED", 200, True)
        assert "inference.1: " in health.reasons[0]
        with Camera(long_source, f"{running.relay}/s0-in"):
            running.start(0)
            running.wait_until_online(0)
            running.wait_for_delivered(0, FPS)
            assert running.stream(0).stages[-1] == "inference.2"
            running.start(1)  # The failed one gets a fresh budget with the stream that needs it.
            assert running.stream(1).stages[-1] == "inference.1"
            running.pipeline.wait_for("active stage=inference.1", 2)
