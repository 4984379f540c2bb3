"""A pipeline that runs several streams on request, and films that tell them apart."""

import contextlib
import itertools
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipeline.control import ControlLine
from pipeline.media.pattern import write_pattern
from pipeline.media.verify import RecordingReport, verify_recording
from pipeline.run_dir import control_endpoint
from pipeline.status import StreamSpec, StreamStatus
from tests.integration.camera import Camera
from tests.integration.running import ROOT, RunningPipeline

FPS = 10
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

    def play(self, films: Iterable[Path], cameras: ExitStack) -> None:
        """Start a stream for each film, play them as long as `cameras` is open, and wait until all are online."""
        numbered = list(enumerate(films))
        for number, _ in numbered:
            self.start(number)
        for number, film in numbered:
            cameras.enter_context(Camera(film, f"{self.relay}/s{number}-in"))
        for number, _ in numbered:
            self.wait_until_online(number)

    def wait_until_online(self, number: int) -> None:
        self.pipeline.wait_for(f"stream_online stage=launcher stream=s{number} ")

    def wait_until_over(self, number: int) -> None:
        self.pipeline.wait_for(f"stream_stopped stage=launcher stream=s{number} ")

    def kill(self, stage: str) -> bool:
        """SIGKILL to the stage's process at work; whether there was one."""
        pid = next(each.pid for each in self.line.status().stages if each.stage == stage)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def stream(self, number: int) -> StreamStatus:
        return next(each for each in self.line.status().streams if each.spec.stream == f"s{number}")

    def wait_for_delivered(self, number: int, count: int) -> None:
        """Until the stream has shown so many more frames."""
        wanted = self.stream(number).frames.delivered + count
        self.pipeline.wait_until(lambda: self.stream(number).frames.delivered >= wanted)


@contextmanager
def box(folder: Path, **changes: Any) -> Iterator[Box]:
    """`changes` are those of the topology, `processor` and `inference` those of its inference; what comes out of each
    stream is recorded in `folder`."""
    name = f"t-many-{next(_numbers)}-{os.getpid()}"
    topology = yaml.safe_load((ROOT / "configs/api.yaml").read_text())
    topology |= {"name": name, "relay": {"port": 0}, "frame": {"width": 128, "height": 128}}
    del topology["api"]
    topology["streams"] |= {"max": STREAMS, "source_timeout": 5.0, "admit_below": 0.0}
    topology["stages"]["egress"]["encoder"] = {"preset": "ultrafast"}
    inference = {"callable": "pipeline.processors.torch_ops:identity", "threads": 1}
    topology["stages"]["inference"] |= {"processor": changes.pop("processor", inference)} | changes.pop("inference", {})
    for number in range(STREAMS):
        recorder = {"worker": "recorder", "channel": f"s{number}-out", "file": str(folder / f"s{number}.mp4")}
        topology["stages"][f"seen{number}"] = recorder
    with RunningPipeline(topology | changes, folder) as pipeline:
        pipeline.wait_for("active stage=inference", topology["stages"]["inference"].get("replicas", 1))
        with ControlLine(control_endpoint(name)) as line:
            yield Box(pipeline, line)


def write_films(folder: Path, seconds: int) -> list[Path]:
    """One for each stream, told apart by the numbers in the pictures."""
    paths = [folder / f"{number}.ts" for number in range(STREAMS)]
    for number, path in enumerate(paths):
        write_pattern(path, 192, 128, FPS, seconds, start_index=number * APART)
    return paths


def check_unmixed(recording: Path, number: int, seconds: int, *, to_its_end: bool = False) -> RecordingReport:
    """Every picture is one of the stream's own film, of so many seconds, and in order, and up to its end if it was
    played to that."""
    seen = verify_recording(recording, FPS)
    assert (seen.out_of_order, seen.unreadable) == (0, 0)
    assert seen.first_index is not None
    own = range(number * APART, number * APART + FPS * seconds)
    assert seen.first_index in own
    assert seen.last_index in own, "in order, and both ends its own: so is all between"
    assert seen.last_index == own[-1] or not to_its_end
    return seen
