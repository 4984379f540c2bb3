"""Streams on request: started and stopped over the control socket while the launcher and inference stay."""

import asyncio
import contextlib
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.control import ControlLine
from pipeline.media.verify import verify_recording
from pipeline.messages import Answer
from pipeline.run_dir import control_endpoint
from pipeline.status import StageStatus, Status, StreamSpec, StreamStatus
from pipeline.trickle import TrickleSubscriber
from tests.integration.camera import Camera
from tests.integration.conftest import FPS
from tests.integration.running import PATIENCE_S, ROOT, RunningPipeline

TOKEN = "only-for-tests"
SOURCE_TIMEOUT_S = 3.0
OF_ONE_STREAM = ("ingress", "decode", "egress")

_numbers = itertools.count()


TELLS = {"callable": "tests.integration.odd_ops:tells_identity", "params": {"word": "own"}, "threads": 1}


def on_request(name: str, inference: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """configs/api.yaml, small, on free ports, with other keys for inference."""
    topology = yaml.safe_load((ROOT / "configs/api.yaml").read_text())
    topology |= {"name": name, "relay": {"port": 0, "publish_tokens": [TOKEN]}, "api": {"port": 0}}
    topology |= {"frame": {"width": 256, "height": 256}, **changes}
    topology["streams"] = topology["streams"] | {"source_timeout": SOURCE_TIMEOUT_S}
    topology["stages"]["decode"]["restart"] = {"max_restarts": 1, "window": 60}
    topology["stages"]["inference"] |= {"processor": TELLS} | inference
    topology["stages"]["egress"]["encoder"] = {"preset": "ultrafast"}
    return topology


class Node:
    """A pipeline with streams on request, and a line to its launcher."""

    def __init__(self, pipeline: RunningPipeline, line: ControlLine, film: Path) -> None:
        self.pipeline = pipeline
        self._line = line
        self._film = film
        self.relay = pipeline.url_of("relay")

    @contextmanager
    def camera(self, name: str) -> Iterator[None]:
        """Somebody who publishes to the channel `name` of the embedded relay."""
        with Camera(self._film, f"{self.relay}/{name}", TOKEN):
            yield

    def start(self, stream: str, **fields: Any) -> Answer:
        """By default from the channel STREAM-in to STREAM-out."""
        return self._line.start_stream(
            StreamSpec(**({"stream": stream, "subscribe_url": f"{stream}-in", "publish_url": f"{stream}-out"} | fields))
        )

    def stop(self, stream: str) -> Answer:
        return self._line.stop_stream(stream)

    def status(self) -> Status:
        return self._line.status()

    def update(self, **params: Any) -> Answer:
        return self._line.update("inference", params)

    def wait_until_online(self, stream: str) -> None:
        self.pipeline.wait_for(f"stream_online stage=launcher stream={stream} ")

    def wait_until_over(self, stream: str) -> StreamStatus:
        """What is said of it after its end."""
        self.pipeline.wait_for(f"stream_stopped stage=launcher stream={stream} ")
        return next(each for each in self.status().streams if each.spec.stream == stream)

    def wait_for_text(self, text: str, count: int = 1) -> None:
        """Until the processor has said this of a frame."""
        self.pipeline.wait_for(rf'text stage=inference .*text="{text}"', count)

    def restart(self, stage: str) -> Answer:
        return self._line.restart(stage)

    def kill(self, stage: str, *, comes_back: bool = True) -> None:
        """SIGKILL to the process of a stage; returns when another is at work in its place."""
        dead = self.pid_of(stage)
        os.kill(dead, signal.SIGKILL)
        if comes_back:
            self.wait_for_stage(stage, lambda found: found.state == "READY" and found.pid != dead)

    def kill_if_there(self, stage: str) -> None:
        """SIGKILL to the process of a stage, at whatever it is just now."""
        with contextlib.suppress(ProcessLookupError):
            for pid in [each.pid for each in self.status().stages if each.stage == stage and each.pid is not None]:
                os.kill(pid, signal.SIGKILL)

    def wait_for_spare(self) -> None:
        self.wait_for_stage("inference", lambda found: found.spares == 1)

    def wait_for_stage(self, stage: str, is_so: Callable[[StageStatus], bool]) -> None:
        self.pipeline.wait_until(lambda: any(is_so(each) for each in self.status().stages if each.stage == stage))

    def wait_for_more_frames(self, stream: str) -> None:
        """Until half a second of it was sent, and the processor knows whose frames they are."""
        said = len(re.findall(rf'text="{stream} ', self.pipeline.log))
        self.pipeline.wait_for_delivered(FPS // 2)
        self.wait_for_text(rf"{stream} \d+ own 0", said + 1)

    def pid_of(self, stage: str) -> int:
        (pid,) = (each.pid for each in self.status().stages if each.stage == stage)
        assert pid is not None
        return pid

    def check_quiet(self) -> None:
        """No stream, nothing lost, nothing held."""
        status = self.status()
        states = {stage.stage: (stage.state, stage.pid) for stage in status.stages}
        assert {stage: states[stage] for stage in OF_ONE_STREAM} == dict.fromkeys(OF_ONE_STREAM, ("IDLE", None))
        assert status.frames.balanced, status.frames
        assert status.frames.in_flight == 0
        assert {slot.state for link in status.links for slot in link.slots} == {"FREE"}
        assert all(each.frames.balanced and each.frames.in_flight == 0 for each in status.streams), status.streams


@contextmanager
def running(folder: Path, film: Path, *, inference: dict[str, Any] | None = None, **changes: Any) -> Iterator[Node]:
    name = f"t-streams-{next(_numbers)}-{os.getpid()}"
    with RunningPipeline(on_request(name, inference or {}, **changes), folder) as pipeline:
        pipeline.wait_for("ready stage=relay")
        with ControlLine(control_endpoint(name)) as line:
            yield Node(pipeline, line, film)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, long_source: Path) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("node"), long_source) as node:
        node.pipeline.wait_for("active stage=inference")
        yield node


