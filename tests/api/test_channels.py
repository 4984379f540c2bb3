"""The control and events channels of streams, over a real relay that wants a token."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from pipeline.api import control_channel, events_channel
from pipeline.channel_address import ChannelAddress
from pipeline.trickle import TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer, serve
from tests.api.conftest import PATIENCE_S, RELAY_TOKEN, Service, StartService
from tests.api.test_streams import URLS, WORKFLOW

NAMES = {"stream_id": "a", "gateway_request_id": "request"}
MANY = 5


class Reader:
    """Reads an events channel as Livepeer's gateway does: a segment is one event."""

    def __init__(self, subscriber: TrickleSubscriber) -> None:
        self._subscriber = subscriber
        self.queues: dict[str, str] = {}

    async def next(self) -> dict[str, Any] | None:
        """None at the end of the channel."""
        async with asyncio.timeout(PATIENCE_S):
            segment = await self._subscriber.next()
            if segment is None:
                return None
            wrapped = msgspec.json.decode(await segment.read_all())
        self.queues[wrapped["event"]["type"]] = wrapped["queue_event_type"]
        return wrapped["event"]

    async def find(self, kind: str, is_so: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next event of this type."""
        while event := await self.next():
            if event["type"] == kind and is_so(event):
                return event
        raise AssertionError(f"the channel ended without {kind}")


@asynccontextmanager
async def events_of(relay: RunningServer, name: str = "events") -> AsyncIterator[Reader]:
    """From the channel's first event on."""
    url = f"http://127.0.0.1:{relay.port}/{name}"
    async with TricklePublisher(url, "application/json", token=RELAY_TOKEN) as maker:
        await maker.create()
        async with TrickleSubscriber(url, 0, token=RELAY_TOKEN) as subscriber:
            yield Reader(subscriber)


@asynccontextmanager
async def control_of(relay: RunningServer, name: str = "control") -> AsyncIterator[Callable[[bytes], Any]]:
    """Writes messages as Livepeer's gateway does."""
    url = f"http://127.0.0.1:{relay.port}/{name}"
    async with TricklePublisher(url, "application/json", token=RELAY_TOKEN) as publisher:
        await publisher.create()

        async def write(message: bytes) -> None:
            async with await publisher.next() as segment:
                await segment.write(message)

        yield write


async def start(service: Service, **more: Any) -> None:
    status, answer = await service.post("/stream/start", URLS | NAMES | {"events_url": "events"} | more)
    assert status == 200, answer


async def test_a_stream_tells_its_life_on_its_events_channel(start_service: StartService, relay: RunningServer) -> None:
    service = await start_service(relay)
    async with events_of(relay) as reader:
        await start(service)
        began = await reader.find("stream_started")
        assert began["stream_id"] == "a"
        assert began["gateway_request_id"] == "request"
        assert abs(began["timestamp"] / 1000 - time.time()) < PATIENCE_S

        service.launcher.set(state="ONLINE", first_in_ms=100.0, first_out_ms=250.0, fps=30.0)
        first_in = await reader.find("runner_receive_first_ingest_segment")
        first_out = await reader.find("runner_send_first_processed_segment")
        assert first_out["timestamp"] - first_in["timestamp"] == pytest.approx(150, abs=1)

        await service.post("/stream/params", {"strength": 3})
        assert (await reader.find("params_updated"))["params"] == {"strength": 3}

        await service.post("/stream/stop")
        ended = await reader.find("stream_stopped")
        assert (ended["state"], ended["reason"]) == ("ENDED", "stopped on request")
        assert await reader.next() is None
        assert reader.queues["stream_started"] == reader.queues["stream_stopped"] == "stream_trace"
        assert reader.queues["params_updated"] == "ai_stream_events"


async def test_figures_come_as_the_gateway_keeps_them(start_service: StartService, relay: RunningServer) -> None:
    service = await start_service(relay, stats_seconds=0.1)
    async with events_of(relay) as reader:
        await start(service)
        loading = await reader.find("status")
        assert (loading["state"], loading["pipeline"]) == ("LOADING", "test")

        service.launcher.set(state="ONLINE", first_in_ms=1.0, first_out_ms=2.0, fps=29.97)
        online = await reader.find("status", lambda event: event["state"] == "ONLINE")
        assert online["inference_status"]["fps"] == 29.97
        assert online["input_status"]["fps"] == 30.0
        assert online["stream"]["frames"]["decoded"] == 0

        service.launcher.inference = "STARTING"
        assert await reader.find("status", lambda event: event["state"] == "DEGRADED_INFERENCE")


async def test_a_stage_that_dies_and_comes_back_is_told(start_service: StartService, relay: RunningServer) -> None:
    service = await start_service(relay)
    async with events_of(relay) as reader:
        await start(service)
        await reader.find("stream_started")

        service.launcher.restarts = 1
        service.launcher.announce("inference", "died", "error", how="SIGKILL")
        service.launcher.announce("inference", "active", pid=1)
        died = await reader.find("stage_died")
        assert (died["stage"], died["fields"]) == ("inference", {"how": "SIGKILL"})
        await reader.find("restart", lambda event: event["stage"] == "inference")

        service.launcher.announce("inference", "processor_error", "error", stream="other", problem="not ours")
        service.launcher.announce("inference", "processor_error", "error", stream="a", problem="http://h/x?key=SECRET")
        error = await reader.find("error")
        assert error["fields"]["problem"] == "http://h/x?***"
        assert "SECRET" not in error["message"]


async def test_the_end_is_told_also_when_the_stream_fails_by_itself(
    start_service: StartService, relay: RunningServer
) -> None:
    service = await start_service(relay)
    async with events_of(relay) as reader:
        await start(service)
        await reader.find("stream_started")
        service.launcher.end("FAILED", "egress: status 403")

        assert (await reader.find("stream_stopped"))["reason"] == "egress: status 403"
        assert await reader.next() is None


async def test_control_messages_of_any_size_change_the_processor(
    start_service: StartService, relay: RunningServer
) -> None:
    service = await start_service(relay)
    async with control_of(relay) as write, events_of(relay) as reader:
        await start(service, control_url="control")
        await write(b'{"keep":"alive"}')
        await write(msgspec.json.encode({"strength": 2, "width": 640, "height": 360}))
        await reader.find("params_updated")
        await write(msgspec.json.encode({"prompts": WORKFLOW, "long": "x" * 1_000_000}))
        told = await reader.find("params_updated")

        assert told["params"]["bytes"] > 1_000_000
        assert [stage for stage, _ in service.launcher.updates] == ["inference", "decode", "inference"]
        assert len(service.launcher.updates[2][1]["long"]) == 1_000_000


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"no json", "no JSON"),
        (b'{"a":', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "the body is an array"),
        (b"[" * 3000, "nested too deeply"),
        (b'{"a":123456789012345678901234567890}', "64 bits"),
        (b'{"refuse":1}', "refuse: not known here"),
        (b'{"width":10}', "height: is missing"),
        (b'{"prompts":[]}', "prompts: is a list of 0"),
        (b'{"x":"' + b"y" * 5000 + b'"}', "longer than 4096 bytes"),
    ],
)
async def test_a_bad_control_message_is_told_and_the_next_one_is_read(
    start_service: StartService, relay: RunningServer, message: bytes, problem: str
) -> None:
    service = await start_service(relay, max_request_bytes=4096)
    async with control_of(relay) as write, events_of(relay) as reader:
        await start(service, control_url="control")
        await write(message)
        assert problem in (await reader.find("error"))["message"]
        await write(b'{"strength":1}')
        assert (await reader.find("params_updated"))["params"] == {"strength": 1}


