"""A recording of one stream out of several that run, and its replay."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.recording.format import Change, End, Happened, Header, RecordingReader
from pipeline.replay import replay
from tests.integration.box import FPS, box, check_unmixed, write_films
from tests.integration.camera import Camera
from tests.integration.running import PATIENCE_S, ROOT

SECONDS = 5
POSTERIZE = {"callable": "pipeline.processors.torch_ops:posterize", "params": {"levels": 8}, "threads": 1}


def record(name: str, output: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "launcher.py", "record", name, "--output", str(output), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(
    ("inference", "processor"),
    [({}, {}), ({"replicas": 2}, {"batch": {"max": 3, "wait_ms": 5}})],
    ids=["shared", "pool with batches"],
)
def test_one_of_several_streams_is_recorded_and_replayed(
    tmp_path: Path, inference: dict[str, int], processor: dict[str, dict[str, int]]
) -> None:
    films, file = write_films(tmp_path, SECONDS), tmp_path / "s1.rec"
    with box(tmp_path, processor=POSTERIZE | processor, inference=inference) as running, ExitStack() as cameras:
        name = running.pipeline.name
        recorder = record(name, file, "--stream", "s1")
        running.pipeline.wait_for("recording_begins stage=launcher stream=s1")
        for number in range(2):
            running.start(number, params={"levels": 2 + number})
            cameras.enter_context(Camera(films[number], f"{running.relay}/s{number}-in"))
        for number in range(2):
            running.wait_until_online(number)
        running.wait_for_delivered(1, FPS)
        assert running.line.update("inference", {"levels": 7}, stream="s0").ok
        assert running.line.update("inference", {"levels": 5}, stream="s1").ok
        assert running.kill("decode.1")
        said, _ = recorder.communicate(timeout=PATIENCE_S)
        for number in range(2):
            running.wait_until_over(number)
    assert recorder.returncode == 0, said

    records = list(RecordingReader(file))
    header, end = records[0], records[-1]
    assert isinstance(header, Header)
    assert isinstance(end, End)
    assert (header.stream, end.whole) == ("s1", True)
    assert header.topology["stages"]["inference"]["processor"]["params"] == {"levels": 3}
    assert [record.params for record in records if isinstance(record, Change)] == [{"levels": 5}]
    assert not any(record.stage == "decode.1" for record in records if isinstance(record, Happened))

    report = replay(file, video=tmp_path / "again.mp4")
    assert report.same, report.lines()
    assert check_unmixed(tmp_path / "again.mp4", 1, SECONDS, to_its_end=True).frames > 0


def test_of_several_that_run_one_has_to_be_named(long_source: Path, tmp_path: Path) -> None:
    with box(tmp_path) as running, ExitStack() as cameras:
        for number in range(2):
            running.start(number)
            cameras.enter_context(Camera(long_source, f"{running.relay}/s{number}-in"))
        for number in range(2):
            running.wait_until_online(number)
        recorder = record(running.pipeline.name, tmp_path / "any.rec")
        said, _ = recorder.communicate(timeout=PATIENCE_S)
    assert (recorder.returncode, said) == (2, "s0, s1 run: name the stream that is to be recorded\n")
    assert not (tmp_path / "any.rec").exists()
