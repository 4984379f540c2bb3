"""Requests with the replies that they should get, as rows of a table; and a relay with hands to wait at it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from pipeline.trickle.channel import Channel
from pipeline.trickle.server import RunningServer
from tests.trickle.wire import Head, Raw, connect, until

PATIENCE_S = 10.0
NO_CHANNEL = b"Stream not found\n"
NO_SEGMENT = b"Entry not found"
BAD_SEQ = b"Invalid idx\n"

_FIELDS = {
    "seq": "lp-trickle-seq",
    "latest": "lp-trickle-latest",
    "closed": "lp-trickle-closed",
    "type": "content-type",
    "length": "content-length",
    "connection": "connection",
    "allow": "allow",
}


class Step(NamedTuple):
    """One request, and what the reply has to say. A field that is None must be absent."""

    request: str
    headers: tuple[str, ...]
    data: str
    status: int
    body: bytes | None
    fields: dict[str, str | None]

    def check(self, head: Head, body: bytes) -> None:
        assert head.status == self.status, (self.request, head, body)
        if self.body is not None:
            assert body == self.body, self.request
        for name, value in self.fields.items():
            given = head.reason if name == "reason" else head.headers.get(_FIELDS[name])
            assert given == value, (self.request, name, head)


def post(
    path: str, data: str = "", *headers: str, status: int = 200, body: bytes | None = b"", **fields: str | None
) -> Step:
    return Step(f"POST {path}", (*headers, f"Content-Length: {len(data)}"), data, status, body, fields)


def ask(request: str, status: int, body: bytes | None = None, *headers: str, **fields: str | None) -> Step:
    return Step(request, headers, "", status, body, fields)


def get(path: str, body: bytes | None, *headers: str, status: int = 200, **fields: str | None) -> Step:
    return Step(f"GET {path}", headers, "", status, body, fields)


class Bench:
    """A relay, and connections to it that end with the test."""

    def __init__(self, relay: RunningServer, stack: AsyncExitStack) -> None:
        self.relay = relay
        self._stack = stack

    async def connect(self) -> Raw:
        return await self._stack.enter_async_context(connect(self.relay.port))

    def channel(self, name: str = "c") -> Channel:
        channel = self.relay.trickle.channels.get(name)
        assert channel is not None
        return channel

    async def play(self, *steps: Step) -> None:
        """Make the requests one after another, over one connection as long as the relay keeps it."""
        raw = await self.connect()
        for step in steps:
            head, body = await raw.request(
                *step.request.split(" "), *step.headers, *(["", step.data] * bool(step.data))
            )
            step.check(head, body)
            if head.headers.get("connection") == "close" or "Connection: close" in step.headers:
                assert await raw.reader.read() == b""
                raw = await self.connect()

    async def reader(self, path: str, *headers: str, method: str = "GET") -> Raw:
        """Send a GET and return once it waits, or is being answered."""
        raw = await self.connect()
        await raw.send("\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers]) + "\n\n")
        await self.served(raw)
        return raw

    async def writer(self, path: str, data: bytes = b"", *headers: str) -> Raw:
        """Open a POST, send `data` of its body, and return once the relay has taken that."""
        raw = await self.connect()
        await raw.begin_post(path, *headers)
        await self.served(raw)
        if data:
            await self.write(raw, path, data)
        return raw

    async def served(self, raw: Raw) -> None:
        """Until the relay is busy with a request of `raw`'s, or has answered."""
        port = raw.writer.get_extra_info("sockname")[1]
        connections = self.relay.trickle.connections
        await until(lambda: raw.reader._buffer or any(each.port == port and each.busy for each in connections))

    async def write(self, raw: Raw, path: str, data: bytes) -> None:
        """Send a chunk and wait until the relay has it."""
        _, name, seq = path.split("/")
        channel = self.channel(name)
        segment = channel.find(int(seq) if seq != "-1" else channel.latest)
        assert segment is not None
        before = segment.size
        await raw.chunk(data)
        await until(lambda: segment.size > before or segment.closed)


Scenario = Callable[[Bench], Awaitable[None]]


class Scenarios:
    """A table of rules that take several connections to show, each with the keys of the relay's section it needs."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Scenario, dict[str, object]]] = {}

    @property
    def names(self) -> list[str]:
        return list(self._rows)

    def rule(self, words: str, **section: object) -> Callable[[Scenario], Scenario]:
        """Enter a scenario into the table."""
        assert words not in self._rows

        def enter(scenario: Scenario) -> Scenario:
            self._rows[words] = scenario, section
            return scenario

        return enter

    async def play(self, words: str, start_relay: Callable[..., Awaitable[RunningServer]]) -> None:
        scenario, section = self._rows[words]
        async with asyncio.timeout(PATIENCE_S), bench(await start_relay(**section)) as at:
            await scenario(at)


@asynccontextmanager
async def bench(relay: RunningServer) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(relay, stack)


async def is_silent(raw: Raw, seconds: float = 0.02) -> bool:
    """Whether nothing comes for a while."""
    try:
        async with asyncio.timeout(seconds):
            return await raw.reader.read(1) == b"" and False
    except TimeoutError:
        return True
