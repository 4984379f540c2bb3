"""pytrickle 0.1.6, in an interpreter of its own: its clients and its StreamProcessor on our relay, our pipeline."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pipeline.channel_address import ChannelAddress
from pipeline.live_publisher import publish_live
from pipeline.media.pattern import write_pattern
from pipeline.media.verify import verify_recording
from pipeline.memory.stage_stats import STATS_BYTES, StageStats
from pipeline.trickle import TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer
from tests.integration.conftest import FPS, SECONDS
from tests.integration.peers import (
    CHANNEL,
    PIECE_BYTES,
    RESULT,
    SEGMENTS,
    check_that_it_reads_what_we_publish,
    peer,
    record,
    relay_with_channels,
    write_media_segments,
    write_random_segments,
)
from tests.integration.running import RunningPipeline, topology

Launch = Callable[..., RunningPipeline]

# It waits for a word, so that it can be imported ahead. Its next() hands out the wrong writer when it is called again
# before its background task ran, and its close() cancels the last segment, hence the two waits.
PUBLISH = """
import asyncio, pathlib, sys
from pytrickle.publisher import TricklePublisher

async def main(url, piece, files):
    sys.stdin.readline()
    async with TricklePublisher(url, "video/MP2T") as publisher:
        for seq, file in enumerate(files):
            segment = await publisher.next()
            data = pathlib.Path(file).read_bytes()
            for start in range(0, len(data), piece):
                await segment.write(data[start:start + piece])
            await segment.close()
            while publisher.idx == seq:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.15)
        print("published", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
"""

SUBSCRIBE = """
import asyncio, pathlib, sys
from pytrickle.subscriber import TrickleSubscriber

async def main(url, folder):
    print("ready", flush=True)
    async with TrickleSubscriber(url, 0) as subscriber:
        while (segment := await subscriber.next()) is not None:
            data = b""
            while chunk := await segment.read():
                data += chunk
            if data:
                path = folder / f"{segment.seq():04}"
                path.write_bytes(data)
                print(path.name, flush=True)

asyncio.run(main(sys.argv[1], pathlib.Path(sys.argv[2])))
"""

# What run_forever() does, but on a port that the system chooses. Its publisher removes no channel and its close() cuts
# what is under way, so "ended" comes only after it has closed.
PROCESS_STREAM = """
import asyncio, sys
import aiohttp
from pytrickle.stream_processor import StreamProcessor

async def invert(frame):
    return frame.replace_tensor(1 - frame.tensor)

async def pass_on(frame):
    return [frame]

async def main(source, result, size):
    processor = StreamProcessor(video_processor=invert, audio_processor=pass_on, host="127.0.0.1", port=0)
    server = processor.server
    runner = await server.start_server()
    job = {"subscribe_url": source, "publish_url": result, "gateway_request_id": "interop",
           "params": {"width": size, "height": size, "max_framerate": 60}}
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/stream/start"
        async with session.post(url, json=job) as reply:
            print((await reply.json())["status"], flush=True)
    await server._client_task
    print("ended", flush=True)
    await server.stop()
    await runner.cleanup()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
async def relay() -> AsyncIterator[RunningServer]:
    async with relay_with_channels() as relay:
        yield relay


@pytest.fixture
def url(relay: RunningServer) -> str:
    return f"http://127.0.0.1:{relay.port}/{CHANNEL}"


async def test_what_pytrickle_publishes_our_subscriber_reads_segment_by_segment(
    relay: RunningServer, url: str, tmp_path: Path
) -> None:
    files = write_random_segments(tmp_path)
    async with peer(PUBLISH, url, PIECE_BYTES, *files) as publisher, TrickleSubscriber(url, 0) as subscriber:
        publisher.tell("begin")
        for seq in range(SEGMENTS):
            segment = await subscriber.next()
            assert segment is not None
            assert (segment.seq(), segment.discontinuity) == (seq, False)
            assert b"".join([piece async for piece in segment]) == files[seq].read_bytes()
        assert await publisher.line() == "published"
        relay.trickle.channels.remove(CHANNEL)

        assert await subscriber.next() is None


async def test_what_our_publisher_writes_pytrickle_reads_segment_by_segment_to_the_end(
    url: str, tmp_path: Path
) -> None:
    await check_that_it_reads_what_we_publish(SUBSCRIBE, url, tmp_path)


async def test_its_stream_processor_works_from_one_channel_of_our_relay_to_another(
    relay: RunningServer, url: str, tmp_path: Path, slab_fd: Callable[[int], int]
) -> None:
    source, result = tmp_path / "source.ts", tmp_path / "result.ts"
    write_pattern(source, 256, 256, fps=15, seconds=2)
    result_url = f"http://127.0.0.1:{relay.port}/{RESULT}"
    async with peer(PROCESS_STREAM, url, result_url, 256) as processor:
        assert await processor.line() == "success"
        recording = asyncio.create_task(record(result_url, result))
        await publish_live(str(source), ChannelAddress(url), StageStats(slab_fd(STATS_BYTES)), asyncio.Event())
        assert await processor.line() == "ended"
        relay.trickle.channels.remove(RESULT)
        await recording
        assert await processor.end() == 0

    report = verify_recording(result, 15)
    # It leaves out frames when it is late, and those that are under way when the stream ends.
    assert report.frames > 10
    assert (report.inverted, report.duplicates, report.out_of_order, report.unreadable) == (report.frames, 0, 0, 0)


async def test_pytrickle_feeds_our_pipeline_and_reads_what_comes_out(
    launch: Launch, source: Path, tmp_path: Path
) -> None:
    stages = topology("unused", tmp_path, None)["stages"]
    del stages["recorder"]
    channels = {"input": "video/MP2T", "output": "video/MP2T"}  # there before either of its clients asks for them
    pipeline = launch(None, relay={"port": 0, "channels": channels}, stages=stages)
    base = await asyncio.to_thread(pipeline.url_of, "relay")
    (seen := tmp_path / "seen").mkdir()
    async with (
        peer(SUBSCRIBE, f"{base}/output", seen) as subscriber,
        peer(PUBLISH, f"{base}/input", PIECE_BYTES, *write_media_segments(source, tmp_path)) as publisher,
    ):
        await asyncio.to_thread(pipeline.wait_for, "ready stage=ingress")
        assert await subscriber.line() == "ready"
        publisher.tell("begin")
        assert await publisher.line() == "published"
        await TricklePublisher(f"{base}/input").close()  # for pytrickle's own close() does not end the stream

        assert await asyncio.to_thread(pipeline.end) == 0, pipeline.log
        assert await subscriber.end() == 0

    result = tmp_path / "result.ts"
    result.write_bytes(b"".join(path.read_bytes() for path in sorted(seen.iterdir())))
    report = verify_recording(result, FPS)
    frames = FPS * SECONDS
    assert (report.frames, report.inverted, report.missing, report.duplicates) == (frames, frames, 0, 0)
    assert (report.out_of_order, report.unreadable) == (0, 0)
    assert report.max_audio_offset_ms is not None
    assert report.max_audio_offset_ms < 40
