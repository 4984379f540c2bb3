"""A server that vanishes without a word, with its network: in a network namespace of its own, which is taken down.

The limits are a few seconds there instead of a minute, and the system does the rest as it would.
"""

import os
import subprocess
import sys

import pytest

ISOLATE = ["unshare", "--map-root-user", "--net"]

SCRIPT = """
import asyncio, fcntl, socket, struct, sys
from pipeline.trickle import TrickleConnectionError, TricklePublisher, TrickleSubscriber, http1
from pipeline.trickle.server import serve

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
http1.PEER_LOST_S, http1.KEEPALIVE_IDLE_S, http1.KEEPALIVE_INTERVAL_S = 3, 1, 1


def network(up):
    with socket.socket() as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP if up else 0))


async def reading(port):
    async with TrickleSubscriber(f"http://127.0.0.1:{port}/a", 0, max_retries=0) as subscriber:
        segment = await subscriber.next()
        assert await segment.read() == b"half"
        network(up=False)
        await segment.read()


async def waiting(port):
    async with TrickleSubscriber(f"http://127.0.0.1:{port}/a", 1, max_retries=0) as subscriber:
        asyncio.get_running_loop().call_later(0.3, network, False)
        await subscriber.next()


async def writing(port):
    publisher = TricklePublisher(f"http://127.0.0.1:{port}/b")
    segment = await publisher.next()
    await segment.write(b"arrives")
    network(up=False)
    while True:
        await segment.write(bytes(1024))
        await asyncio.sleep(0.1)


async def main(what):
    network(up=True)
    relay = await serve("127.0.0.1", 0)
    relay.trickle.create_channel("a", "")
    channel = relay.trickle.channels.get("a")
    channel.append(channel.for_write(0), b"half", 0.0)
    try:
        async with asyncio.timeout(20):
            await globals()[what](relay.port)
    except TrickleConnectionError as error:
        print("noticed:", error)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def isolated() -> None:
    try:
        done = subprocess.run([*ISOLATE, "true"], capture_output=True, timeout=10)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode:
        pytest.skip("this system lets nobody make a network namespace")


@pytest.mark.parametrize("what", ["reading", "waiting", "writing"])
def test_a_server_that_vanishes_with_its_network_is_noticed(isolated: None, what: str) -> None:
    done = subprocess.run(
        [*ISOLATE, sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, timeout=60, cwd=os.getcwd()
    )

    assert done.stdout.startswith("noticed: http://127.0.0.1:"), done.stderr
