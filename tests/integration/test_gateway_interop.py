"""livepeer-gateway 1.0.0, in an interpreter of its own, against our relay and our client in both directions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pipeline.channel_address import ChannelAddress
from pipeline.live_publisher import publish_live
from pipeline.media.pattern import write_pattern
from pipeline.media.verify import verify_recording
from pipeline.memory.stage_stats import STATS_BYTES, StageStats
from pipeline.trickle import TrickleSubscriber
from pipeline.trickle.server import RunningServer
from tests.integration.peers import (
    CHANNEL,
    PIECE_BYTES,
    RESULT,
    SEGMENTS,
    check_that_it_reads_what_we_publish,
    peer,
    record,
    relay_with_channels,
    write_random_segments,
)

# It asks for the next number, resets what is below, and removes the channel when it closes.
PUBLISH = """
import asyncio, pathlib, sys
from livepeer_gateway import TricklePublisher

async def main(url, piece, files):
    async with TricklePublisher(url, "video/MP2T") as publisher:
        await publisher.create()
        for file in files:
            async with await publisher.next() as segment:
                data = pathlib.Path(file).read_bytes()
                for start in range(0, len(data), piece):
                    await segment.write(data[start:start + piece])
            sys.stdin.readline()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
"""

SUBSCRIBE = """
import asyncio, pathlib, sys
from livepeer_gateway import TrickleSubscriber

async def main(url, folder):
    print("ready", flush=True)
    async with TrickleSubscriber(url, start_seq=0) as subscriber:
        while (segment := await subscriber.next()) is not None:
            reader, data = segment.make_reader(), b""
            while chunk := await reader.read():
                data += chunk
            if data:
                path = folder / f"{segment.seq():04}"
                path.write_bytes(data)
                print(path.name, flush=True)

asyncio.run(main(sys.argv[1], pathlib.Path(sys.argv[2])))
"""

# Decodes one channel and encodes into another, as an application on the SDK does.
PASS_ON = """
import asyncio, sys
from livepeer_gateway import MediaOutput, MediaPublish

async def main(source, result):
    publish = MediaPublish(result)
    print("ready", flush=True)
    async with MediaOutput(source) as media:
        async for frame in media.frames():
            if frame.kind == "video":
                await publish.write_frame(frame.frame)
    await publish.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def relay() -> AsyncIterator[RunningServer]:
    async with relay_with_channels() as relay:
        yield relay


@pytest.fixture
def url(relay: RunningServer) -> str:
    return f"http://127.0.0.1:{relay.port}/{CHANNEL}"


async def test_what_the_sdk_publishes_our_subscriber_reads_segment_by_segment_to_the_end(
    url: str, tmp_path: Path
) -> None:
    files = write_random_segments(tmp_path)
    async with peer(PUBLISH, url, PIECE_BYTES, *files) as publisher, TrickleSubscriber(url, 0) as subscriber:
        for seq in range(SEGMENTS):
            segment = await subscriber.next()
            assert segment is not None
            assert (segment.seq(), segment.discontinuity) == (seq, False)
            assert b"".join([piece async for piece in segment]) == files[seq].read_bytes()
            publisher.tell("go on")

        assert await subscriber.next() is None
        assert await publisher.end() == 0


async def test_what_our_publisher_writes_the_sdk_reads_segment_by_segment_to_the_end(url: str, tmp_path: Path) -> None:
    await check_that_it_reads_what_we_publish(SUBSCRIBE, url, tmp_path)


async def test_the_sdk_decodes_what_we_play_live_and_we_read_what_it_encodes(
    relay: RunningServer, url: str, tmp_path: Path, slab_fd: Callable[[int], int]
) -> None:
    source, result = tmp_path / "source.ts", tmp_path / "result.ts"
    write_pattern(source, 256, 256, fps=15, seconds=2)
    result_url = f"http://127.0.0.1:{relay.port}/{RESULT}"
    async with peer(PASS_ON, url, result_url) as application:
        assert await application.line() == "ready"
        recording = asyncio.create_task(record(result_url, result))
        await publish_live(str(source), ChannelAddress(url), StageStats(slab_fd(STATS_BYTES)), asyncio.Event())
        assert await application.end() == 0
        await recording

    report = verify_recording(result, 15)
    assert report.frames > 10
    assert (report.inverted, report.duplicates, report.out_of_order, report.unreadable) == (0, 0, 0, 0)
