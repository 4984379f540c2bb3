"""A server that does not let us, or not now: what the publisher says and does, and that no number is used up by it."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pipeline.topology_sections import RelayLimits
from pipeline.trickle import AccessDenied, ChannelGone, SegmentRefused, TricklePublisher, channel_client
from pipeline.trickle.server import RunningServer
from tests.trickle.wire import Raw, Scripted, connect, proxy, until, url


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_client, "BUSY_DELAYS_S", (0.0, 0.001, 0.001))


async def answer(raw: Raw, status: str, *headers: str) -> None:
    await raw.send("\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers]) + "\n\n")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("reader", 403)])
async def test_every_call_is_denied_without_the_right_token(start_relay, token: str | None, status: int) -> None:
    relay = await start_relay(publish_tokens=["right"], subscribe_tokens=["reader"])
    publisher = TricklePublisher(url(relay.port), token=token)
    denied = f"access denied, status {status}"

    with pytest.raises(AccessDenied, match=f"POST {url(relay.port)}: {denied}"):
        await publisher.create()
    with pytest.raises(AccessDenied, match=denied):
        await publisher.resume()
    segment = await publisher.next()
    with pytest.raises(AccessDenied, match=f"POST {url(relay.port)}/0: {denied}"):
        await segment.close()
    with pytest.raises(AccessDenied):
        await segment.write(b"again")
    with pytest.raises(AccessDenied):
        await publisher.next()
    with pytest.raises(AccessDenied, match=f"DELETE {url(relay.port)}: {denied}"):
        await publisher.close()
    assert relay.trickle.channels.get("a") is None


async def test_the_right_token_opens_every_call(start_relay) -> None:
    relay = await start_relay(publish_tokens=["right"])
    async with TricklePublisher(url(relay.port), token="right") as publisher:
        await publisher.create()
        assert await publisher.resume() == 0
        for text in (b"zero", b"one"):
            async with await publisher.next() as segment:
                await segment.write(text)
        channel = relay.trickle.channels.get("a")
        assert [channel.find(seq).chunks for seq in (0, 1)] == [[b"zero"], [b"one"]]
    assert relay.trickle.channels.get("a") is None


@pytest.mark.parametrize(
    ("status", "error"),
    [("401 Unauthorized", AccessDenied), ("403 Forbidden", AccessDenied), ("413 Too Large", SegmentRefused)],
)
async def test_a_post_opened_ahead_that_is_refused_uses_up_no_number(status: str, error: type[Exception]) -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        await publisher.next()
        await server.request()
        raw, line, _ = await server.request()
        await answer(raw, status)
        await raw.reader.read()

        with pytest.raises(error, match=rf"/a/1: .*, status {status[:3]}"):
            await publisher.next()
        segment = await publisher.next()
        _, again, _ = await server.request()
        publisher.abort()

        assert segment.seq() == 1
        assert line == again == "POST /a/1 HTTP/1.1"


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_a_post_opened_ahead_that_is_too_much_for_now_is_opened_again_later(status: str) -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        await publisher.next()
        await server.request()
        raw, line, _ = await server.request()
        await answer(raw, status)
        await raw.reader.read()

        opening = asyncio.create_task(publisher.next())
        _, again, _ = await server.request()
        raw, question, _ = await server.request()
        await answer(raw, "200 OK", "Lp-Trickle-Latest: 1")
        segment = await opening
        publisher.abort()

        assert segment.seq() == 1
        assert line == again == "POST /a/1 HTTP/1.1"
        assert question == "GET /a/next HTTP/1.1"


@pytest.mark.usefixtures("short_waits")
async def test_a_server_that_stays_too_busy_is_a_refusal_in_the_end_and_uses_up_no_number() -> None:
    async with Scripted() as server:
        publisher = TricklePublisher(url(server.port))
        await publisher.next()
        await server.request()

        async def refuse_all() -> None:
            while True:
                raw, line, _ = await server.request()
                lines.append(line)
                await answer(raw, "503 Service Unavailable")

        lines: list[str] = []
        refusing = asyncio.create_task(refuse_all())
        await until(lambda: lines)
        with pytest.raises(SegmentRefused, match="refused, status 503"):
            await publisher.next()
        with pytest.raises(SegmentRefused, match="refused, status 503"):
            await publisher.create()
        refusing.cancel()
        publisher.abort()

        assert publisher.seq() == 1
        assert lines.count("POST /a HTTP/1.1") == len(channel_client.BUSY_DELAYS_S)


async def test_a_crowded_relay_is_asked_again_until_there_is_room(
    start_relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel_client, "BUSY_DELAYS_S", (0.0, *[0.01] * 500))
    relay = await start_relay(limits=RelayLimits(max_connections=4))
    publisher = TricklePublisher(url(relay.port))
    async with AsyncExitStack() as crowd:
        for _ in range(4):
            await (await crowd.enter_async_context(connect(relay.port))).request("GET", "/b/next")
        resuming = asyncio.create_task(publisher.resume())
        await until(lambda: "relay.connection_refused" in caplog.text)
        assert not resuming.done()

    assert await resuming == 0
    publisher.abort()


async def test_a_channel_that_was_removed_is_told_once_and_then_created_anew(relay: RunningServer) -> None:
    publisher = TricklePublisher(url(relay.port))
    for text in (b"zero", b"one"):
        async with await publisher.next() as segment:
            await segment.write(text)
    await until(lambda: relay.trickle.channels.get("a").find(2))
    relay.trickle.channels.remove("a")
    await until(lambda: relay.trickle._requests == 0)
    await until(lambda: publisher._ahead.done() and publisher._ahead.result().lost)

    with pytest.raises(ChannelGone):
        await publisher.next()
    async with await publisher.next() as segment:
        await segment.write(b"anew")

    assert segment.seq() == 0
    assert relay.trickle.channels.get("a").find(0).chunks == [b"anew"]
    publisher.abort()


async def test_a_post_opened_ahead_whose_connection_broke_costs_nothing(relay: RunningServer) -> None:
    async with proxy(relay.port) as between, TricklePublisher(url(between.port)) as publisher:
        async with await publisher.next() as segment:
            await segment.write(b"zero")
        await until(lambda: relay.trickle.channels.get("a").find(1))
        between.cut()
        await until(lambda: publisher._ahead.result().lost)

        async with await publisher.next() as segment:
            await segment.write(b"one")

        assert segment.seq() == 1
        assert relay.trickle.channels.get("a").find(1).chunks == [b"one"]


async def test_a_relay_that_restarts_between_two_segments_is_written_from_its_beginning(start_relay) -> None:
    old, new = await start_relay(), await start_relay()
    async with proxy(old.port) as between, TricklePublisher(url(between.port)) as publisher:
        for text in (b"zero", b"one"):
            async with await publisher.next() as segment:
                await segment.write(text)
        await until(lambda: old.trickle.channels.get("a").find(2))
        between.upstream = new.port
        between.cut()
        await until(lambda: publisher._ahead.result().lost)

        async with await publisher.next() as segment:
            await segment.write(b"anew")

        assert segment.seq() == 0
        assert new.trickle.channels.get("a").find(0).chunks == [b"anew"]
