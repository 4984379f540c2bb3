"""A thousand viewers of one channel, against a relay in a process of its own, whose memory can be looked at."""

import asyncio
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trickle.wire import Raw, connect

READERS = 1000
DESCRIPTORS = 2 * READERS + 200
SEGMENT = bytes(256 * 1024)
MOST_RELAY_MIB = 128
"""What the relay may grow by while none of them reads: a piece for each that is stuck, not a quarter of a GiB."""

SMALL_BUFFER_BYTES = 4096
"""Of the readers' systems, so that what they have not read is the relay's to hold."""

RELAY = """
import asyncio, sys
from pipeline.trickle.server import serve

async def main():
    relay = await serve("127.0.0.1", 0)
    print(relay.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await relay.close()

asyncio.run(main())
"""


@pytest.fixture
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"{READERS} readers need {DESCRIPTORS} descriptors; the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def relay_process(descriptors: None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", RELAY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()
        assert process.wait(20) == 0


def peak_mib(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


async def test_a_thousand_waiting_readers_get_the_segment_and_memory_stays_bounded(
    relay_process: subprocess.Popen[str],
) -> None:
    port = int(relay_process.stdout.readline())
    readers = [await _waiting_reader(port) for _ in range(READERS)]
    async with connect(port) as writer:
        before = peak_mib(relay_process)
        await writer.begin_post("/c/0")
        await writer.chunk(SEGMENT)
        assert (await writer.end_post()).status == 200
        assert peak_mib(relay_process) - before < MOST_RELAY_MIB

        assert await asyncio.gather(*[_take(raw) for raw in readers]) == [len(SEGMENT)] * READERS
    for raw in readers:
        raw.close()


async def _waiting_reader(port: int) -> Raw:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    connection.connect(("127.0.0.1", port))
    raw = Raw(*await asyncio.open_connection(sock=connection, limit=SMALL_BUFFER_BYTES))
    await raw.send("POST /c HTTP/1.1\nHost: x\nContent-Length: 0\n\nGET /c/0 HTTP/1.1\nHost: x\n\n")
    await raw.head()
    return raw


async def _take(raw: Raw) -> int:
    await raw.head()
    return sum([len(piece) async for piece in raw.chunks()])