async def test_a_control_channel_that_comes_late_or_ends_and_comes_again_is_read(
    start_service: StartService, relay: RunningServer
) -> None:
    service = await start_service(relay)
    async with events_of(relay) as reader:
        await start(service, control_url="control")
        for number in range(2):
            async with control_of(relay) as write:
                await write(b'{"strength":%d}' % number)
                assert (await reader.find("params_updated"))["params"] == {"strength": number}
        assert service.launcher.running is not None


async def test_the_channels_end_with_their_stream(start_service: StartService, relay: RunningServer) -> None:
    service = await start_service(relay)
    async with control_of(relay) as write, events_of(relay) as reader:
        await start(service, control_url="control")
        await write(b'{"strength":1}')
        await reader.find("params_updated")
        await service.post("/stream/stop")
        await reader.find("stream_stopped")

        await write(b'{"strength":2}')
        await service.until(lambda: not any("session" in task.get_name() for task in asyncio.all_tasks()))
        assert len(service.launcher.updates) == 1


async def test_a_service_that_is_started_again_takes_the_channels_up(
    start_service: StartService, relay: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await start_service(relay)
    async with control_of(relay) as write, events_of(relay) as reader:
        await start(first, control_url="control")
        await reader.find("stream_started")
        first.launcher.set(state="ONLINE", first_in_ms=1.0, first_out_ms=2.0)
        await reader.find("runner_send_first_processed_segment")
        await first.runner.cleanup()

        monkeypatch.setattr("pipeline.api.stream_watch.OLD_SECONDS", 0.0)
        second = await start_service(relay)
        resumed = await reader.find("events_resumed")
        assert resumed["gateway_request_id"] == "request"
        await write(b'{"strength":7}')
        assert (await reader.find("params_updated"))["params"] == {"strength": 7}
        assert "stream_stopped" not in reader.queues
        await second.post("/stream/stop")
        assert (await reader.find("stream_stopped"))["state"] == "ENDED"


async def test_an_events_server_that_is_away_holds_nobody_up_and_gets_what_was_kept(
    start_service: StartService, unused_tcp_port: int
) -> None:
    service = await start_service()
    await start(service, events_url=f"http://127.0.0.1:{unused_tcp_port}/events")
    assert (await service.post("/stream/params", {"strength": 1}))[0] == 200

    late = await serve("127.0.0.1", unused_tcp_port)
    async with events_of(late) as reader:
        await reader.find("stream_started")
        await reader.find("params_updated")
    await late.close()


async def test_events_that_nobody_takes_make_room_for_newer_ones() -> None:
    channel = events_channel.EventsChannel(ChannelAddress("http://127.0.0.1:9/events"))
    for number in range(events_channel.MAX_WAITING + MANY):
        channel.send(b"%d" % number)
    assert channel.lost == MANY


async def test_a_server_that_never_answers_holds_up_neither_the_service_nor_the_end(
    start_service: StartService,
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        service = await start_service()
        await start(service, events_url=f"{url}/events", control_url=f"{url}/control")
        assert (await service.get("/health"))[0] == 200
        await service.post("/stream/stop")
        await service.until(lambda: not any("session" in task.get_name() for task in asyncio.all_tasks()))
        silent.close()


async def test_control_messages_beyond_the_bound_are_given_up_aloud(
    start_service: StartService, relay: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_channel, "MAX_WAITING", 2)
    service = await start_service(relay)
    async with control_of(relay) as write, events_of(relay) as reader:
        service.launcher.held = []
        await start(service, control_url="control")
        await reader.find("stream_started")
        for number in range(MANY):
            await write(b'{"strength":%d}' % number)
            if number == 0:
                await service.until(lambda: bool(service.launcher.updates))
        assert "was given up" in (await reader.find("error"))["message"]
        service.launcher.release()
        await service.until(lambda: ("inference", {"strength": MANY - 1}) in service.launcher.updates)