async def _record(url: str, file: Path) -> None:
    async with TrickleSubscriber(url, 0) as subscriber:
        with file.open("wb") as out:
            while (segment := await subscriber.next()) is not None:
                async for piece in segment:
                    out.write(piece)


@contextmanager
def viewer(node: Node, channel: str, file: Path) -> Iterator[None]:
    """Reads a channel of the relay's that is there, or about to be, into `file`. At last it waits for its end."""
    node.pipeline.wait_for(f"relay.channel_created stage=relay channel={channel} ")
    with ThreadPoolExecutor(1) as pool:
        recording = pool.submit(asyncio.run, _record(f"{node.relay}/{channel}", file))
        yield
        recording.result(PATIENCE_S)


def test_one_stream_comes_after_the_other_and_inference_stays(node: Node, tmp_path: Path) -> None:
    inference, epochs = node.pid_of("inference"), []
    assert node.status().state == "OK"
    for stream in ("a", "b"):
        with node.camera(f"{stream}-in"):
            assert node.start(stream).ok
            node.wait_until_online(stream)
            with viewer(node, f"{stream}-out", tmp_path / f"{stream}.ts"):
                node.wait_for_text(rf"{stream} \d+ own 0", FPS)
                running = node.status().streams[0]
                assert (running.spec.stream, running.state, running.ended) == (stream, "ONLINE", 0.0)
                assert node.stop(stream).ok
        over = node.status().streams[0]
        assert (over.spec.stream, over.state, over.reason) == (stream, "ENDED", "stopped on request")
        assert over.frames.delivered >= FPS
        assert over.end_to_end is not None
        assert over.end_to_end.total == over.frames.delivered, "its own, and not those of the stream before"
        assert over.began < over.ended
        assert over.first_in_ms is not None
        assert over.first_out_ms is not None
        assert 0 < over.first_in_ms < over.first_out_ms
        node.check_quiet()
        epochs.append(int(node.pipeline.wait_for(rf'text="{stream} (\d+) own 0"')[1]))
        report = verify_recording(tmp_path / f"{stream}.ts", FPS)
        assert report.frames >= FPS // 2
        assert (report.out_of_order, report.duplicates, report.unreadable) == (0, 0, 0)
    assert epochs[1] == epochs[0] + 1
    assert node.pid_of("inference") == inference


