"""What the source plays, as the relay and a viewer have it."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from pipeline.bench.source import Channel, make_clip
from pipeline.bench.step import match
from pipeline.bench.viewer import ChannelViewer
from pipeline.bench.words import UNREADABLE, Played, Watched
from pipeline.media.access_unit import AccessUnit
from pipeline.topology_sections import Relay
from pipeline.trickle.server import serve_on

FPS = 20.0


@pytest.fixture(scope="module")
def clip() -> list[AccessUnit]:
    return make_clip(128, 96, FPS)


@pytest.fixture
def relay() -> Iterator[str]:
    """The URL of a relay in this process."""
    listener = socket.create_server(("127.0.0.1", 0))
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        server = await serve_on([listener], Relay())
        started.set()
        await asyncio.to_thread(stop.wait)
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop.set()
    thread.join()


def test_a_clip_has_a_key_picture_a_second_and_its_numbers_in_order(clip: list[AccessUnit]) -> None:
    assert len(clip) == 2 * FPS
    assert [index for index, unit in enumerate(clip) if unit.key] == [0, FPS]


def test_a_slow_clip_has_two_pictures_at_least() -> None:
    assert len(make_clip(64, 64, 0.5)) == 2


def test_what_is_played_twice_is_seen_with_its_numbers_and_a_pause_between(relay: str, clip: list[AccessUnit]) -> None:
    async def play() -> tuple[list[Played], list[Watched]]:
        viewer = ChannelViewer(f"{relay}/in")
        watching = asyncio.create_task(viewer.watch())
        channel = Channel(f"{relay}/in", origin=0.0)
        never = asyncio.Event()
        played = [await channel.play(clip, FPS, 0.3, never)]
        told = [viewer.tell()]
        played.append(await channel.play(clip, 2 * FPS, 0.3, never))
        await channel.close(ends=True)
        await asyncio.wait_for(watching, 10)
        return played, [*told, viewer.tell(numbers=False)]

    played, watched = asyncio.run(play())
    assert 0 < len(played[0].pts) <= 6
    assert 0 < len(played[1].pts) <= 12
    steps = [b - a for one in played for a, b in zip(one.pts, one.pts[1:], strict=False)]
    assert set(steps) <= {4500, 2250}
    assert played[1].pts[0] > played[0].pts[-1]
    seen = Watched(
        [*watched[0].at, *watched[1].at],
        [*watched[0].pts, *watched[1].pts],
        [*watched[0].numbers, *watched[1].numbers],
        [],
        0,
    )
    both = Played(
        [*played[0].pts, *played[1].pts],
        [*played[0].numbers, *played[1].numbers],
        [*played[0].sent, *played[1].sent],
        [],
    )
    assert all(at < float("inf") for at in match(both, seen).arrived), "every picture arrived"
    assert UNREADABLE not in watched[0].numbers
    assert set(watched[1].numbers) == {UNREADABLE}, "numbers were not asked for"


def test_a_source_that_cannot_follow_ends_in_time_and_says_how_late_it_was(relay: str, clip: list[AccessUnit]) -> None:
    played = asyncio.run(Channel(f"{relay}/fast", 0.0).play(clip, 1e6, 0.2, asyncio.Event()))
    assert 0 < len(played.pts) < 200_000
    assert max(played.late_ms) > 0


def test_a_stop_ends_it(relay: str, clip: list[AccessUnit]) -> None:
    stopped = asyncio.Event()
    stopped.set()
    assert asyncio.run(Channel(f"{relay}/no", 0.0).play(clip, FPS, 60.0, stopped)).pts == []
