"""Several streams at once through one inference process: never mixed, never in each other's way."""

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.control import ControlLine
from pipeline.media.pattern import write_pattern
from pipeline.media.verify import verify_recording
from pipeline.messages import StreamSpec, StreamStatus
from pipeline.run_dir import control_endpoint
from tests.integration.camera import Camera
from tests.integration.running import PATIENCE_S, ROOT, RunningPipeline

FPS = 10
SECONDS = 12
STREAMS = 3
APART = 100_000
"""Between the numbers that are burnt into the pictures of one stream and of the next."""

_numbers = itertools.count()


class Box:
    """A launcher that runs several streams on request, and a line to it."""

    def __init__(self, pipeline: RunningPipeline, line: ControlLine) -> None:
        self.pipeline = pipeline
        self.line = line
        self.relay = pipeline.url_of("relay")

    def start(self, number: int, **fields: Any) -> None:
        name = f"s{number}"
        spec = StreamSpec(stream=name, subscribe_url=f"{name}-in", publish_url=f"{name}-out", **fields)
        answer = self.line.start_stream(spec)
        assert answer.ok, answer

    def wait_until_online(self, number: int) -> None:
        self.pipeline.wait_for(f"stream_online stage=launcher stream=s{number} ")

    def stream(self, number: int) -> StreamStatus:
        return next(each for each in self.line.status().streams if each.spec.stream == f"s{number}")

    def wait_for_delivered(self, number: int, count: int) -> None:
        """Nobody tells of what is only in a counter."""
        deadline = time.monotonic() + PATIENCE_S
        before = self.stream(number).frames.delivered
        while self.stream(number).frames.delivered < before + count:
            assert time.monotonic() < deadline, self.pipeline.log
            time.sleep(0.05)


@contextmanager
def box(folder: Path, **changes: Any) -> Iterator[Box]:
    name = f"t-many-{next(_numbers)}-{os.getpid()}"
    topology = yaml.safe_load((ROOT / "configs/api.yaml").read_text())
    topology |= {"name": name, "relay": {"port": 0}, "frame": {"width": 128, "height": 128}}
    del topology["api"]
    topology["streams"] |= {"max": STREAMS, "source_timeout": 5.0}
    topology["stages"]["egress"]["encoder"] = {"preset": "ultrafast"}
    inference = {"callable": "pipeline.processors.torch_ops:identity", "threads": 1}
    topology["stages"]["inference"]["processor"] = changes.pop("processor", inference)
    for number in range(STREAMS):
        recorder = {"worker": "recorder", "channel": f"s{number}-out", "file": str(folder / f"s{number}.mp4")}
        topology["stages"][f"seen{number}"] = recorder
    with RunningPipeline(topology | changes, folder) as pipeline:
        pipeline.wait_for("active stage=inference")
        with ControlLine(control_endpoint(name)) as line:
            yield Box(pipeline, line)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One for each stream, told apart by the numbers in the pictures."""
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{number}.ts" for number in range(STREAMS)]
    for number, path in enumerate(paths):
        write_pattern(path, 192, 128, FPS, SECONDS, start_index=number * APART)
    return paths


def test_streams_are_never_mixed_whatever_dies(films: list[Path], tmp_path: Path) -> None:
    with box(tmp_path) as running, ExitStack() as cameras:
        for number in range(STREAMS):
            running.start(number)
        for number, film in enumerate(films):
            cameras.enter_context(Camera(film, f"{running.relay}/s{number}-in"))
        for number in range(STREAMS):
            running.wait_until_online(number)

        for stage in ("inference", "decode.2", "egress.3", "ingress.1"):
            os.kill(running.pipeline.pid_of(stage), signal.SIGKILL)
        for stage in ("inference", "decode.2", "egress.3", "ingress.1"):
            running.pipeline.wait_for(f"ready stage={stage}", 2)
        for number in range(STREAMS):
            running.pipeline.wait_for(f"stream_stopped stage=launcher stream=s{number} ")

        status = running.line.status()
        assert status.frames.balanced, status.frames
        assert status.frames.in_flight == 0
        for number in range(STREAMS):
            stream = running.stream(number)
            assert (stream.state, stream.reason) == ("ENDED", "the source has ended")
            assert stream.frames.balanced
            assert stream.frames.delivered > 0
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    for number in range(STREAMS):
        seen = verify_recording(tmp_path / f"s{number}.mp4", FPS)
        assert (seen.out_of_order, seen.unreadable) == (0, 0)
        assert seen.first_index is not None
        assert seen.last_index is not None
        own = range(number * APART, number * APART + FPS * SECONDS)
        assert seen.first_index in own, "in order, and both ends its own: so is all between"
        assert seen.last_index == own[-1]


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
        spoilt = running.stream(2)
        assert spoilt.frames.delivered == 0
        assert spoilt.frames.dropped["processor_error"] > 0
        for number in range(2):
            assert "processor_error" not in running.stream(number).frames.dropped
        running.pipeline.signal(signal.SIGINT)
        assert running.pipeline.end() == 0, running.pipeline.log
    for number in range(2):
        seen = verify_recording(tmp_path / f"s{number}.mp4", FPS)
        assert (seen.out_of_order, seen.unreadable) == (0, 0)
        assert seen.inverted == seen.frames


def test_one_more_than_there_may_be_is_refused_with_the_names(tmp_path: Path) -> None:
    with box(tmp_path) as running:
        for number in range(STREAMS - 1):
            running.start(number)
        clash = running.line.start_stream(StreamSpec("s8", "s8-in", "s0-out"))
        assert (clash.code, clash.text) == ("exists", "publish_url: s0 writes it; allowed: another")
        running.start(STREAMS - 1)
        answer = running.line.start_stream(StreamSpec("s9", "s9-in", "s9-out"))
        assert (answer.code, answer.text) == ("full", "s0, s1, s2 run, and streams.max is 3; stop one first")
