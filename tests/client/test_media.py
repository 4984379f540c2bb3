import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.client import ChannelUnavailable, ComfyStreamTrickleClient, ReceivedFrame
from pipeline.client.publishing import rgb_of
from pipeline.media.errors import EncoderError, MediaFileError
from pipeline.media.file_source import TsFileSource
from pipeline.media.pattern import Picture, read_index, write_pattern
from pipeline.trickle.publisher import TricklePublisher
from pipeline.trickle.server import RunningServer
from tests.client.conftest import StartRelay

WIDTH, HEIGHT = 320, 180
CLIP_PICTURES = 60


PATIENCE_S = 10.0


@pytest.fixture
def watched(client: ComfyStreamTrickleClient, relay: RunningServer) -> ComfyStreamTrickleClient:
    """A client whose channel is there already, so that a reader cannot come too late."""
    relay.trickle.create_channel("input", "video/MP2T")
    return client


async def collect(client: ComfyStreamTrickleClient, **options: object) -> list[ReceivedFrame]:
    options = {"start_seq": 0, "patience_s": PATIENCE_S, **options}
    return [frame async for frame in client.frames(**options)]


def number_of(image: np.ndarray) -> int:
    """The number that is burnt into a received picture."""
    reading = read_index((np.asarray(image)[0] * 255).round().astype(np.uint8))
    assert reading.index is not None
    return reading.index


async def numbered(count: int, kind: str = "uint8") -> AsyncIterator[object]:
    source = Picture(WIDTH, HEIGHT)
    for index in range(count):
        rgb = source.frame(index)
        if kind == "uint8":
            yield rgb
        elif kind == "float":
            yield (rgb / 255.0).astype(np.float32)[None]
        else:
            yield torch.from_numpy(rgb)[None].float() / 255


async def test_a_file_that_is_played_comes_back_picture_by_picture(
    watched: ComfyStreamTrickleClient, clip: Path
) -> None:
    frames, published = await asyncio.gather(collect(watched), watched.publish_file(clip))
    assert [number_of(frame.image) for frame in frames] == list(range(CLIP_PICTURES))
    assert frames[0].image.shape == (1, HEIGHT, WIDTH, 3)
    assert frames[0].image.dtype == np.float32
    assert all(frame.image.min() >= 0 and frame.image.max() <= 1 for frame in frames)
    assert {later.pts - earlier.pts for earlier, later in itertools.pairwise(frames)} == {3000}
    assert frames[30].seconds - frames[0].seconds == pytest.approx(1.0)
    assert (published.segments, published.segments_lost, published.dropped) == (2, 0, 0)
    assert published.bytes > 0


async def test_each_picture_has_memory_of_its_own(watched: ComfyStreamTrickleClient) -> None:
    frames, _ = await asyncio.gather(collect(watched), watched.publish_frames(numbered(3), fps=100))
    assert len({frame.image.ctypes.data for frame in frames}) == 3


async def test_tensors_come_when_they_are_asked_for(watched: ComfyStreamTrickleClient) -> None:
    frames, _ = await asyncio.gather(collect(watched, as_tensor=True), watched.publish_frames(numbered(2), fps=100))
    assert [type(frame.image) for frame in frames] == [torch.Tensor] * 2
    assert frames[0].image.dtype == torch.float32
    assert frames[0].image.shape == (1, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("kind", ["uint8", "float", "tensor"])
async def test_pictures_of_a_program_come_back_in_order(watched: ComfyStreamTrickleClient, kind: str) -> None:
    frames, published = await asyncio.gather(collect(watched), watched.publish_frames(numbered(12, kind), fps=60))
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})
    assert (published.segments_lost, published.dropped) == (0, 0)


async def test_a_source_that_is_too_fast_is_made_to_wait(watched: ComfyStreamTrickleClient) -> None:
    frames, _ = await asyncio.gather(collect(watched), watched.publish_frames(numbered(11), fps=50))
    assert frames[-1].seconds - frames[0].seconds >= 0.15


