"""A raw HTTP/1.1 client and a proxy that breaks connections: what tests need to see and disturb the wire itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple


class Head(NamedTuple):
    """A status line and headers, names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells: the inside of a relay or of a thread."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


class Raw:
    """One connection on which a test writes bytes and reads heads and bodies, interim replies included."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, text: str) -> None:
        self.writer.write(text.replace("\n", "\r\n").encode())
        await self.writer.drain()

    async def request(self, method: str, path: str, *headers: str) -> "tuple[Head, bytes]":
        await self.send("\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers]) + "\n\n")
        head = await self.head()
        return head, b"" if method == "HEAD" else await self.body(head)

    async def begin_post(self, path: str, *headers: str) -> None:
        fields = ["Host: x", "Content-Type: video/MP2T", "Transfer-Encoding: chunked", *headers]
        await self.send("\n".join([f"POST {path} HTTP/1.1", *fields]) + "\n\n")

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def end_post(self) -> Head:
        await self.send("0\n\n")
        return await self.head()

    async def head(self) -> Head:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        _, status, reason = [*lines[0].split(" ", 2), ""][:3]
        fields = (line.split(":", 1) for line in lines[1:] if line)
        return Head(int(status), reason, {name.lower(): value.strip() for name, value in fields})

    async def body(self, head: Head) -> bytes:
        if head.headers.get("transfer-encoding") == "chunked":
            return b"".join([piece async for piece in self.chunks()])
        return await self.reader.readexactly(int(head.headers.get("content-length", 0)))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(reader, writer)
    try:
        yield raw
    finally:
        raw.close()


class Proxy:
    """Passes bytes on to a server until it is told to break things."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.port = 0
        self.opened = 0
        self.cut_after: int | None = None
        """Bytes from the server after which a connection is cut, once."""
        self.swallow = False
        """Whether bytes from clients are taken and thrown away."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break every connection there is."""
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._up(reader, up_writer, writer), self._down(up_reader, writer, up_writer))

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        await self._pump(reader, writer, other, lambda data: b"" if self.swallow else data)

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        def limited(data: bytes) -> bytes | None:
            if self.cut_after is None:
                return data
            self.cut_after -= len(data)
            if self.cut_after > 0:
                return data
            self.cut_after = None
            return None

        await self._pump(reader, writer, other, limited)

    async def _pump(self, reader, writer, other, change) -> None:  # type: ignore[no-untyped-def]
        try:
            while data := await reader.read(65536):
                changed = change(data)
                if changed is None:
                    break
                writer.write(changed)
                await writer.drain()
        except OSError:
            pass
        finally:
            for each in (writer, other):
                self._writers.discard(each)
                each.transport.abort()


@asynccontextmanager
async def proxy(upstream: int) -> AsyncIterator[Proxy]:
    between = Proxy(upstream)
    server = await asyncio.start_server(between.accept, "127.0.0.1", 0)
    between.port = server.sockets[0].getsockname()[1]
    try:
        yield between
    finally:
        server.close()
        between.cut()
        await asyncio.sleep(0)


class Scripted:
    """A listener whose connections a test answers by hand, in the order in which they come."""

    def __init__(self) -> None:
        self.port = 0
        self._accepted: asyncio.Queue[Raw] = asyncio.Queue()
        self._all: list[Raw] = []

    async def __aenter__(self) -> "Scripted":
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._all.append(Raw(reader, writer))
            self._accepted.put_nowait(self._all[-1])

        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for raw in self._all:
            raw.close()
        await asyncio.sleep(0)

    @property
    def waiting(self) -> int:
        """Connections that no request was taken from yet."""
        return self._accepted.qsize()

    async def accepted(self) -> Raw:
        """The next connection."""
        return await self._accepted.get()

    async def request(self) -> tuple[Raw, str, Head]:
        """The next connection and the request on it, up to the end of its head."""
        raw = await self.accepted()
        line = (await raw.reader.readline()).decode().strip()
        fields = (await raw.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (field.split(":", 1) for field in fields if field)
        return raw, line, Head(0, "", {name.lower(): value.strip() for name, value in pairs})


def url(port: int, name: str = "a") -> str:
    return f"http://127.0.0.1:{port}/{name}"
