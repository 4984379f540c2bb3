"""One connection of a client, against a socket that answers what we like."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pipeline.trickle import TrickleConnectionError, TrickleTimeout
from pipeline.trickle.http1 import MAX_UNREAD_BYTES, PEER_LOST_S, HttpConnection
from pipeline.trickle.response import Reply
from pipeline.trickle.target import parse_url
from tests.trickle.wire import Raw, Scripted, url

OK = "HTTP/1.1 200 OK\n"


@asynccontextmanager
async def opened(token: str | None = None) -> AsyncIterator[tuple[HttpConnection, Scripted]]:
    async with Scripted() as server:
        connection = await HttpConnection.open(parse_url(url(server.port)), token=token)
        try:
            yield connection, server
        finally:
            connection.close()


async def asked(connection: HttpConnection, server: Scripted, path: str = "/a/0"):  # type: ignore[no-untyped-def]
    """A GET under way: its task, and the server's side of it."""
    replying = asyncio.create_task(connection.request("GET", path))
    raw, _, _ = await server.request()
    return replying, raw


async def whole(connection: HttpConnection) -> bytes:
    pieces = []
    while piece := await connection.read():
        pieces.append(piece)
    return b"".join(pieces)


async def reply_and_body(connection: HttpConnection, replying: asyncio.Task[Reply]) -> bytes:
    await replying
    return await whole(connection)


async def test_each_request_carries_the_token_and_nothing_that_was_not_asked_for() -> None:
    async with opened(token="s3cr3t") as (connection, server):
        asyncio.create_task(connection.request("GET", "/a/0?x=1"))  # noqa: RUF006 - ends with the connection
        _, line, head = await server.request()

        assert line == "GET /a/0?x=1 HTTP/1.1"
        assert head.headers == {"host": f"127.0.0.1:{server.port}", "authorization": "Bearer s3cr3t"}


async def test_an_address_that_may_not_be_used_is_not_connected_to() -> None:
    async with Scripted() as server:
        target = parse_url(f"http://localhost:{server.port}/a")
        with pytest.raises(TrickleConnectionError, match=r"localhost leads to .*, of this machine"):
            await HttpConnection.open(target, judge=lambda address: f"{address}, of this machine")
        assert server.waiting == 0

        connection = await HttpConnection.open(target, judge=lambda _: "")
        replying, raw = await asked(connection, server)
        await raw.send(OK + "Content-Length: 0\n\n")
        assert (await replying).status == 200
        connection.close()


async def test_interim_replies_are_passed_over_however_many_there_are() -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        for _ in range(3):
            await raw.send("HTTP/1.1 100 Continue\n\n")
        await raw.send("HTTP/1.1 103 Early Hints\nLink: </x>\n\n" + OK + "Content-Length: 2\n\nhi")

        assert (await replying).status == 200
        assert await whole(connection) == b"hi"


@pytest.mark.parametrize(
    ("reply", "again"),
    [
        (OK + "Content-Length: 5\n\nwhole", True),
        (OK + "Transfer-Encoding: chunked\n\n2;x=y\nwh\n3\nole\n0\nTrailer: x\n\n", True),
        (OK + "Content-Length: 5\nConnection: close\n\nwhole", False),
        (OK + "Content-Length: 5\n\nwhole and something that nobody asked for", False),
        ("HTTP/1.0 200 OK\nContent-Length: 5\n\nwhole", False),
    ],
)
async def test_a_body_is_read_to_its_end_and_the_connection_used_again_if_it_can_be(reply: str, again: bool) -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        await raw.send(reply)
        await replying

        assert await whole(connection) == b"whole"
        assert connection.recycle() is again


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        await raw.send("HTTP/1.0 200 OK\n\nto the")
        await replying
        await raw.send(" end")
        raw.writer.close()

        assert await whole(connection) == b"to the end"
        assert not connection.recycle()


async def test_a_body_without_a_length_that_is_cut_off_is_not_at_its_end() -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        await raw.send("HTTP/1.0 200 OK\n\nto the")
        await replying
        assert await connection.read() == b"to the"
        raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raw.close()

        with pytest.raises(TrickleConnectionError, match="reset by peer"):
            await connection.read()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("SSH-2.0-OpenSSH_9.2\n", "does not speak HTTP/1.x, it says b'SSH"),
        (OK + "Transfer-Encoding: chunked\n\nno number\n", "a chunk's size is no number"),
        (OK + "Transfer-Encoding: chunked\n\n2\nlonger than 2\n", "a chunk is longer than its size"),
    ],
)
async def test_what_is_not_http_is_an_error_that_names_the_server_and_the_mistake(said: str, reason: str) -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        await raw.send(said)

        with pytest.raises(TrickleConnectionError, match=f"^http://127.0.0.1:{server.port}/a: .*{reason}"):
            await reply_and_body(connection, replying)


async def test_a_read_gives_what_there_is_up_to_its_limit() -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        await raw.send(OK + "Transfer-Encoding: chunked\n\n3\nabc\n3\ndef\n")
        await replying
        assert await connection.has_body()

        assert [await connection.read(2) for _ in range(2)] == [b"ab", b"cd"]
        assert await connection.read(100) == b"ef"