async def test_what_a_picture_looks_like_survives_the_way(watched: ComfyStreamTrickleClient) -> None:
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[:, : WIDTH // 2] = (220, 30, 40)
    colours[:, WIDTH // 2 :] = (20, 60, 200)

    async def one() -> AsyncIterator[np.ndarray]:
        yield colours

    [frame], _ = await asyncio.gather(collect(watched), watched.publish_frames(one()))
    assert np.abs(frame.image[0] * 255 - colours).mean() < 3


async def test_whoever_comes_late_begins_with_the_newest_segment(client: ComfyStreamTrickleClient) -> None:
    seen = asyncio.Event()

    async def source() -> AsyncIterator[object]:
        async for picture in numbered(75):
            yield picture
        await seen.wait()

    publishing = asyncio.create_task(client.publish_frames(source(), fps=60))
    numbers = []
    for start_seq in (1, -2):
        async with aclosing(client.frames(start_seq=start_seq)) as frames:
            numbers.append(number_of((await anext(frames)).image))
    seen.set()
    await publishing
    assert numbers[0] == numbers[1] > 0


async def test_a_publication_that_is_cancelled_ends_its_channel(
    client: ComfyStreamTrickleClient, relay: RunningServer, clip: Path
) -> None:
    publishing = asyncio.create_task(client.publish_file(clip))
    async with aclosing(client.frames(start_seq=0)) as frames:
        await anext(frames)
        publishing.cancel()
        rest = [frame async for frame in frames]
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    assert publishing.cancelled()
    assert len(rest) < CLIP_PICTURES - 1
    assert relay.trickle.channels.get("input") is None


async def test_a_source_that_fails_ends_its_channel_and_raises(
    client: ComfyStreamTrickleClient, relay: RunningServer
) -> None:
    async def failing() -> AsyncIterator[np.ndarray]:
        yield np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        raise RuntimeError("the camera was pulled out")

    with pytest.raises(RuntimeError, match="pulled out"):
        await client.publish_frames(failing())
    assert relay.trickle.channels.get("input") is None


async def test_a_segment_whose_end_is_missing_costs_what_is_missing(
    watched: ComfyStreamTrickleClient, tmp_path: Path
) -> None:
    path = tmp_path / "three.ts"
    write_pattern(path, WIDTH, HEIGHT, 10, 3)
    segments: dict[int, bytes] = {}
    for chunk in TsFileSource(path):
        segments[chunk.segment_index] = segments.get(chunk.segment_index, b"") + chunk.data
    numbers = []
    async with TricklePublisher(watched.publish_url) as publisher, aclosing(watched.frames(start_seq=0)) as frames:
        for index, cut in ((0, None), (1, -5000), (2, None)):
            segment = await publisher.next()
            await segment.write(segments[index][:cut])
            await segment.close()
        async for frame in frames:
            numbers.append(number_of(frame.image))
            if numbers[-1] == 28:  # The last one may wait for the segment after it.
                break
    assert numbers == sorted(set(numbers))
    assert set(range(9)) | set(range(20, 29)) <= set(numbers)
    assert len(numbers) < 29


async def test_an_output_that_never_comes_is_given_up_after_the_patience(client: ComfyStreamTrickleClient) -> None:
    with pytest.raises(ChannelUnavailable, match=r"/input.*no such channel.*is a trickle server there"):
        await collect(client, patience_s=0.0)


async def test_an_output_that_comes_later_is_waited_for(client: ComfyStreamTrickleClient) -> None:
    reading = asyncio.create_task(collect(client))
    with pytest.raises(ChannelUnavailable):
        await collect(client, patience_s=0)  # By then the other one has asked as well.
    await client.publish_frames(numbered(40), fps=60)
    assert len(await reading) == 40


async def test_a_relay_that_is_not_there_is_told_before_anything_is_encoded(client: ComfyStreamTrickleClient) -> None:
    client.subscribe_url = "http://127.0.0.1:1/input"
    with pytest.raises(ChannelUnavailable, match=r"127\.0\.0\.1:1/input.*is a trickle server there"):
        await client.publish_frames(numbered(1))


async def test_a_channel_that_asks_for_a_token_is_told_apart(start_relay: StartRelay, clip: Path) -> None:
    relay = await start_relay(publish_tokens=("w-t0ken",))
    ports = (relay.port, relay.port)
    client = ComfyStreamTrickleClient("127.0.0.1", media_ports=ports)
    with pytest.raises(ChannelUnavailable, match="give a media_token"):
        await client.publish_file(clip)
    client = ComfyStreamTrickleClient("127.0.0.1", media_ports=ports, media_token="wr0ng")
    with pytest.raises(ChannelUnavailable, match="give another media_token") as refused:
        await client.publish_frames(numbered(1))
    assert "wr0ng" not in str(refused.value)
    client = ComfyStreamTrickleClient("127.0.0.1", media_ports=ports, media_token="w-t0ken")
    assert (await client.publish_frames(numbered(1))).segments == 1


async def test_mistakes_in_what_is_published_are_named(client: ComfyStreamTrickleClient, tmp_path: Path) -> None:
    with pytest.raises(MediaFileError, match="no such file"):
        await client.publish_file(tmp_path / "missing.mp4")

    async def odd() -> AsyncIterator[np.ndarray]:
        yield np.zeros((181, 320, 3), np.uint8)

    with pytest.raises(EncoderError, match="320x181"):
        await client.publish_frames(odd())


def test_what_is_no_picture_is_refused_with_what_would_be_one() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.int64)):
        with pytest.raises(ValueError, match=r"is no picture; needed: uint8 \(height, width, 3\)"):
            rgb_of(wrong)
    with pytest.raises(ValueError, match="a list is no picture"):
        rgb_of([1, 2, 3])


def test_floats_are_rounded_and_held_within_the_range() -> None:
    floats = np.array([[[-1.0, 0.5, 2.0], [np.nan, 1.0, 0.999]]], np.float32)
    assert rgb_of(floats).tolist() == [[[0, 128, 255], [0, 255, 255]]]


async def test_whatever_ffmpeg_opens_is_a_camera(watched: ComfyStreamTrickleClient) -> None:
    source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate=30:duration=0.5"
    frames, published = await asyncio.gather(collect(watched), watched.publish_device(source, "lavfi", fps=60))
    assert len(frames) == 15
    assert published.dropped == 0
    assert np.std(frames[0].image) > 0.1


async def test_an_input_that_cannot_be_opened_is_named(client: ComfyStreamTrickleClient, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no media")
    for url, format in (("/dev/no-such-camera", "v4l2"), (str(text), "mov"), ("x", "no-such-format")):
        with pytest.raises(MediaFileError, match=url):
            await client.publish_device(url, format)
