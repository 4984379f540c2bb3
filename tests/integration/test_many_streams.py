"""Several streams at once through one inference process: never mixed, never in each other's way."""

import os
import random
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.admission import LEAST_SECONDS
from pipeline.media.verify import verify_recording
from pipeline.running_stream import BEGINNING_S
from pipeline.status import StreamSpec
from tests.integration.box import FPS, STREAMS, Box, box, check_unmixed, write_films
from tests.integration.camera import Camera
from tests.integration.conftest import FPS as LONG_SOURCE_FPS
from tests.integration.running import SPINE

SECONDS = 60  # longer than anybody waits

CHAOS_SECONDS = 600
KILL_EVERY_S = 5.0

STARTS = 20


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_films(tmp_path_factory.mktemp("films"), SECONDS)


def test_streams_are_never_mixed_whatever_dies(films: list[Path], tmp_path: Path) -> None:
    with box(tmp_path) as running, ExitStack() as cameras:
        running.play(films, cameras)

        for stage in ("inference", "decode.2", "egress.3", "ingress.1"):
            os.kill(running.pipeline.pid_of(stage), signal.SIGKILL)
        for stage in ("inference", "decode.2", "egress.3", "ingress.1"):
            running.pipeline.wait_for(f"ready stage={stage}", 2)
        for number in range(STREAMS):
            running.wait_for_delivered(number, FPS)
            assert running.line.stop_stream(f"s{number}").ok
            running.wait_until_over(number)

        status = running.line.status()
        assert status.frames.balanced, status.frames
        assert status.frames.in_flight == 0
        for number in range(STREAMS):
            stream = running.stream(number)
            assert (stream.state, stream.reason) == ("ENDED", "stopped on request")
            assert stream.frames.balanced
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    for number in range(STREAMS):
        check_unmixed(tmp_path / f"s{number}.mp4", number, SECONDS)


def test_what_is_of_one_stream_is_none_of_the_others(long_source: Path, tmp_path: Path) -> None:
    """Parameters, a pause, a change of size, an egress that stands still, a stop."""
    processor = {"callable": "tests.integration.odd_ops:tells_identity", "params": {"word": "own"}, "threads": 1}
    with box(tmp_path, processor=processor) as running, ExitStack() as cameras:
        for number, fields in enumerate(({}, {"params": {"word": "asked"}}, {"width": 64, "height": 64})):
            running.start(number, **fields)
            cameras.enter_context(Camera(long_source, f"{running.relay}/s{number}-in"))
        for number, word in enumerate(("own", "asked", "own")):
            running.pipeline.wait_for(rf'text stage=inference stream=s{number} .*text="s{number} \d {word} 0"', 5)
        assert running.line.update("inference", {"word": "both"}, stream="s2").ok
        running.pipeline.wait_for(r'text="s2 \d both 0"', 5)
        told = len(running.pipeline.lines)
        for number in range(STREAMS):
            running.wait_for_delivered(number, 5)
        words = {number: set() for number in range(STREAMS)}
        for line in running.pipeline.lines[told:]:
            for number in range(STREAMS):
                if f'text="s{number} ' in line:
                    words[number].add(line.split()[-2])
        assert words == {0: {"own"}, 1: {"asked"}, 2: {"both"}}

        paused = running.pipeline.pid_of("egress.1")
        os.kill(paused, signal.SIGSTOP)
        for number in (1, 2):
            running.wait_for_delivered(number, 40)
        os.kill(paused, signal.SIGCONT)
        running.wait_for_delivered(0, 5)

        assert running.line.stop_stream("s1").ok
        for number in (0, 2):
            running.wait_for_delivered(number, 10)
        assert [each.spec.stream for each in running.line.status().streams if not each.ended] == ["s0", "s2"]
        assert "died" not in running.pipeline.log


def test_frames_of_several_streams_go_through_together(films: list[Path], tmp_path: Path) -> None:
    """And one that the processor cannot take spoils that one alone."""
    processor = {
        "callable": "tests.integration.odd_ops:together",
        "threads": 1,
        "batch": {"max": STREAMS, "wait_ms": 20},
    }
    with box(tmp_path, processor=processor) as running, ExitStack() as cameras:
        for number in range(STREAMS):
            running.start(number, **({"params": {"fails": True}} if number == 2 else {}))
        for number, film in enumerate(films):
            cameras.enter_context(Camera(film, f"{running.relay}/s{number}-in"))
        for number in range(2):
            running.wait_for_delivered(number, FPS)
        running.pipeline.wait_for(r"text stage=inference stream=s[01] .*text=2")
        running.pipeline.wait_for("processor_error stage=inference")
        running.pipeline.wait_until(lambda: "processor_error" in running.stream(2).frames.dropped)
        assert running.stream(2).frames.delivered == 0
        for number in range(2):
            assert "processor_error" not in running.stream(number).frames.dropped
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    for number in range(2):
        seen = verify_recording(tmp_path / f"s{number}.mp4", FPS)
        assert (seen.out_of_order, seen.unreadable) == (0, 0)
        assert seen.inverted == seen.frames


def test_a_frame_that_never_ends_is_noticed_and_its_stream_can_be_stopped(long_source: Path, tmp_path: Path) -> None:
    processor = {"callable": "tests.integration.odd_ops:hangs_for", "params": {"stream": "s1"}, "in_flight": 3}
    limits = {"progress": 2.0, "drain": 5.0}
    with box(tmp_path, processor=processor, inference={"limits": limits}) as running, ExitStack() as cameras:
        for number in range(2):
            running.start(number)
            cameras.enter_context(Camera(long_source, f"{running.relay}/s{number}-in"))
        running.wait_for_delivered(0, FPS)
        running.pipeline.wait_for("hanging stage=inference .*busy without progress")
        answer = running.line.stop_stream("s1")
        assert answer.ok, answer
        running.pipeline.wait_for("active stage=inference", 2)
        running.wait_for_delivered(0, FPS)


