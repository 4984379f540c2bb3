"""Other makers' SDKs for trickle: scripts that use them, in an interpreter that has them, and what they are given."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pipeline.media.file_source import TsFileSource
from pipeline.trickle import TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer, serve

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-pytrickle" / "bin" / "python"

SEGMENTS = 12
MAX_SEGMENT_BYTES = 300_000
PIECE_BYTES = 10_000
CHANNEL, RESULT = "interop", "result"


class Peer:
    """A script that runs: what it prints, and how it ended."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """The next line that it prints; "" after its end."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().rstrip("\n")

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def end(self) -> int:
        """Wait for its end; its exit code."""
        return await self._process.wait()


@asynccontextmanager
async def peer(script: str, *arguments: object) -> AsyncIterator[Peer]:
    """Run `script`; ended with the block, however that is left."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON.relative_to(ROOT)} is missing; run `make test`, which installs the peers there")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), "-c", script, *map(str, arguments), stdin=pipe, stdout=pipe, stderr=sys.stderr
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def relay_with_channels() -> AsyncIterator[RunningServer]:
    """Our relay, with CHANNEL and RESULT to write and read."""
    relay = await serve("127.0.0.1", 0)
    try:
        for name in (CHANNEL, RESULT):
            relay.trickle.create_channel(name, "video/MP2T")
        yield relay
    finally:
        await relay.close()


def write_random_segments(folder: Path) -> list[Path]:
    """One file a segment, over 32 KiB or not and of odd sizes, so that no piece of either side falls together with one
    of the other."""
    dice = random.Random(1)
    paths = [folder / f"{seq:02}.bin" for seq in range(SEGMENTS)]
    for path in paths:
        path.write_bytes(dice.randbytes(dice.randrange(1, MAX_SEGMENT_BYTES)))
    return paths


def write_media_segments(source: Path, folder: Path) -> list[Path]:
    """The segments of a media file, a file each, as a trickle publisher would cut them."""
    paths: list[Path] = []
    for chunk in TsFileSource(source):
        if chunk.segment_index == len(paths):
            paths.append(folder / f"{chunk.segment_index:02}.ts")
        with paths[-1].open("ab") as file:
            file.write(chunk.data)
    return paths


async def check_that_it_reads_what_we_publish(script: str, url: str, folder: Path) -> None:
    """`script` is given the channel and `folder`; it says "ready", puts each segment into a file there and prints its
    number."""
    async with peer(script, url, folder) as subscriber:
        assert await subscriber.line() == "ready"
        async with TricklePublisher(url) as publisher:
            for seq, file in enumerate(write_random_segments(folder)):
                data = file.read_bytes()
                async with await publisher.next() as segment:
                    for offset in range(0, len(data), PIECE_BYTES):
                        await segment.write(data[offset : offset + PIECE_BYTES])
                # It waits for what it was told of, so that a window of five segments is never left behind.
                assert await subscriber.line() == f"{seq:04}"
                assert (folder / f"{seq:04}").read_bytes() == data

        assert await subscriber.line() == ""
        assert await subscriber.end() == 0


async def record(url: str, path: Path) -> None:
    """Write what our subscriber reads of a channel, from segment 0 to its end, one segment after the other."""
    async with TrickleSubscriber(url, 0) as subscriber:
        with path.open("wb") as file:
            while (segment := await subscriber.next()) is not None:
                async for piece in segment:
                    file.write(piece)