@pytest.mark.parametrize(
    ("chunk_bytes", "most"), [(1, 12 * 1024 * 1024), (16 * 1024, 2 * MAX_UNREAD_BYTES + 64 * 1024)]
)
async def test_a_server_that_is_faster_than_the_reader_has_to_wait(chunk_bytes: int, most: int) -> None:
    async with opened() as (connection, server):
        replying, raw = await asked(connection, server)
        await raw.send(OK + "Transfer-Encoding: chunked\n\n")
        await replying
        chunk = b"%x\r\n%s\r\n" % (chunk_bytes, bytes(chunk_bytes))
        raw.writer.write(chunk * (32 * 1024 * 1024 // len(chunk)))
        await _settled(raw)

        assert raw.writer.transport.get_write_buffer_size() > 16 * 1024 * 1024
        assert MAX_UNREAD_BYTES <= connection._unread <= most
        had = 0
        while had < 2 * MAX_UNREAD_BYTES:  # It goes on as soon as somebody reads.
            had += len(await connection.read())


async def _settled(raw: Raw) -> None:
    """Until the other side takes no more."""
    size = -1
    while size != raw.writer.transport.get_write_buffer_size():
        size = raw.writer.transport.get_write_buffer_size()
        await asyncio.sleep(0.1)


async def test_a_writer_that_is_faster_than_the_server_has_to_wait() -> None:
    async with opened() as (connection, server):
        await connection.start_post("/a/0")
        await server.request()
        written = 0

        async def write() -> None:
            nonlocal written
            while True:
                await connection.write_chunk(bytes(64 * 1024))
                written += 64 * 1024

        # The server's side reads 64 KiB ahead, and the systems' buffers hold some megabytes.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await write()
        before = written
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await write()

        assert before < 32 * 1024 * 1024
        assert written == before


async def test_a_post_that_is_answered_before_its_end_says_so_and_wakes_a_writer_that_waits() -> None:
    async with opened() as (connection, server):
        await connection.start_post("/a/0")
        raw, _, _ = await server.request()

        async def write() -> None:
            while True:
                await connection.write_chunk(bytes(256 * 1024))

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.05)
        await raw.send("HTTP/1.1 413 too much\nContent-Length: 0\n\n")

        with pytest.raises(TrickleConnectionError, match="answered by the server before its end"):
            await writing
        assert connection.lost
        assert connection.early_reply.status == 413
        with pytest.raises(TrickleConnectionError):
            await connection.finish_post()


async def test_a_post_is_answered_after_its_end_and_its_connection_used_again() -> None:
    async with opened() as (connection, server):
        await connection.start_post("/a/0", [("Content-Type", "video/MP2T")])
        raw, line, head = await server.request()
        for piece in (b"one", bytearray(b"two"), memoryview(b"three")):
            await connection.write_chunk(piece)
        finishing = asyncio.create_task(connection.finish_post())
        body = b"".join([piece async for piece in raw.chunks()])
        await raw.send("HTTP/1.1 100 Continue\n\n" + OK + "Content-Length: 0\n\n")

        assert (line, head.headers["content-type"], body) == ("POST /a/0 HTTP/1.1", "video/MP2T", b"onetwothree")
        assert (await finishing).status == 200
        assert connection.early_reply is None
        assert connection.recycle()


async def test_a_server_that_hangs_up_is_noticed_by_a_writer_that_does_nothing() -> None:
    async with opened() as (connection, server):
        await connection.start_post("/a/0")
        raw, _, _ = await server.request()
        raw.writer.close()
        while not connection.lost:  # noqa: ASYNC110
            await asyncio.sleep(0.002)

        with pytest.raises(TrickleConnectionError, match="closed without a reply"):
            await connection.write_chunk(b"x")


@pytest.mark.parametrize(("name", "value"), [("Content-Type", "a\r\nX: y"), ("X", "\0")])
async def test_a_header_cannot_carry_another_one_in_its_value(name: str, value: str) -> None:
    async with opened() as (connection, _):
        with pytest.raises(ValueError, match=f"^{name} .*cannot be sent in a header"):
            await connection.request("GET", "/a/0", [(name, value)])


@pytest.mark.parametrize(
    ("given", "path"),
    [("/a b", "/a%20b"), ("/ä", "/%C3%A4"), ("/a%2Fb/", "/a%2Fb"), ("/a?x=ü y", "/a?x=%C3%BC%20y")],
)
def test_a_url_is_escaped_where_it_must_be_and_not_twice(given: str, path: str) -> None:
    target = parse_url(f"http://host:80{given}")

    assert (target.join(), target.authority) == (path, "host")


@pytest.mark.parametrize("given", ["ftp://host/a", "http:///a", "http://host", "http://host/", "a"])
def test_a_url_without_a_channel_is_a_mistake(given: str) -> None:
    with pytest.raises(ValueError, match="not a trickle channel URL"):
        parse_url(given)


async def test_a_server_that_does_not_accept_in_time_is_a_time_out() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", port))
    try:
        with pytest.raises(TrickleTimeout, match=f"127.0.0.1:{port}/a: no connection within 0.2 s"):
            await HttpConnection.open(parse_url(url(port)), timeout_s=0.2)
    finally:
        for each in (full, *waiting):
            each.close()


async def test_a_host_that_no_name_can_be_is_an_error_of_the_connection() -> None:
    with pytest.raises(TrickleConnectionError, match=f"{70 * 'x'}"):
        await HttpConnection.open(parse_url(f"http://{70 * 'x'}.invalid/a"))


async def test_a_peer_that_vanishes_is_looked_for() -> None:
    """What the system does then is tested where a network can be taken away."""
    async with opened() as (connection, _):
        options = connection._transport.get_extra_info("socket")

        assert options.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == PEER_LOST_S * 1000
        idle, interval, probes = (
            options.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * probes == PEER_LOST_S