def test_a_spare_has_every_change_that_a_stream_was_given(long_source: Path, tmp_path: Path) -> None:
    processor = {"callable": "tests.integration.odd_ops:tells_identity", "threads": 1}
    with (
        box(tmp_path, processor=processor, inference={"spares": 1}) as running,
        Camera(long_source, f"{running.relay}/s0-in"),
    ):
        running.start(0)
        running.wait_for_delivered(0, FPS)
        running.pipeline.wait_for("ready stage=inference", 2)
        for params in ({"word": "one"}, {"word": "two"}, {"other": 3}):
            assert running.line.update("inference", params, stream="s0").ok
        assert running.kill("inference")
        running.pipeline.wait_for("active stage=inference", 2)
        seen = sum('text="s0 0 two 3"' in line for line in running.pipeline.lines)
        running.pipeline.wait_for('text="s0 0 two 3"', seen + FPS)


def test_a_stream_is_asked_for_again_when_the_processor_dies_over_it(long_source: Path, tmp_path: Path) -> None:
    """It may have died of another stream's frame."""
    mark = str(tmp_path / "died")
    processor = {"callable": "tests.integration.odd_ops:DiesOverItsFirstChange", "params": {"mark": mark}, "threads": 1}
    with box(tmp_path, processor=processor) as running, Camera(long_source, f"{running.relay}/s0-in"):
        running.start(0, params={"word": "mine"})
        running.pipeline.wait_for("text stage=inference stream=s0 .*text=mine")
        assert "died stage=inference " in running.pipeline.log


def test_one_more_than_was_measured_to_fit_is_refused(long_source: Path, tmp_path: Path) -> None:
    """Also while another stream waits for its source, and costs nothing."""
    streams = {"on_request": True, "max": STREAMS, "source_timeout": 120.0, "admit_below": 0.001}
    with box(tmp_path, streams=streams) as running, Camera(long_source, f"{running.relay}/s0-in"):
        running.start(0)
        running.start(1)
        running.wait_until_online(0)
        running.wait_for_delivered(0, int(LONG_SOURCE_FPS * (BEGINNING_S + LEAST_SECONDS + 3)))
        answer = running.line.start_stream(StreamSpec("s2", "s2-in", "s2-out"))
        assert answer.code == "full"
        assert re.match(
            r"a stream takes \d+% of inference's time, measured with 1 stream: one more would have it busy \d+%, and "
            r"streams.admit_below is 0.001$",
            answer.text,
        )


def test_one_more_than_there_may_be_is_refused_with_the_names(tmp_path: Path) -> None:
    with box(tmp_path) as running:
        for number in range(STREAMS - 1):
            running.start(number)
        clash = running.line.start_stream(StreamSpec("s8", "s8-in", "s0-out"))
        assert (clash.code, clash.text) == ("exists", "publish_url: s0 writes it; allowed: another")
        running.start(STREAMS - 1)
        answer = running.line.start_stream(StreamSpec("s9", "s9-in", "s9-out"))
        assert (answer.code, answer.text) == ("full", "s0, s1, s2 run, and streams.max is 3; stop one first")


@pytest.mark.chaos
@pytest.mark.timeout(CHAOS_SECONDS + 300)
def test_ten_minutes_of_kills_mix_no_streams(tmp_path: Path) -> None:
    dice = random.Random(10)
    kills: dict[str, int] = {}
    often = {"max_restarts": 10_000, "window": 1}
    with box(tmp_path, restart=often) as running, ExitStack() as cameras:
        running.play(write_films(tmp_path, CHAOS_SECONDS), cameras)
        until = time.monotonic() + CHAOS_SECONDS - 20
        while time.monotonic() < until:
            time.sleep(dice.uniform(0, 2 * KILL_EVERY_S))
            worker = dice.choice(SPINE)
            stage = worker if worker == "inference" else f"{worker}.{dice.randint(1, STREAMS)}"
            if running.kill(stage):
                kills[worker] = kills.get(worker, 0) + 1
        for number in range(STREAMS):
            running.wait_until_over(number)

        frames = running.line.status().frames
        assert frames.balanced, frames
        assert frames.in_flight == 0
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    recordings = [tmp_path / f"s{number}.mp4" for number in range(STREAMS)]
    seen = [check_unmixed(file, number, CHAOS_SECONDS, to_its_end=True) for number, file in enumerate(recordings)]
    shown = [each.frames - each.duplicates for each in seen]
    print(f"{kills} killed; {shown} pictures seen of {FPS * CHAOS_SECONDS} each; {frames}")


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_starting_and_stopping_one_stream_costs_the_others_no_more_than_a_frame(
    long_source: Path, tmp_path: Path
) -> None:
    with box(tmp_path) as running, ExitStack() as cameras:
        running.play([long_source] * 2, cameras)
        for number in range(2):
            running.wait_for_delivered(number, 3 * FPS)
        worst = 0
        for start in range(STARTS):
            before = [_lost(running, number) for number in range(2)]
            with Camera(long_source, f"{running.relay}/s2-in"):
                running.start(2)
                running.pipeline.wait_for("stream_online stage=launcher stream=s2 ", start + 1)
                assert running.line.stop_stream("s2").ok
            lost = [_lost(running, number) - before[number] for number in range(2)]
            worst = max(worst, *lost)
            assert worst <= 1, (start, lost)
        print(f"{STARTS} starts and stops: {worst} frames lost of another stream at most")


def _lost(running: Box, number: int) -> int:
    return sum(running.stream(number).frames.dropped.values())
