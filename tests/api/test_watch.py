"""The channels at the pipeline's ends, as a player in the page gets them, over a real relay that wants a token."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from pipeline.api import open_answers, watch
from pipeline.trickle import TricklePublisher
from pipeline.trickle.server import RunningServer, serve
from tests.api.conftest import PATIENCE_S, RELAY_TOKEN, Service, StartService

PACKET = b"\x47" + bytes(187)


def packets(*numbers: int) -> bytes:
    return b"".join(PACKET[:-1] + bytes((number,)) for number in numbers)


@asynccontextmanager
async def channel(relay: RunningServer, name: str = "output") -> AsyncIterator[TricklePublisher]:
    url = f"http://127.0.0.1:{relay.port}/{name}"
    async with TricklePublisher(url, "video/MP2T", token=RELAY_TOKEN) as publisher:
        await publisher.create()
        yield publisher


async def write(publisher: TricklePublisher, *numbers: int) -> None:
    async with await publisher.next() as segment:
        await segment.write(packets(*numbers))


async def read(reply: aiohttp.ClientResponse, count: int) -> list[int]:
    async with asyncio.timeout(PATIENCE_S):
        data = await reply.content.readexactly(count * len(PACKET))
    return [data[end - 1] for end in range(len(PACKET), len(data) + 1, len(PACKET))]


@pytest.fixture
async def service(start_service: StartService, relay: RunningServer) -> Service:
    made = await start_service(relay)
    made.launcher.on_request = False
    return made


async def test_segments_come_as_one_stream_from_the_newest_on(service: Service, relay: RunningServer) -> None:
    async with channel(relay) as publisher:
        for number in range(3):
            await write(publisher, number)
        async with service.session.get(f"{service.url}/watch/output.ts") as reply:
            assert (reply.status, reply.content_type) == (200, "video/mp2t")
            assert await read(reply, 1) == [2]
            await write(publisher, 3, 4)
            assert await read(reply, 2) == [3, 4]


async def test_bytes_come_while_their_segment_is_still_written(service: Service, relay: RunningServer) -> None:
    watching = service.session.get(f"{service.url}/watch/output.ts")
    async with channel(relay) as publisher, watching as reply, await publisher.next() as segment:
        await segment.write(packets(1))
        assert await read(reply, 1) == [1]
        await segment.write(packets(2)[:100])
        await segment.write(packets(2)[100:])
        assert await read(reply, 1) == [2]


async def test_half_a_packet_at_the_end_of_a_segment_is_left_out(service: Service, relay: RunningServer) -> None:
    async with channel(relay) as publisher, service.session.get(f"{service.url}/watch/output.ts") as reply:
        async with await publisher.next() as segment:
            await segment.write(packets(1) + PACKET[:50])
        await write(publisher, 2)
        assert await read(reply, 2) == [1, 2]


async def test_a_channel_that_is_not_there_yet_is_waited_for(service: Service, relay: RunningServer) -> None:
    async with service.session.get(f"{service.url}/watch/input.ts") as reply:
        assert reply.status == 200
        async with channel(relay, "input") as publisher:
            await write(publisher, 7)
            assert await read(reply, 1) == [7]
        async with asyncio.timeout(PATIENCE_S):
            assert await reply.content.read() == b"", "the stream's end is the answer's"


async def test_a_stream_on_request_is_watched_at_its_own_channels(service: Service, relay: RunningServer) -> None:
    service.launcher.on_request = True
    status, answer = await service.get("/watch/output.ts")
    assert (status, answer["code"]) == (503, "loading")
    assert (await service.post("/stream/start", {"subscribe_url": "in", "publish_url": "out"}))[0] == 200
    async with channel(relay, "out") as publisher, service.session.get(f"{service.url}/watch/output.ts") as reply:
        await write(publisher, 1)
        assert await read(reply, 1) == [1]


async def test_of_several_streams_each_is_watched_by_its_name(service: Service, relay: RunningServer) -> None:
    service.launcher.on_request = True
    assert (await service.post("/stream/start", {"stream_id": "a", "subscribe_url": "i", "publish_url": "out"}))[
        0
    ] == 200
    async with channel(relay, "out") as publisher:
        await write(publisher, 1)
        async with service.session.get(f"{service.url}/watch/output.ts", params={"stream": "a"}) as reply:
            assert await read(reply, 1) == [1]
    status, answer = await service.get("/watch/output.ts?stream=b")
    assert (status, answer["code"], answer["allowed"]) == (404, "unknown", "a")


async def test_nothing_but_the_two_ends_can_be_watched(service: Service) -> None:
    for name in ("other", "control", "..%2Finput"):
        status, answer = await service.get(f"/watch/{name}.ts")
        assert (status, answer["code"]) == (404, "unknown"), answer


async def test_a_url_that_may_not_be_opened_is_not_opened_here(
    start_service: StartService, relay: RunningServer
) -> None:
    service = await start_service(relay, allowed_urls=["https://elsewhere.example/"])
    service.launcher.on_request = False
    service.launcher.channels = {"egress": "http://127.0.0.1:9/secret"}
    assert (await service.get("/watch/output.ts"))[0] == 403


async def test_a_channel_that_may_not_be_read_is_told(start_service: StartService) -> None:
    server = await serve("127.0.0.1", 0, publish_tokens=("another-secret",), subscribe_tokens=("another-secret",))
    service = await start_service()
    service.launcher.on_request = False
    service.launcher.channels = {"egress": f"http://127.0.0.1:{server.port}/output"}
    status, answer = await service.get("/watch/output.ts")
    assert (status, "401" in answer["error"]) == (403, True), answer
    await server.close()


async def test_a_watcher_that_goes_before_the_answer_begins_is_no_mistake(
    service: Service, relay: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(open_answers, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(watch, "FIRST_SECONDS", PATIENCE_S)
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /watch/output.ts HTTP/1.1\r\nHost: here\r\n\r\n")
    await service.until(_waits)
    writer.transport.abort()
    await service.until(lambda: not _waits())
    await service.get("/version")
    assert "api.request_failed" not in caplog.text


async def test_a_watcher_that_goes_gives_its_place_up(
    start_service: StartService, relay: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_WATCHERS", 1)
    service = await start_service(relay)
    service.launcher.on_request = False
    url = f"{service.url}/watch/output.ts"
    async with channel(relay) as publisher:
        await write(publisher, 1)
        async with service.session.get(url) as reply:
            await read(reply, 1)
            status, answer = await service.get("/watch/output.ts")
            assert (status, answer["code"]) == (503, "full")
            reply.close()  # In the middle of the stream, with nothing to read.
        while (status := await _status(service, url)) == 503:  # Until the service looks, every CHECK_SECONDS.
            pass
        assert status == 200


def _waits() -> bool:
    """Whether somebody waits for a first segment: the service runs in the loop of the test."""
    return any(task.get_name() == "first-segment" for task in asyncio.all_tasks())


async def _status(service: Service, url: str) -> int:
    async with service.session.get(url) as reply:
        return reply.status
