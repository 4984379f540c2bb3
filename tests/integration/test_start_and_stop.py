"""Starting and stopping as a person does it, and what is left behind: nothing."""

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.media.file_source import TsFileSource
from pipeline.media.verify import verify_recording
from pipeline.trickle.publisher import TricklePublisher
from tests.integration.conftest import FPS
from tests.integration.running import PATIENCE_S, ROOT, RunningPipeline, wait_until_gone

Launch = Callable[..., RunningPipeline]


def nothing_stays_in_shared_memory(before: set[str]) -> bool:
    """Whatever else runs on this machine comes and goes there; what a pipeline left behind would stay."""
    new = set(os.listdir("/dev/shm")) - before
    deadline = time.monotonic() + PATIENCE_S
    while new and time.monotonic() < deadline:
        time.sleep(0.1)
        new &= set(os.listdir("/dev/shm"))
    return not new


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_stream_and_leaves_nothing(
    number: signal.Signals, launch: Launch, source: Path, tmp_path: Path
) -> None:
    shared_memory = set(os.listdir("/dev/shm"))
    pipeline = launch(source)
    pipeline.wait_for("first_segment")
    pipeline.wait_for("relay.channel_created stage=relay channel=output")
    pids = pipeline.pids()

    pipeline.signal(number)

    assert pipeline.end() == 0, pipeline.log
    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.in_flight == 0
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.frames == frames.delivered > 0, "the last segment was flushed and recorded"
    assert all(wait_until_gone(pid) for pid in pids)
    assert not pipeline.folder.exists()
    assert nothing_stays_in_shared_memory(shared_memory)


def test_a_stage_that_is_slow_to_leave_is_not_taken_for_dead(launch: Launch, source: Path) -> None:
    pipeline = launch(
        source,
        stages__inference__limits={"heartbeat": 1.0},
        stages__inference__processor={"callable": "tests.integration.odd_ops:slow_to_leave"},
    )

    assert pipeline.end() == 0, pipeline.log
    assert "hanging" not in pipeline.log
    assert {stage.restarts for stage in pipeline.summary().stages} == {0}


def test_a_second_signal_does_not_wait(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__inference__processor={"callable": "tests.integration.odd_ops:stuck"})
    pipeline.wait_for(r"stage=inference \| has a picture")
    pids = pipeline.pids()

    pipeline.signal(signal.SIGINT)
    pipeline.wait_for("draining stage=launcher")
    pipeline.signal(signal.SIGINT)

    assert pipeline.end() == 1
    assert all(wait_until_gone(pid) for pid in pids)
    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.dropped.keys() == {"shutdown"}


async def test_a_source_that_comes_late_is_waited_for(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(None)
    await asyncio.to_thread(pipeline.wait_for, "waiting_for_source stage=ingress url=http://127.0.0.1")
    await asyncio.to_thread(pipeline.wait_for, "ready stage=inference")
    relay = await asyncio.to_thread(pipeline.url_of, "relay")

    await publish(source, f"{relay}/input")

    assert await asyncio.to_thread(pipeline.end) == 0, pipeline.log
    assert verify_recording(tmp_path / "seen.mp4", FPS).missing == 0


async def test_bytes_that_are_not_mpeg_ts_are_an_error_and_no_end(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(None)
    await asyncio.to_thread(pipeline.wait_for, "ready stage=inference")
    relay = await asyncio.to_thread(pipeline.url_of, "relay")
    noise = random.Random(1).randbytes(200_000)

    async with TricklePublisher(f"{relay}/input") as publisher:
        await publisher.create()
        async with await publisher.next() as segment:
            await segment.write(noise)
        await asyncio.to_thread(pipeline.wait_for, "ERROR input_not_mpeg_ts stage=decode stream=main")
        await publish_into(publisher, source)

    assert await asyncio.to_thread(pipeline.end) == 0, pipeline.log
    assert pipeline.summary().frames.delivered > 0, "the stream went on with what followed"
    assert {stage.restarts for stage in pipeline.summary().stages} == {0}


def test_a_port_in_use_is_named_with_its_key(launch: Launch, source: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        pipeline = launch(source, relay={"port": port})

        assert pipeline.end() == 2
    assert len(pipeline.lines) == 1
    assert pipeline.lines[0].startswith(f"relay.port: cannot listen on 127.0.0.1 port {port}: Address already in use")


def test_a_mistake_in_the_topology_is_one_line_and_exit_2(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__egress__encoder={"codex": "libx264"})

    assert pipeline.end() == 2
    assert len(pipeline.lines) == 1
    assert "stages.egress.encoder.codex: unknown key; allowed here: codec, preset" in pipeline.lines[0]


def test_a_processor_that_is_not_there_ends_the_run_with_its_key(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__inference__processor={"callable": "pipeline.processors.torch_ops:edgez"})

    assert pipeline.end() == 2
    pipeline.wait_for("stages.inference.processor.callable: .*has no edgez; it has .*edges")
    assert "Traceback" not in pipeline.log


def test_a_missing_input_file_ends_the_run_with_its_key(launch: Launch, tmp_path: Path) -> None:
    pipeline = launch(tmp_path / "nothing.mp4")

    assert pipeline.end() == 2
    pipeline.wait_for("stages.publisher.file: .*nothing.mp4")
    assert "Traceback" not in pipeline.log


def test_a_second_pipeline_of_the_same_name_is_refused(launch: Launch, long_source: Path) -> None:
    first = launch(long_source)
    first.wait_for("ready stage=relay")

    second = subprocess.run(
        [sys.executable, "launcher.py", "run", str(first.file)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert second.returncode == 2
    assert f"is running already, pid {first.process.pid}" in second.stderr


async def publish(source: Path, url: str) -> None:
    async with TricklePublisher(url) as publisher:
        await publisher.create()
        await publish_into(publisher, source)


async def publish_into(publisher: TricklePublisher, source: Path) -> None:
    """Publish a file at the pace at which its pictures are due: a live relay keeps five segments and no more."""
    started = asyncio.get_running_loop().time()
    segment = None
    for chunk in TsFileSource(source):
        await asyncio.sleep(max(0.0, started + chunk.pts_seconds - asyncio.get_running_loop().time()))
        if segment is None:
            segment = await publisher.next()
        await segment.write(chunk.data)
        if chunk.last:
            await segment.close()
            segment = None


def test_frames_stay_in_host_memory_where_there_is_no_gpu(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(source, frame_memory="cuda-ipc")
    chosen = pipeline.wait_for(r"frame_memory stage=launcher chosen=(\S+)")[1]
    assert pipeline.end() == 0, pipeline.log
    if chosen == "host":
        assert re.search("WARNING frame_memory .*reason=.*no (cuda-bindings|NVIDIA driver|CUDA)", pipeline.log)
    frames = pipeline.summary().frames
    assert frames.decoded == frames.delivered
    assert verify_recording(tmp_path / "seen.mp4", FPS).in_order
