"""The real thing for each test: a relay on a free port, and as many more as it asks for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from pipeline.trickle.server import RunningServer, serve

StartRelay = Callable[..., Awaitable[RunningServer]]


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
