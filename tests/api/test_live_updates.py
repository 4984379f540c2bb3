"""What a page that stays open is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgspec
import pytest

from pipeline.api import live_updates, open_answers
from pipeline.status import FrameTrace, HopTimes, Traces
from tests.api.conftest import PATIENCE_S, Service, StartService


class Page:
    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply

    async def next(self, kind: str) -> Any:
        """The next message of this kind."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                block = (await self._reply.content.readuntil(b"\n\n")).decode()
                if block.startswith(f"event: {kind}\ndata: "):
                    return msgspec.json.decode(block.partition("data: ")[2])

    async def event(self, name: str) -> Any:
        while (event := await self.next("event"))["name"] != name:
            pass
        return event


@asynccontextmanager
async def page_of(service: Service, **options: Any) -> AsyncIterator[Page]:
    async with service.session.get(f"{service.url}/updates", **options) as reply:
        assert (reply.status, reply.content_type) == (200, "text/event-stream")
        yield Page(reply)


async def listening(service: Service) -> None:
    """Until the service hears events: the launcher tells those who have subscribed, and nobody of the past."""
    async with page_of(service) as page:
        heard = asyncio.create_task(page.event("is_there"))
        while not heard.done():
            service.launcher.announce("launcher", "is_there")
            await asyncio.wait((heard,), timeout=0.05)


async def test_a_page_sees_the_status_again_and_again(service: Service) -> None:
    async with page_of(service) as page:
        assert (await page.next("look"))["health"] == {"status": "IDLE", "reasons": []}
        assert (await page.next("hardware"))["memory_total"] > 0
        service.launcher.reasons, service.launcher.state = ["decode: died"], "DEGRADED"
        while (look := await page.next("look"))["health"]["status"] != "DEGRADED":
            pass
        assert look["health"]["reasons"] == ["decode: died"]
        assert [stage["stage"] for stage in look["status"]["stages"]] == ["ingress", "decode", "inference", "egress"]


async def test_a_page_is_told_the_way_of_the_newest_frames(service: Service) -> None:
    traces = [FrameTrace("main", 0, seq, 0, "delivered", 1.0, 2.0, []) for seq in range(100, 0, -1)]
    service.launcher.traces = Traces(30, traces, [HopTimes("decode", 100, 1.0, 2.0)])
    async with page_of(service) as page:
        told = await page.next("traces")
    assert [trace["seq"] for trace in told["traces"]] == list(range(100, 92, -1))
    assert told["hops"][0]["p95_ms"] == 2.0


async def test_a_launcher_that_is_silent_is_told_of(service: Service) -> None:
    async with page_of(service) as page:
        service.launcher.silent = True
        while (look := await page.next("look"))["status"] is not None:
            pass
        assert look["health"]["status"] == "ERROR"
        assert "no answer from the launcher" in look["health"]["reasons"][0]


async def test_events_come_at_once_and_those_of_before_first(service: Service) -> None:
    await listening(service)
    service.launcher.announce("decode", "before", url="http://user:secret@host/x?key=1")
    async with page_of(service) as page:
        before = await page.event("before")
        assert before["fields"]["url"] == "http://***@host/x?***"
        service.launcher.announce("decode", "now", "error", number=1)
        now = await page.event("now")
        assert (now["level"], now["stage"], now["fields"]) == ("error", "decode", {"number": 1})


async def test_the_past_that_is_kept_is_bounded(service: Service) -> None:
    await listening(service)
    for number in range(live_updates.HISTORY + 20):
        service.launcher.announce("decode", "one_of_many", number=number)
    service.launcher.announce("decode", "last")
    async with page_of(service) as page:
        await page.event("last")
    async with page_of(service) as page:
        assert (await page.event("one_of_many"))["fields"]["number"] >= 20


async def test_looks_are_shared_and_nobody_is_looked_for_when_nobody_reads(service: Service) -> None:
    async with page_of(service) as first, page_of(service) as second:
        looks = [await first.next("look"), await second.next("look")]
    assert looks[0]["status"]["pipeline"] == looks[1]["status"]["pipeline"] == "test"


async def test_a_reader_that_takes_nothing_is_given_up(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_answers, "SLOW_SECONDS", PATIENCE_S)
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(b"GET /updates HTTP/1.1\r\nHost: here\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    text = "x" * 65536
    async with page_of(service) as other:
        for number in range(200):  # More than the system's socket buffers hold.
            service.launcher.announce("decode", "long", number=number, text=text)
            assert (await other.event("long"))["fields"]["number"] == number
        writer.transport.resume_reading()
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                while await reader.read(1 << 20):
                    pass
    writer.close()


async def test_so_many_may_follow_and_no_more(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_updates, "MAX_READERS", 1)
    service = await start_service()
    async with page_of(service) as page:
        await page.next("look")
        status, answer = await service.get("/updates")
        assert (status, answer["code"]) == (503, "full")
    async with asyncio.timeout(PATIENCE_S):
        while True:  # Whoever has gone is noticed with the next look.
            async with service.session.get(f"{service.url}/updates") as reply:
                if reply.status == 200:
                    break


async def test_when_the_service_stops_readers_are_let_go_at_once(start_service: StartService) -> None:
    service = await start_service()
    async with page_of(service) as page:
        await page.next("look")
        loop = asyncio.get_running_loop()
        cleanup = loop.create_task(service.runner.cleanup())
        with pytest.raises((aiohttp.ClientError, asyncio.IncompleteReadError)):
            await page.event("that never comes")
        await cleanup
