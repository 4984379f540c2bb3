"""The client at a node that runs: the HTTP service and the channels are the real ones."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pipeline.client import ComfyStreamTrickleClient, StreamRefused
from pipeline.media.pattern import read_index, write_pattern
from tests.integration.running import ROOT, RunningPipeline

PATIENCE_S = 60.0
PICTURES = 30


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    folder = tmp_path_factory.mktemp("node")
    node: dict[str, Any] = yaml.safe_load((ROOT / "configs/api.yaml").read_text())
    node |= {"name": "t-client-node", "frame": {"width": 256, "height": 256}}
    node["relay"] = {"port": 0}
    node["api"]["port"] = 0
    node["links"]["raw"]["policy"] = "block"
    node["stages"]["inference"]["processor"] = {"callable": "pipeline.processors.torch_ops:identity", "threads": 1}
    with ExitStack() as stack:
        yield stack.enter_context(RunningPipeline(node, folder))


@pytest.fixture
def client(pipeline: RunningPipeline) -> ComfyStreamTrickleClient:
    relay, api = (urlsplit(pipeline.url_of(service)).port for service in ("relay", "api"))
    assert relay is not None
    assert api is not None
    return ComfyStreamTrickleClient("127.0.0.1", api, media_ports=(relay, relay))


async def test_a_stream_from_its_start_to_its_stop(client: ComfyStreamTrickleClient, tmp_path: Path) -> None:
    clip = tmp_path / "clip.ts"
    await asyncio.to_thread(write_pattern, clip, 256, 256, 30, 20)
    async with client, asyncio.timeout(PATIENCE_S):
        client.events_url = client.subscribe_url.replace("/input", "/events")
        assert (await client.wait_until_ready())["status"] == "IDLE"
        await client.start_stream(width=256, height=256, stream_id="a/b", gateway_request_id="g-1")
        assert client.stream_id == "a/b"
        with pytest.raises(StreamRefused) as refused:
            await ComfyStreamTrickleClient("127.0.0.1", client.port).start_stream(width=256, height=256)
        assert (refused.value.status, refused.value.code) == (503, "full")
        publishing = asyncio.create_task(client.publish_file(clip))
        events = asyncio.create_task(collect_types(client))
        numbers = []
        async for frame in client.frames(start_seq=0):
            assert frame.image.shape == (1, 256, 256, 3)
            numbers.append(read_index((frame.image[0] * 255).round().astype("uint8")).index)
            if len(numbers) == PICTURES:
                break
        assert numbers == list(range(PICTURES))
        status = await client.get_status()
        assert status["current_stream"]["stream_id"] == "a/b"
        assert status["current_stream"]["gateway_request_id"] == "g-1"
        with pytest.raises(StreamRefused, match="no_such"):
            await client.update_params({"no_such": 1})
        await client.stop_stream()
        publishing.cancel()
        types = await events
        assert types[0] == "stream_started"
        assert types[-1] == "stream_stopped"
        assert (await client.get_status())["active_streams"] == 0


async def collect_types(client: ComfyStreamTrickleClient) -> list[str]:
    return [event["event"]["type"] async for event in client.events()]


async def test_mistakes_in_a_start_are_named(client: ComfyStreamTrickleClient) -> None:
    with pytest.raises(StreamRefused, match=r"status 400: .*width.*511 .*even numbers"):
        await client.start_stream(width=511, height=512)
    client.subscribe_url = "http://no-such-host.invalid/input"
    with pytest.raises(StreamRefused) as refused:
        await client.start_stream(width=256, height=256)
    assert (refused.value.status, refused.value.path) == (400, "subscribe_url")
    with pytest.raises(StreamRefused, match="No active stream to stop"):
        await client.stop_stream()
