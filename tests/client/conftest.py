"""A node's HTTP service and a relay, both real and on free ports, and a client that knows them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pipeline.client import ComfyStreamTrickleClient
from pipeline.media.pattern import write_pattern
from pipeline.trickle.server import RunningServer, serve
from tests.client.node import Node

StartRelay = Callable[..., Awaitable[RunningServer]]


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.start()
    yield node
    await node.close()


@pytest.fixture
async def start_relay() -> AsyncIterator[StartRelay]:
    async with AsyncExitStack() as stack:

        async def start(**options: object) -> RunningServer:
            relay = await serve("127.0.0.1", options.pop("port", 0), **options)
            stack.push_async_callback(relay.close)
            return relay

        yield start


@pytest.fixture
async def relay(start_relay: StartRelay) -> RunningServer:
    return await start_relay()


@pytest.fixture
async def client(node: Node, relay: RunningServer) -> AsyncIterator[ComfyStreamTrickleClient]:
    """Reads what it writes: nothing is between its input and its output."""
    async with ComfyStreamTrickleClient("127.0.0.1", node.port, media_ports=(relay.port, relay.port)) as client:
        client.publish_url = client.subscribe_url
        yield client


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 s of numbered pictures at 30 fps, H.264 and AAC, a keyframe each half second."""
    path = tmp_path_factory.mktemp("clip") / "clip.ts"
    write_pattern(path, 320, 180, 30, 2, gop_seconds=0.5)
    return path
