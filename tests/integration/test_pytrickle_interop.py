"""pytrickle 0.1.6, in an interpreter of its own, against our relay and our client in both directions."""

import asyncio
import hashlib
import json
import random
import sys
from pathlib import Path

import pytest

from pipeline.trickle import TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import serve

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-pytrickle" / "bin" / "python"
CHANNEL = "interop"
SEGMENTS = 12
# Over 32 KiB and of odd sizes, so that no piece of either side falls together with one of the other.
SIZES = [random.Random(seq).randrange(1, 300_000) for seq in range(SEGMENTS)]

# Its next() hands out the wrong writer when it is called again before its background task ran, and its close() cancels
# the last segment, hence the two waits.
PUBLISH = """
import asyncio, random, sys
from pytrickle.publisher import TricklePublisher

async def main(url, sizes):
    async with TricklePublisher(url, "video/MP2T") as publisher:
        for seq, size in enumerate(sizes):
            segment = await publisher.next()
            data = random.Random(seq).randbytes(size)
            for start in range(0, size, 10_000):
                await segment.write(data[start:start + 10_000])
            await segment.close()
            while publisher.idx == seq:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.15)
        print("published", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main(sys.argv[1], [int(size) for size in sys.argv[2:]]))
"""

SUBSCRIBE = """
import asyncio, hashlib, json, sys
from pytrickle.subscriber import TrickleSubscriber

async def main(url):
    async with TrickleSubscriber(url, 0) as subscriber:
        while (segment := await subscriber.next()) is not None:
            digest, size = hashlib.sha256(), 0
            while chunk := await segment.read():
                digest.update(chunk)
                size += len(chunk)
            if size:
                print(json.dumps([segment.seq(), digest.hexdigest()]), flush=True)

asyncio.run(main(sys.argv[1]))
"""


def content(seq: int) -> bytes:
    return random.Random(seq).randbytes(SIZES[seq])


def digests() -> list[tuple[int, str]]:
    return [(seq, hashlib.sha256(content(seq)).hexdigest()) for seq in range(SEGMENTS)]


async def start(script: str, *arguments: str) -> asyncio.subprocess.Process:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON.relative_to(ROOT)} is missing; run `make test`, which installs pytrickle there")
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        str(PYTHON), "-c", script, *arguments, stdin=pipe, stdout=pipe, stderr=sys.stderr
    )


async def stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_what_pytrickle_publishes_our_subscriber_reads_segment_by_segment() -> None:
    relay = await serve("127.0.0.1", 0)
    relay.trickle.create_channel(CHANNEL, "video/MP2T")
    url = f"http://127.0.0.1:{relay.port}/{CHANNEL}"
    process = await start(PUBLISH, url, *map(str, SIZES))
    received = []
    try:
        async with TrickleSubscriber(url, 0) as subscriber:
            while len(received) < SEGMENTS:
                segment = await subscriber.next()
                assert segment is not None
                data = b"".join([piece async for piece in segment])
                received.append((segment.seq(), hashlib.sha256(data).hexdigest()))
                assert not segment.discontinuity
            assert await process.stdout.readline() == b"published\n"
            relay.trickle.channels.remove(CHANNEL)

            assert await subscriber.next() is None
    finally:
        await stop(process)
        await relay.close()

    assert received == digests()


async def test_what_our_publisher_writes_pytrickle_reads_segment_by_segment_to_the_end() -> None:
    relay = await serve("127.0.0.1", 0)
    relay.trickle.create_channel(CHANNEL, "video/MP2T")
    url = f"http://127.0.0.1:{relay.port}/{CHANNEL}"
    process = await start(SUBSCRIBE, url)
    received = []
    try:
        async with TricklePublisher(url) as publisher:
            for seq in range(SEGMENTS):
                async with await publisher.next() as segment:
                    for offset in range(0, SIZES[seq], 10_000):
                        await segment.write(content(seq)[offset : offset + 10_000])
                # It waits for what it was told of, so that a window of five segments is never left behind.
                received.append(tuple(json.loads(await process.stdout.readline())))
        async with asyncio.timeout(30):
            assert await process.stdout.read() == b""
            assert await process.wait() == 0
    finally:
        await stop(process)
        await relay.close()

    assert received == digests()