def test_a_source_that_ends_ends_the_stream_and_every_frame_of_it_is_accounted_for(node: Node) -> None:
    with node.camera("ends-in"):
        assert node.start("ends", width=128, height=64).ok
        node.wait_until_online("ends")
    over = node.wait_until_over("ends")
    assert (over.state, over.reason) == ("ENDED", "the source has ended")
    assert over.frames.delivered
    assert "shutdown" not in over.frames.dropped
    assert node.stop("ends").ok, "it is over, and that is what was asked for"
    node.check_quiet()


def test_a_source_that_never_comes_ends_the_stream(node: Node) -> None:
    assert node.start("nobody").ok
    over = node.wait_until_over("nobody")
    assert (over.state, over.frames.decoded) == ("ENDED", 0)
    assert over.reason == f"nothing came from {node.relay}/nobody-in for {SOURCE_TIMEOUT_S:g} s"
    assert over.first_in_ms is None
    assert over.first_out_ms is None
    node.check_quiet()


def test_a_stream_can_be_stopped_before_anything_has_come(node: Node) -> None:
    assert node.start("early").ok
    assert node.stop("early").ok
    assert node.wait_until_over("early").state == "ENDED"
    node.check_quiet()


@pytest.mark.parametrize("stage", ["ingress", "decode", "inference", "egress"])
def test_a_stream_goes_on_after_the_death_of(stage: str, node: Node) -> None:
    stream = f"killed-{stage}"
    with node.camera(f"{stream}-in"):
        assert node.start(stream).ok
        node.wait_until_online(stream)
        node.kill(stage)
        node.wait_for_more_frames(stream)
        assert node.stop(stream).ok
    over = node.wait_until_over(stream)
    assert (over.state, over.reason) == ("ENDED", "stopped on request")
    assert over.frames.dropped.get("poison", 0) == 0
    node.check_quiet()


@pytest.mark.parametrize("stage", OF_ONE_STREAM)
def test_a_stream_whose_stage_has_just_died_is_stopped_without_waiting_for_it(stage: str, node: Node) -> None:
    """Nor for a source that gives nothing."""
    stream = f"cut-{stage}"
    assert node.start(stream).ok
    for each in OF_ONE_STREAM:
        node.wait_for_stage(each, lambda found: found.state == "READY")
    node.kill_if_there(stage)
    assert node.stop(stream).ok
    over = node.wait_until_over(stream)
    assert (over.state, over.frames.decoded) == ("ENDED", 0)
    assert f"stream_drain_timeout stage=launcher stream={stream} " not in node.pipeline.log
    node.check_quiet()


def test_a_death_of_inference_between_two_streams_is_no_harm_to_the_next(node: Node) -> None:
    node.kill("inference")
    with node.camera("after-in"):
        assert node.start("after").ok
        node.wait_for_text(r"after \d+ own 0", FPS)
        assert node.stop("after").ok
    node.check_quiet()


def test_a_stage_that_keeps_dying_fails_the_stream_and_the_next_has_a_fresh_budget(node: Node) -> None:
    with node.camera("dies-in"):
        assert node.start("dies").ok
        node.wait_until_online("dies")
        node.kill("decode")
        node.kill("decode", comes_back=False)
        over = node.wait_until_over("dies")
    assert (over.state, over.reason) == ("FAILED", "decode: SIGKILL; 1 restarts in 60 s used up")
    assert node.status().state == "OK"
    node.check_quiet()
    with node.camera("lives-in"):
        assert node.start("lives").ok
        node.wait_until_online("lives")
        node.kill("decode")
        node.wait_for_more_frames("lives")
        assert node.stop("lives").ok
    node.check_quiet()


