"""A relay that is killed while a segment is being written, and a new one in its place: real processes, real kills."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.trickle import SegmentWriter, TrickleConnectionError, TricklePublisher, TrickleSubscriber
from tests.trickle.wire import until, url

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from pipeline.trickle.server import serve

async def main():
    relay = await serve("127.0.0.1", int(sys.argv[1]))
    print(relay.port, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class RelayProcess:
    def __init__(self, port: int = 0) -> None:
        command = [sys.executable, "-c", PROGRAM, str(port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def run_relay() -> Iterator[Callable[..., RelayProcess]]:
    started: list[RelayProcess] = []

    def run(port: int = 0) -> RelayProcess:
        started.append(RelayProcess(port))
        return started[-1]

    yield run
    for process in started:
        process.kill()


async def write_until_it_fails(segment: SegmentWriter) -> None:
    for _ in range(1000):
        await segment.write(b"rest")
        await asyncio.sleep(0)


@pytest.mark.parametrize("seq", [0, 1])
async def test_a_server_killed_inside_a_segment_costs_that_segment_alone_and_its_writer_is_told(
    run_relay: Callable[..., RelayProcess], seq: int
) -> None:
    old = run_relay()
    publisher = TricklePublisher(url(old.port))
    await publisher.create()
    async with TrickleSubscriber(url(old.port), 0) as subscriber:
        for _ in range(seq):
            async with await publisher.next() as before:
                await before.write(b"before")
            assert await (await subscriber.next()).read() == b"before"
        segment = await publisher.next()
        await segment.write(b"half")
        assert await (await subscriber.next()).read() == b"half"
    old.kill()
    run_relay(old.port)

    with pytest.raises(TrickleConnectionError):
        await write_until_it_fails(segment)
    for text in (b"anew", b"goes on"):
        async with await publisher.next() as following:
            await following.write(text)

    async with TrickleSubscriber(url(old.port), 0) as subscriber:
        assert [await (await subscriber.next()).read() for _ in range(2)] == [b"anew", b"goes on"]
        assert following.seq() == 1
        await publisher.close()
        assert await subscriber.next() is None


async def test_next_may_be_called_until_a_killed_server_is_back(run_relay: Callable[..., RelayProcess]) -> None:
    old = run_relay()
    publisher = TricklePublisher(url(old.port))
    async with await publisher.next() as segment:
        await segment.write(b"before")
    old.kill()
    await until(lambda: publisher._ahead.result().lost)

    for _ in range(3):
        with pytest.raises(TrickleConnectionError, match=f"127.0.0.1:{old.port}"):
            await publisher.next()
    run_relay(old.port)
    async with await publisher.next() as segment:
        await segment.write(b"anew")

    assert (segment.seq(), segment.confirmed) == (0, True)
    with suppress(TrickleConnectionError):
        await publisher.close()
