"""The relay as a server: its ports and paths, its end, and requests that are no good HTTP."""

import asyncio
import socket

import pytest

from pipeline.topology_sections import Relay
from pipeline.trickle import TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer, serve, serve_on
from tests.trickle.steps import ask, bench, get, post
from tests.trickle.wire import Raw, connect, until, url

MALFORMED = {
    "no request line": "\x01\x02\x03\n\n",
    "two words": "GET /a/0\n\n",
    "a control character in the target": "GET /a/\x07 HTTP/1.1\nHost: x\n\n",
    "a header without a colon": "GET /a/0 HTTP/1.1\nHost: x\nnonsense\n\n",
    "a space before the colon": "GET /a/0 HTTP/1.1\nHost: x\nContent-Length : 0\n\n",
    "a folded header at the start": "GET /a/0 HTTP/1.1\n Host: x\n\n",
    "a NUL in a header": "GET /a/0 HTTP/1.1\nHost: x\x00\n\n",
    "no Host": "GET /a/0 HTTP/1.1\n\n",
    "a length that is no number": "POST /a/0 HTTP/1.1\nHost: x\nContent-Length: ten\n\n",
    "a negative length": "POST /a/0 HTTP/1.1\nHost: x\nContent-Length: -1\n\n",
    "two lengths": "POST /a/0 HTTP/1.1\nHost: x\nContent-Length: 1\nContent-Length: 2\n\nxy",
    "a length of a thousand digits": f"POST /a/0 HTTP/1.1\nHost: x\nContent-Length: {'9' * 1000}\n\n",
    "a length and chunks": "POST /a/0 HTTP/1.1\nHost: x\nContent-Length: 1\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n",
    "chunks in HTTP/1.0": "POST /a/0 HTTP/1.0\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n",
    "a percent sign that escapes nothing": "GET /a/%zz HTTP/1.1\nHost: x\n\n",
    "a name that is not UTF-8": "GET /%ff/0 HTTP/1.1\nHost: x\n\n",
    "a name with a line break": "POST /a%0Ab HTTP/1.1\nHost: x\nContent-Length: 0\n\n",
}


@pytest.mark.parametrize("mistake", MALFORMED)
async def test_a_malformed_request_is_a_400_and_nothing_more(relay: RunningServer, mistake: str) -> None:
    async with bench(relay) as at:
        await at.play(post("/a/0", "x"))
        raw = await at.connect()
        await raw.send(MALFORMED[mistake])

        assert (await raw.head()).status == 400
        await at.play(get("/a/0", b"x"), get("/a/next", b"1"))


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        ("GET /a/0 HTTP/2.0\nHost: x\n\n", 505),
        ("PRI * HTTP/2.0\n\n", 505),
        ("POST /a/0 HTTP/1.1\nHost: x\nTransfer-Encoding: gzip, chunked\n\n", 501),
        (f"GET /{'a' * 20_000}/0 HTTP/1.1\nHost: x\n\n", 431),
        (f"GET /a/0 HTTP/1.1\nHost: x\nX: {'y' * 20_000}\n\n", 431),
        ("GET /a/0 HTTP/1.1\nHost: x\n" + "X: y\n" * 4000 + "\n", 431),
        ("GET /a/0 HTTP/1.1\nHost: x\nX: has no end" + "y" * 20_000, 431),
    ],
)
async def test_what_is_not_spoken_here_has_a_status_of_its_own(
    relay: RunningServer, request_head: str, status: int
) -> None:
    async with connect(relay.port) as raw:
        await raw.send(request_head)
        head = await raw.head()

        assert (head.status, head.headers["connection"]) == (status, "close")


async def test_a_request_may_come_byte_by_byte(relay: RunningServer) -> None:
    whole = "\n\nPOST /a/0 HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n3;ext=1\nabc\n1\nd\n0\nTrailer: t\n\n"
    async with connect(relay.port) as raw:
        for byte in whole:
            await raw.send(byte)
            await asyncio.sleep(0)

        assert (await raw.head()).status == 200
    assert b"".join(relay.trickle.channels.get("a").find(0).chunks) == b"abcd"


