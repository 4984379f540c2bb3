"""What a browser sends over a WebSocket, published into a real relay that wants a token."""

import asyncio
import base64
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import av
import msgspec
import numpy as np
import pytest

from pipeline.api import browser_media
from pipeline.api.publish import PROTOCOL
from pipeline.client.channel import Channel, segments
from pipeline.media.access_unit import Codec
from pipeline.media.blockcode import draw_index, read_index
from pipeline.media.pattern import write_pattern
from pipeline.media.still import decode_first_frame
from pipeline.media.ts_demux import TsDemuxer
from pipeline.trickle.segment_reader import SegmentReader
from pipeline.trickle.server import RunningServer
from tests.api.conftest import PATIENCE_S, RELAY_TOKEN, Service, StartService

FPS = 15
CAMERA = {"kind": "camera"}


class Browser:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def begin(self, first: dict[str, Any]) -> dict[str, Any]:
        await self.socket.send_str(msgspec.json.encode(first).decode())
        return await self.hears()

    async def hears(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            return msgspec.json.decode(await self.socket.receive_str())


@asynccontextmanager
async def browser(service: Service, channel: str = "camera", **options: Any) -> AsyncIterator[Browser]:
    options = {"protocols": (PROTOCOL,)} | options
    async with service.session.ws_connect(f"{service.url}/publish/{channel}", **options) as socket:
        yield Browser(socket)


def recording(seconds: float = 2.0, first: int = 100) -> bytes:
    """As MediaRecorder makes one: WebM with VP8 and Opus."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"live": "1"}) as container:
        video = container.add_stream("libvpx", FPS, options={"deadline": "realtime", "cpu-used": "8"})
        video.width = video.height = 96
        sound = container.add_stream("libopus", 48_000)
        for number in range(round(seconds * FPS)):
            picture = np.full((96, 96, 3), 128, np.uint8)
            draw_index(picture, first + number)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            samples = np.zeros((1, 2 * 48_000 // FPS), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "stereo")
            frame.sample_rate = 48_000
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return file.getvalue()


async def read_all(relay: RunningServer, channel: str = "camera") -> list[bytes]:
    """Every segment from the first one on, until the channel ends."""
    async with asyncio.timeout(PATIENCE_S):
        return [await segment.read_all() async for segment in segments_of(relay, channel)]


def segments_of(relay: RunningServer, channel: str = "camera") -> AsyncGenerator[SegmentReader]:
    url = f"http://127.0.0.1:{relay.port}/{channel}"
    return segments(Channel(url, RELAY_TOKEN), 0, PATIENCE_S)


@pytest.fixture
async def service(start_service: StartService, relay: RunningServer) -> Service:
    return await start_service(relay)


async def test_a_recording_becomes_h264_and_opus_in_segments_of_a_second(
    service: Service, relay: RunningServer
) -> None:
    async with browser(service) as page:
        assert await page.begin(CAMERA) == {"state": "ready"}
        reading = asyncio.create_task(read_all(relay))
        data = recording()
        for at in range(0, len(data), 1000):
            await page.socket.send_bytes(data[at : at + 1000])
        await page.socket.send_str("end")
        done = await page.hears()
        made = await reading
    assert (done["state"], done["segments"]) == ("done", len(made))
    assert len(made) == 2
    numbers = []
    for segment in made:
        first = decode_first_frame(segment)
        assert first is not None
        reading_of_it = read_index(first[1])
        assert reading_of_it is not None
        numbers.append(reading_of_it.index)
    assert numbers == [100, 100 + FPS]
    demuxer = TsDemuxer()
    units = [*demuxer.feed(b"".join(made)), *demuxer.flush()]
    assert {unit.codec for unit in units} == {Codec.H264, Codec.OPUS}
    assert sum(unit.is_video for unit in units) == 2 * FPS


async def test_pictures_are_published_while_the_recording_goes_on(service: Service, relay: RunningServer) -> None:
    async with browser(service) as page:
        assert await page.begin(CAMERA) == {"state": "ready"}
        await page.socket.send_bytes(recording(4.0))
        async with asyncio.timeout(PATIENCE_S), aclosing(segments_of(relay)) as made:
            segment = await anext(made)
            assert decode_first_frame(await segment.read_all()) is not None
        await page.socket.send_str("end")
        assert (await page.hears())["state"] == "done"


async def test_a_browser_that_goes_ends_its_channel_and_leaves_it_to_the_next(
    service: Service, relay: RunningServer
) -> None:
    async with browser(service) as page:
        await page.begin(CAMERA)
        reading = asyncio.create_task(read_all(relay))
        await page.socket.send_bytes(recording())
        await asyncio.wait((reading,), timeout=0.3)
        async with browser(service) as other:
            assert "publishes into camera already" in (await other.hears())["error"]
    assert await reading
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with browser(service) as page:
                if await page.begin(CAMERA) == {"state": "ready"}:
                    break


async def test_a_file_is_played_once_all_of_it_is_there(service: Service, relay: RunningServer, tmp_path: Any) -> None:
    path = tmp_path / "film.mp4"
    write_pattern(path, 64, 64, FPS, 1)
    data = path.read_bytes()
    async with browser(service, "film") as page:
        assert await page.begin({"kind": "file", "size": len(data)}) == {"state": "ready"}
        reading = asyncio.create_task(read_all(relay, "film"))
        for at in range(0, len(data), 50_000):
            await page.socket.send_bytes(data[at : at + 50_000])
        assert await page.hears() == {"state": "received"}
        assert (await page.hears())["state"] == "done"
        (segment,) = await reading
    assert decode_first_frame(segment) is not None


@pytest.mark.parametrize(
    ("channel", "first", "error"),
    [
        ("output", CAMERA, "the stage egress writes the channel output"),
        ("a b", CAMERA, "channel: "),
        ("camera", {"kind": "screen"}, "the first message: Invalid enum value 'screen'"),
        ("camera", {"kind": "file", "size": 0}, "the file has 0 bytes"),
        ("camera", {"kind": "file", "size": 1 << 40}, "allowed: 1 to 1073741824"),
    ],
)
async def test_what_cannot_be_published_is_told_in_one_line(
    service: Service, channel: str, first: dict[str, Any], error: str
) -> None:
    service.launcher.on_request = False
    async with browser(service, channel) as page:
        said = await page.begin(first)
        assert said["state"] == "error"
        assert error in said["error"]
        assert "\n" not in said["error"]


async def test_a_browser_that_falls_silent_has_stopped(
    service: Service, relay: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser_media, "SILENCE_SECONDS", 0.5)
    data = recording()
    async with browser(service) as page:
        await page.begin(CAMERA)
        await page.socket.send_bytes(data)
        reading = asyncio.create_task(read_all(relay))
        assert (await page.hears())["state"] == "done"
        assert await reading
    async with browser(service, "film") as page:
        await page.begin({"kind": "file", "size": 10})
        assert "0 bytes came of the 10" in (await page.hears())["error"]


async def test_a_channel_that_a_stream_writes_under_its_url_is_left_alone(
    service: Service, relay: RunningServer
) -> None:
    service.launcher.on_request = False
    for url, taken in ((f"http://127.0.0.1:{relay.port}/mine", True), ("https://elsewhere.example/mine", False)):
        service.launcher.channels = {"egress": url}
        async with browser(service, "mine") as page:
            assert ("the stage egress writes" in (await page.begin(CAMERA)).get("error", "")) == taken


@pytest.mark.parametrize("data", [b"no media at all" * 1000, b""])
async def test_what_is_no_recording_is_told(service: Service, data: bytes) -> None:
    async with browser(service) as page:
        await page.begin(CAMERA)
        if data:
            await page.socket.send_bytes(data)
        await page.socket.send_str("end")
        assert "the recording cannot be read" in (await page.hears())["error"]


async def test_with_tokens_a_websocket_shows_one_too(start_service: StartService, relay: RunningServer) -> None:
    service = await start_service(relay, tokens=["api-secret-1"])
    for protocols in ((PROTOCOL,), (PROTOCOL, "bearer.!"), (PROTOCOL, _bearer("wrong-secret"))):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with browser(service, protocols=protocols):
                pass
        assert refused.value.status == 401
    async with browser(service, protocols=(PROTOCOL, _bearer("api-secret-1"))) as page:
        assert page.socket.protocol == PROTOCOL, "the token is not said back"
        assert await page.begin(CAMERA) == {"state": "ready"}


async def test_pages_of_other_sites_open_no_websocket(service: Service) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with browser(service, origin="https://evil.example"):
            pass
    assert refused.value.status == 403
    async with browser(service, origin=service.url) as page:
        assert await page.begin(CAMERA) == {"state": "ready"}


async def test_without_an_upgrade_it_is_said_what_is_needed(service: Service) -> None:
    status, answer = await service.get("/publish/camera")
    assert (status, answer["allowed"]) == (426, PROTOCOL)


def _bearer(token: str) -> str:
    return f"bearer.{base64.urlsafe_b64encode(token.encode()).decode().rstrip('=')}"
