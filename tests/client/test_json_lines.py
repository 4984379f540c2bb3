import asyncio
from typing import Any

import pytest

from pipeline.client import ChannelUnavailable, ComfyStreamTrickleClient
from pipeline.client.json_lines import MAX_LINE_BYTES
from pipeline.trickle.publisher import TricklePublisher
from pipeline.trickle.server import RunningServer


@pytest.fixture
def listening(client: ComfyStreamTrickleClient, relay: RunningServer) -> ComfyStreamTrickleClient:
    client.events_url = f"http://127.0.0.1:{relay.port}/events"
    client.data_url = f"http://127.0.0.1:{relay.port}/data"
    return client


async def say(url: str, *segments: list[bytes]) -> None:
    """Each segment in the pieces given, while somebody reads."""
    async with TricklePublisher(url, "application/json") as publisher:
        await publisher.create()
        for pieces in segments:
            async with await publisher.next() as segment:
                for piece in pieces:
                    await segment.write(piece)


async def heard(client: ComfyStreamTrickleClient, *segments: list[bytes]) -> list[Any]:
    assert client.events_url is not None
    values: list[Any] = []
    first = asyncio.Event()

    async def listen() -> None:
        async for value in client.events():
            values.append(value)
            first.set()

    listening = asyncio.create_task(listen())
    await say(client.events_url, *segments)
    await listening
    return values


async def test_one_object_a_segment_needs_no_newline(listening: ComfyStreamTrickleClient) -> None:
    assert await heard(listening, [b'{"type":"a"}'], [b'{"type":"b"}']) == [{"type": "a"}, {"type": "b"}]


async def test_lines_are_found_wherever_their_bytes_are_cut(listening: ComfyStreamTrickleClient) -> None:
    pieces = [b'{"a"', b':1}\n{"b":', b"2}\n\n", b'{"c":"\xc3', b'\xa4"}\n']
    assert await heard(listening, pieces) == [{"a": 1}, {"b": 2}, {"c": "ä"}]


async def test_a_line_that_is_no_json_is_not_lost(listening: ComfyStreamTrickleClient) -> None:
    assert await heard(listening, [b"it is raining\r\n17\n"]) == ["it is raining", 17]


async def test_a_line_comes_before_its_segment_has_ended(listening: ComfyStreamTrickleClient) -> None:
    assert listening.data_url is not None
    async with TricklePublisher(listening.data_url, "application/jsonl") as publisher:
        await publisher.create()
        segment = await publisher.next()
        await segment.write(b'{"text":"hello"}\n')
        values = listening.data()
        assert await asyncio.wait_for(anext(values), 10) == {"text": "hello"}
        await segment.close()
        await values.aclose()


async def test_a_line_without_an_end_is_not_kept_for_ever(listening: ComfyStreamTrickleClient) -> None:
    with pytest.raises(ChannelUnavailable, match=f"a line of more than {MAX_LINE_BYTES} bytes"):
        await heard(listening, [b"x" * (MAX_LINE_BYTES + 1)])


async def test_a_stream_without_the_channel_is_a_mistake_that_is_named(client: ComfyStreamTrickleClient) -> None:
    with pytest.raises(ValueError, match="events_url is not set"):
        await anext(client.events())
    with pytest.raises(ValueError, match="data_url is not set"):
        await anext(client.data())