async def test_requests_sent_ahead_are_answered_in_their_order(relay: RunningServer) -> None:
    async with connect(relay.port) as raw:
        posts = "".join(f"POST /a/{seq} HTTP/1.1\nHost: x\nContent-Length: 3\n\nab{seq}" for seq in range(5))
        gets = "".join(f"GET /a/{seq} HTTP/1.1\nHost: x\n\n" for seq in range(5))
        await raw.send(posts + gets)
        assert [(await raw.head()).headers["lp-trickle-seq"] for _ in range(5)] == list("01234")
        for seq in range(5):
            head = await raw.head()
            assert await raw.body(head) == b"ab%d" % seq


async def test_a_flood_of_requests_whose_replies_nobody_reads_does_not_pile_up(relay: RunningServer) -> None:
    async with connect(relay.port) as raw:
        raw.writer.write(b"GET /a/next HTTP/1.1\r\nHost: x\r\n\r\n" * 300_000)
        (connection,) = await _connections(relay)
        await until(lambda: not connection.has_room)

        assert len(connection._pending) < 1_000_000
        assert connection._transport.get_write_buffer_size() < 1_000_000


async def test_the_body_of_a_request_that_has_none_is_no_next_request(relay: RunningServer) -> None:
    async with connect(relay.port) as raw:
        await raw.send("GET /a/next HTTP/1.1\nHost: x\nContent-Length: 40\n\nDELETE /a HTTP/1.1")
        head = await raw.head()

        assert (head.status, head.headers["connection"]) == (404, "close")


async def test_several_ports_lead_to_the_same_channels() -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    relay = await serve_on(listeners, Relay())
    try:
        assert len(set(relay.ports)) == 3
        async with TricklePublisher(url(relay.ports[1])) as publisher:
            async with await publisher.next() as segment:
                await segment.write(b"one namespace")
            for port in relay.ports:
                async with TrickleSubscriber(url(port)) as subscriber:
                    assert await (await subscriber.next()).read() == b"one namespace"
    finally:
        await relay.close()


async def test_a_port_in_use_is_an_os_error(relay: RunningServer) -> None:
    with pytest.raises(OSError, match="in use"):
        await serve("127.0.0.1", relay.port)


async def test_a_base_path_stands_before_every_route(start_relay) -> None:
    async with bench(await start_relay(base_path="/ai/trickle/")) as at:
        await at.play(
            post("/ai/trickle/a"),
            get("/ai/trickle/a/next", b"0"),
            ask("GET /a/next", 404, b"404 page not found\n"),
            ask("GET /ai/trickle", 404, b"404 page not found\n"),
        )


async def test_a_stop_does_not_wait_for_a_reader_that_takes_nothing_and_gives_it_no_false_end(
    start_relay, monkeypatch
) -> None:
    monkeypatch.setattr("pipeline.trickle.server.CLOSE_TIMEOUT_S", 0.05)
    relay = await start_relay()
    async with bench(relay) as at:
        writer = await at.writer("/a/0")
        reader = await at.reader("/a/0")
        for _ in range(64):
            await at.write(writer, "/a/0", bytes(256 * 1024))
        (connection,) = [each for each in await _connections(relay) if not each.has_room]
        await relay.close()

        assert not connection.has_room
        assert not (await reader.reader.read(-1)).endswith(b"0\r\n\r\n")


async def _connections(relay: RunningServer) -> set:
    await until(lambda: relay.trickle.connections)
    return relay.trickle.connections


async def test_a_client_that_stops_sending_after_its_request_gets_its_reply(relay: RunningServer) -> None:
    async with connect(relay.port) as raw:
        await raw.send("POST /a/0 HTTP/1.1\nHost: x\nContent-Length: 4\n\ndata")
        raw.writer.write_eof()
        assert (await raw.head()).status == 200
    async with connect(relay.port) as raw:
        await _half_closed_get(raw)


async def _half_closed_get(raw: Raw) -> None:
    await raw.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
    raw.writer.write_eof()
    head = await raw.head()
    assert await raw.body(head) == b"data"