def test_a_server_that_does_not_let_us_write_fails_the_stream_and_only_that(node: Node) -> None:
    """The relay's token is for names on it; to a URL none is shown."""
    with node.camera("denied-in"):
        assert node.start("denied", publish_url=f"{node.relay}/denied-out").ok
        over = node.wait_until_over("denied")
    assert over.state == "FAILED"
    assert "status 401" in over.reason
    assert node.status().state == "OK"
    node.check_quiet()


def test_parameters_of_a_stream_are_in_force_from_its_first_frame_and_end_with_it(node: Node) -> None:
    with node.camera("params-in"):
        assert node.start("params", params={"other": 7}, labels={"customer": "x1"}).ok
        node.wait_for_text(r"params \d+ own 7")
        assert node.update(word="changed").ok
        node.wait_for_text(r"params \d+ changed 7")
        assert node.stop("params").ok
    with node.camera("plain-in"):
        assert node.start("plain").ok
        node.wait_for_text(r"plain \d+ own 0", FPS // 2)
        assert node.stop("plain").ok
    assert re.findall(r'text="params \d+ (.*)"', node.pipeline.log)[0] == "own 7"
    assert set(re.findall(r'text="plain \d+ (.*)"', node.pipeline.log)) == {"own 0"}
    node.pipeline.wait_for("stream_stopped stage=launcher stream=params .* label_customer=x1")


def test_parameters_that_the_processor_refuses_fail_the_stream(node: Node) -> None:
    assert node.start("refused", params={"strange": 1}).ok
    over = node.wait_until_over("refused")
    assert over.state == "FAILED"
    assert "parameters that it takes: word, other" in over.reason
    node.check_quiet()
    with node.camera("taken-in"):
        assert node.start("taken").ok
        node.wait_for_text(r"taken \d+ own 0")
        assert node.stop("taken").ok


def test_each_refusal_has_a_code_and_says_what_is_allowed(node: Node) -> None:
    assert node.stop("never").code == "unknown"
    answer = node.start("odd", width=255)
    assert (answer.ok, answer.code) == (False, "invalid")
    assert answer.text == "width: 255 is no size of a frame; allowed: even numbers from 16 to 8192"
    assert node.start("one").ok
    assert node.start("one").ok, "the very same again is no mistake"
    assert node.start("one", width=128).code == "exists"
    answer = node.start("two")
    assert (answer.ok, answer.code) == (False, "full")
    assert "one" in answer.text
    assert node.stop("one").ok
    assert node.stop("one").ok
    assert node.stop("two").code == "unknown"
    node.check_quiet()


def test_a_stage_that_has_no_stream_cannot_be_started_by_hand(node: Node) -> None:
    answer = node.restart("decode")
    assert (answer.ok, answer.text) == (False, "decode is not started: there is no stream")


def test_the_pipeline_stops_in_the_middle_of_a_stream_as_it_does_of_one_of_its_own(
    tmp_path: Path, long_source: Path
) -> None:
    with running(tmp_path, long_source) as node, node.camera("last-in"):
        assert node.start("last").ok
        node.wait_until_online("last")
        with viewer(node, "last-out", tmp_path / "last.ts"):
            node.wait_for_text(r"last \d+ own 0", FPS // 2)
            node.pipeline.signal(signal.SIGTERM)
        assert node.pipeline.end() == 0, node.pipeline.log
        status = node.pipeline.summary()
    assert status.state == "FINISHED"
    assert status.frames.balanced
    assert status.frames.in_flight == 0
    assert "shutdown" not in status.frames.dropped
    (over,) = status.streams
    assert (over.state, over.reason) == ("ENDED", "the pipeline is at its end")


@pytest.mark.parametrize(("while_loading", "code"), [("wait", ""), ("refuse", "loading")])
def test_a_request_while_the_model_loads(while_loading: str, code: str, tmp_path: Path, long_source: Path) -> None:
    streams = {"on_request": True, "while_loading": while_loading}
    allowed = tmp_path / "allowed"
    loads_when_allowed = TELLS | {"callable": "tests.integration.odd_ops:LoadsWhen", "params": {"mark": str(allowed)}}
    inference = {"processor": loads_when_allowed}
    with running(tmp_path, long_source, inference=inference, streams=streams) as node, node.camera("soon-in"):
        assert node.start("soon").code == code
        allowed.touch()
        node.pipeline.wait_for("active stage=inference")
        assert node.start("soon").ok
        node.wait_until_online("soon")
        assert node.stop("soon").ok
        node.check_quiet()


def test_who_takes_over_knows_the_stream(tmp_path: Path, long_source: Path) -> None:
    """A spare that was loaded before the stream began, and a stand-in."""
    inference = {"spares": 1, "while_away": "pass_through"}
    with running(tmp_path, long_source, inference=inference) as node:
        for stream in ("first", "second"):
            node.wait_for_spare()
            with node.camera(f"{stream}-in"):
                assert node.start(stream).ok
                node.wait_until_online(stream)
                node.kill("inference")
                node.wait_for_more_frames(stream)
                assert node.stop(stream).ok
            node.check_quiet()


def test_what_does_not_stop_in_time_is_killed_and_what_it_held_is_given_back(tmp_path: Path, long_source: Path) -> None:
    inference = {"processor": {"callable": "tests.integration.odd_ops:slow", "params": {"seconds": 60.0}}}
    with running(tmp_path, long_source, inference=inference, limits={"drain": 1.0}) as node, node.camera("stuck-in"):
        node.pipeline.wait_for("active stage=inference")
        dead = node.pid_of("inference")
        assert node.start("stuck").ok
        node.wait_for_stage("inference", lambda stage: stage.units_in > 0)
        assert node.stop("stuck").ok
        over = node.wait_until_over("stuck")
        assert over.frames.dropped["shutdown"] >= 1
        assert over.frames.delivered == 0
        node.check_quiet()
        node.wait_for_stage("inference", lambda stage: stage.state == "READY" and stage.pid != dead)
        assert node.status().state == "OK"


def test_inference_that_is_given_up_fails_the_stream_and_the_next_request_tries_it_again(
    tmp_path: Path, long_source: Path
) -> None:
    inference = {"restart": {"max_restarts": 0, "window": 60}}
    with running(tmp_path, long_source, inference=inference) as node, node.camera("lost-in"), node.camera("again-in"):
        assert node.start("lost").ok
        node.wait_until_online("lost")
        node.kill("inference", comes_back=False)
        over = node.wait_until_over("lost")
        assert (over.state, over.reason) == ("FAILED", "inference: SIGKILL; 0 restarts in 60 s used up")
        assert node.status().state == "DEGRADED"
        node.check_quiet()
        assert node.start("again").ok
        node.wait_until_online("again")
        assert node.status().state == "OK"
        assert node.stop("again").ok
        node.check_quiet()


def test_what_is_changed_between_two_streams_stays(tmp_path: Path, long_source: Path) -> None:
    with running(tmp_path, long_source) as node, node.camera("in"):
        node.pipeline.wait_for("active stage=inference")
        assert node.update(word="mine").ok
        assert node.start("one", subscribe_url="in", params={"word": "theirs", "other": 3}).ok
        node.wait_for_text(r"one \d+ theirs 3")
        assert node.stop("one").ok
        assert node.start("two", subscribe_url="in").ok
        node.wait_for_text(r"two \d+ mine 0")
        topology = yaml.safe_load(node.pipeline.file.read_text())
        topology["stages"]["inference"]["processor"]["params"] = {"word": "file's"}
        node.pipeline.file.write_text(yaml.safe_dump(topology))
        node.pipeline.signal(signal.SIGHUP)
        node.wait_for_text(r"two \d+ file's 0")
        assert node.stop("two").ok
        assert node.start("three", subscribe_url="in").ok
        node.wait_for_text(r"three \d+ file's 0")
        assert node.stop("three").ok
        node.check_quiet()
