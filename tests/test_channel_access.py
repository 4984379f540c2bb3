"""What the stages that publish and record do when a server does not let them: they end, and say which key to change."""

import asyncio
from pathlib import Path

import pytest

from pipeline.channel_address import ChannelAddress
from pipeline.live_publisher import publish_live
from pipeline.media.pattern import write_pattern
from pipeline.memory.stage_stats import STATS_BYTES, StageStats
from pipeline.trickle import AccessDenied, TrickleSink
from pipeline.trickle.server import RunningServer
from pipeline.viewer import Viewer
from pipeline.worker import WorkerRefused
from tests.trickle.conftest import start_relay
from tests.trickle.wire import until, url

__all__ = ["start_relay"]

MAY_WRITE, MAY_READ = "may-write-and-read", "may-read-only"


@pytest.fixture
async def guarded(start_relay) -> RunningServer:
    return await start_relay(publish_tokens=(MAY_WRITE,), subscribe_tokens=(MAY_READ,))


def address(relay: RunningServer, token: str | None) -> ChannelAddress:
    return ChannelAddress(url(relay.port), token, None, "stages.x.token")


@pytest.mark.parametrize(
    ("token", "said"),
    [(None, r"401 .*; give a token, such as \$\{NAME\}"), ("unknown-here", r"401 .*; give another"), (MAY_READ, "403")],
)
async def test_a_publisher_that_may_not_write_is_refused(
    guarded: RunningServer, tmp_path: Path, slab_fd, token: str | None, said: str
) -> None:
    write_pattern(tmp_path / "a.ts", 64, 64, 30, 1)
    with pytest.raises(WorkerRefused, match=rf"^stages\.x\.token: POST .*status {said}"):
        await publish_live(
            str(tmp_path / "a.ts"), address(guarded, token), StageStats(slab_fd(STATS_BYTES)), asyncio.Event()
        )


async def test_a_recorder_that_may_not_read_is_refused(guarded: RunningServer, tmp_path: Path, slab_fd) -> None:
    viewer = Viewer(address(guarded, None), tmp_path / "a.mp4", StageStats(slab_fd(STATS_BYTES)), print)
    with pytest.raises(WorkerRefused, match=r"^stages\.x\.token: GET .*status 401"):
        await viewer.watch(None, asyncio.Event())


async def test_a_recorder_goes_on_without_a_channel_to_compare_that_it_may_not_read(
    guarded: RunningServer, tmp_path: Path, slab_fd
) -> None:
    told: list[tuple[str, str]] = []
    viewer = Viewer(
        address(guarded, MAY_READ),
        tmp_path / "a.mp4",
        StageStats(slab_fd(STATS_BYTES)),
        lambda name, **fields: told.append((name, fields["problem"])),
    )
    stopping = asyncio.Event()
    watching = asyncio.create_task(viewer.watch(address(guarded, None), stopping))
    await until(lambda: told or watching.done())
    assert not watching.done()
    stopping.set()
    await watching
    assert [name for name, _ in told] == ["compare_denied"]
    assert told[0][1].startswith("stages.x.token: ")


async def test_a_sink_that_may_not_write_says_so_before_it_has_anything_to_write(guarded: RunningServer) -> None:
    with TrickleSink(url(guarded.port), token=MAY_READ) as sink:
        await until(lambda: sink.access_denied)
        assert isinstance(sink.access_denied, AccessDenied)
