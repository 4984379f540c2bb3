"""A stream that is traced and recorded while stages of it die and parameters change, and what it shows when it is run
again; and a recording that came with the sources."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from pipeline.frame_tracer import is_traced
from pipeline.media.pattern import write_pattern
from pipeline.recording.format import Change, End, Frame, Happened, Header, Input, RecordingReader
from pipeline.replay import replay
from pipeline.status import FrameTrace, Traces
from pipeline.traces import HOPS
from tests.collector import Collector
from tests.integration.running import PATIENCE_S, ROOT, RunningPipeline, topology

POSTERIZE = {"callable": "pipeline.processors.torch_ops:posterize", "params": {"levels": 4}, "threads": 1}
FPS, SECONDS = 30, 60  # longer than anybody waits
KEPT = ROOT / "tests/data/posterize.rec"
HAS_OTEL = find_spec("opentelemetry") is not None
EVERY = 3
SPANS_A_TRACE = 1 + len(HOPS)


class Recorded:
    """One run, with what was seen of it from outside."""

    def __init__(self, folder: Path, source: Path, collector: Collector | None) -> None:
        self.file = folder / "stream.rec"
        self.collector = collector
        tracing = {"every": EVERY} | ({"otel": collector.url} if collector is not None else {})
        name = f"t-replay-{os.getpid()}"
        changes = {"stages__inference__processor": POSTERIZE, "tracing": tracing, "api": {"port": 0}}
        with RunningPipeline(topology(name, folder, source, **changes), folder) as pipeline:
            pipeline.wait_for("first_frame stage=egress")
            followed = launcher("trace", name, "--follow", "--json")
            recorder = launcher("record", name, "--output", str(self.file))
            pipeline.wait_for("recording_begins")
            self.second = launcher("record", name, "--output", str(folder / "other.rec"))
            self.second_said = self.second.communicate(timeout=PATIENCE_S)[0]
            self._wait_for_frames(30)
            assert pipeline.update("{levels: 2}")[0] == 0
            os.kill(pipeline.pid_of("ingress"), signal.SIGKILL)
            pipeline.wait_for("ready stage=ingress", 2)
            os.kill(pipeline.pid_of("decode"), signal.SIGKILL)
            pipeline.wait_for("ready stage=decode", 2)
            followed.send_signal(signal.SIGINT)
            self.followed = followed.communicate(timeout=PATIENCE_S)[0]
            self.follower_code = followed.returncode
            self.shown = launcher("trace", name).communicate(timeout=PATIENCE_S)[0]
            self.told = launcher("trace", name, "--json").communicate(timeout=PATIENCE_S)[0]
            with urllib.request.urlopen(f"{pipeline.url_of('api')}/traces") as reply:
                self.answered = reply.read()
            pipeline.signal(signal.SIGINT)
            self.code = pipeline.end()
            self.log = pipeline.log
            self.frames = pipeline.summary().frames
        self.recorder_said = recorder.communicate(timeout=PATIENCE_S)[0]
        self.recorder_code = recorder.returncode

    def _wait_for_frames(self, count: int) -> None:
        """Nobody tells how far a recording is; its file does."""
        while sum(isinstance(record, Frame) for record in RecordingReader(self.file)) < count:
            time.sleep(0.05)


def launcher(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "launcher.py", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("recorded")
    source = folder / "source.ts"
    write_pattern(source, 160, 90, FPS, SECONDS)
    if not HAS_OTEL:
        yield Recorded(folder, source, None)
        return
    with Collector() as collector:
        yield Recorded(folder, source, collector)


def test_the_way_of_frames_is_told_on_the_command_line_and_over_rest(recorded: Recorded) -> None:
    assert all(name in recorded.shown for name in HOPS)
    for told in (recorded.told, recorded.answered):
        traces = msgspec.json.decode(told, type=Traces)
        assert traces.every == EVERY
        delivered = [trace for trace in traces.traces if trace.outcome == "delivered"]
        assert delivered
        assert all(_adds_up(trace) for trace in delivered)


def test_frames_can_be_followed_each_once(recorded: Recorded) -> None:
    traces = [msgspec.json.decode(line, type=FrameTrace) for line in recorded.followed.splitlines()]
    seqs = [trace.seq for trace in traces if trace.outcome == "delivered"]
    assert recorded.follower_code == 0
    assert len(seqs) > 5
    assert seqs == sorted(set(seqs))


def _adds_up(trace: FrameTrace) -> bool:
    return tuple(hop.name for hop in trace.hops) == HOPS and (
        sum(hop.ms for hop in trace.hops) == pytest.approx(trace.total_ms, abs=0.01)
    )


@pytest.mark.skipif(not HAS_OTEL, reason="needs pip install 'livepipe[otel]'")
def test_the_way_of_frames_reaches_a_collector(recorded: Recorded) -> None:
    assert recorded.collector is not None
    traced = sum(is_traced(seq, EVERY) for seq in range(recorded.frames.decoded))
    spans = recorded.collector.wait_for(SPANS_A_TRACE * traced)
    roots = {span.span_id for span in spans if span.name == "frame"}
    assert len(roots) == traced
    assert {span.parent_span_id for span in spans if span.name != "frame"} == roots


def test_a_recording_has_what_was_fed_changed_shown_and_what_happened(recorded: Recorded) -> None:
    assert (recorded.code, recorded.recorder_code) == (0, 0), recorded.log
    assert recorded.recorder_said.startswith(f"{recorded.file}: ")
    records = list(RecordingReader(recorded.file))
    assert isinstance(records[0], Header)
    assert records[0].topology["stages"]["inference"]["processor"]["params"] == {"levels": 4}
    assert records[0].versions.keys() >= {"av", "torch", "python"}
    fed = [record for record in records if isinstance(record, Input)]
    ends = [(record.segment, record.offset + len(record.data)) for record in fed]
    begins = [(record.segment, record.offset) for record in fed]
    assert all(begin in (end, (end[0] + 1, 0)) for end, begin in zip(ends, begins[1:], strict=False)), "each byte once"
    assert {record.stage for record in records if isinstance(record, Happened) and record.name == "died"} == {
        "ingress",
        "decode",
    }
    assert [record.params for record in records if isinstance(record, Change)] == [{"levels": 2}]
    assert isinstance(records[-1], End)
    assert records[-1].whole


def test_only_one_records_at_a_time(recorded: Recorded) -> None:
    assert recorded.second.returncode == 2
    assert recorded.second_said.endswith("is being recorded already; one recording at a time\n")
    assert not recorded.file.with_name("other.rec").exists()


def test_a_recording_of_a_stream_whose_stages_died_shows_the_same_again(recorded: Recorded) -> None:
    report = replay(recorded.file, exact=True)
    assert report.same, report.lines()
    assert report.original.deaths == {"ingress": 1, "decode": 1}
    assert report.compared == report.identical >= FPS
    assert (report.missing, report.extra, report.replayed.holes) == (0, 0, 0)


def test_the_recording_that_came_with_the_sources_shows_what_it_showed() -> None:
    report = replay(KEPT, speed="1")
    assert report.same, report.lines()
    assert report.compared == report.identical + report.close == report.original.outcomes["delivered"]


def test_another_processor_is_told_from_the_recorded_one(tmp_path: Path) -> None:
    """On the command line, as somebody does who wants to know what a change does to a stream."""
    done = launcher(
        *("replay", str(KEPT), "--json", "--set", "stages.inference.processor.params.levels=3"),
        *("--output", str(tmp_path / "again.rec"), "--video", str(tmp_path / "again.mp4")),
    )
    report = json.loads(done.communicate(timeout=PATIENCE_S)[0])
    assert (done.returncode, report["same"], report["missing"], report["extra"]) == (1, False, 0, 0)
    assert (report["first_difference"]["kind"], report["first_difference"]["seconds"]) == ("picture", 0.0)
    assert report["identical"] > 0, "from where the recording changes the parameter it is the same again"
    assert report["replayed"]["file"] == str(tmp_path / "again.rec")
    assert (tmp_path / "again.mp4").stat().st_size > 1000
