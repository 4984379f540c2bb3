"""The loop of a trickle-app program, as its users write it, with our own classes under the package's names."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from pipeline.processors import trickle_frames
from pipeline.trickle import ChannelGone, TricklePublisher, TrickleSubscriber
from pipeline.trickle.server import RunningServer, serve


@pytest.fixture(autouse=True)
def stand_ins() -> Iterator[None]:
    before = dict(sys.modules)
    trickle_frames.install()
    yield
    for name in set(sys.modules) - set(before):
        if name.partition(".")[0] in trickle_frames.PACKAGES:
            del sys.modules[name]


@pytest.fixture
async def relay() -> AsyncIterator[RunningServer]:
    server = await serve("127.0.0.1", 0)
    yield server
    await server.close()


async def process_video_stream(source: str, result: str) -> None:
    """What somebody wrote for the package."""
    from trickle_app import TricklePublisher, TrickleSubscriber

    subscriber = TrickleSubscriber(source)
    publisher = TricklePublisher(result, "video/mp4")

    async with subscriber, publisher:
        await subscriber.subscribe()

        while True:
            segment = await subscriber.next()
            if segment is None:
                break

            frame_data = await segment.read()

            segment_writer = await publisher.next()
            async with segment_writer:
                await segment_writer.write(frame_data.upper())

            await segment.close()

            if segment.eos():
                break


async def test_a_program_for_the_package_reads_and_writes_segments(relay: RunningServer) -> None:
    source, result = f"http://127.0.0.1:{relay.port}/input", f"http://127.0.0.1:{relay.port}/output"
    relay.trickle.create_channel("input", "video/mp4")
    relay.trickle.create_channel("output", "video/mp4")
    program = asyncio.create_task(process_video_stream(source, result))
    results = []
    async with TricklePublisher(source) as camera, TrickleSubscriber(result, 0) as viewer:
        for data in (b"one", b"two", b"three"):
            async with await camera.next() as segment:
                await segment.write(data)
            shown = await viewer.next()
            assert shown is not None
            results.append(await shown.read_all())
        await camera.close()
        assert await viewer.next() is None  # The program has ended its stream, as its source has.
    await program
    assert results == [b"ONE", b"TWO", b"THREE"]


async def test_the_type_that_the_program_names_is_the_channels(relay: RunningServer) -> None:
    from pytrickle.publisher import TricklePublisher as PackagesPublisher

    url = f"http://127.0.0.1:{relay.port}/output"
    async with PackagesPublisher(url, mime_type="video/webm") as publisher, TrickleSubscriber(url, 0) as viewer:
        await publisher.create()
        async with await publisher.next() as segment:
            await segment.write(b"x")
        shown = await viewer.next()
        assert shown is not None
        assert shown.content_type == "video/webm"


async def test_a_source_that_does_not_exist_is_not_taken_for_one_that_has_ended(relay: RunningServer) -> None:
    from pytrickle.subscriber import TrickleSubscriber as PackagesSubscriber

    async with PackagesSubscriber(f"http://127.0.0.1:{relay.port}/nowhere") as subscriber:
        with pytest.raises(ChannelGone):
            await subscriber.next()


def test_a_name_that_is_not_stood_in_for_says_what_to_install() -> None:
    hint = r"trickle_app\.StreamServer .* pip install git\+https://github\.com/eliteprox/py-trickle\.git"
    with pytest.raises(ImportError, match=hint):
        from trickle_app import StreamServer  # noqa: F401
    import trickle_app

    assert not hasattr(trickle_app, "__file__")
