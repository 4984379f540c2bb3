"""Ingress's work: where it goes on when its source, or the server of it, was away, and when that is the end."""

import asyncio
from collections.abc import Callable

import pytest
import zmq

from pipeline import ingest
from pipeline.boot import EncodedBoot
from pipeline.channel_address import ChannelAddress
from pipeline.encoded_link import CURSOR_BYTES, EncodedReader, EncodedWriter
from pipeline.ingest import TrickleIngest
from pipeline.memory.stage_stats import STATS_BYTES, StageStats
from pipeline.messages import EncodedBytes, EncodedEnd
from pipeline.trickle.server import RunningServer
from pipeline.worker import WorkerRefused
from tests.trickle.conftest import relay, start_relay
from tests.trickle.wire import Scripted, proxy, until, url

__all__ = ["relay", "start_relay"]

REFUSED = "HTTP/1.1 400 no\nConnection: close\nContent-Length: 0\n\n"


def ok(seq: int, body: str) -> str:
    """On a connection of its own, so that every request comes on another."""
    return f"HTTP/1.1 200 OK\nLp-Trickle-Seq: {seq}\nConnection: close\nContent-Length: {len(body)}\n\n{body}"


class Told:
    """What TrickleIngest needs of a worker."""

    abandoned = False
    farewell = ""

    def __init__(self, stats_fd: int) -> None:
        self.stats = StageStats(stats_fd)
        self.events: list[str] = []

    def info(self, name: str, **_: object) -> None:
        self.events.append(name)

    def debug(self, name: str, **_: object) -> None:
        """Not wanted."""

    def draining_event(self) -> asyncio.Event:
        return asyncio.Event()


class Decode:
    """The other end of the link. It had (segment, gap, bytes), and would have to be fed again from `resume` on."""

    def __init__(self, reader: EncodedReader, resume: int | None = None) -> None:
        self.had: list[tuple[int, bool, bytes]] = []
        self.ended = False
        self._reader = reader
        self._resume = resume

    async def work(self) -> None:
        while not self.ended:
            for message in self._reader.receive():
                self._take(message)
            await asyncio.sleep(0.002)
        self._reader.finished()

    def _take(self, message: EncodedBytes | EncodedEnd) -> None:
        if isinstance(message, EncodedEnd):
            self.ended = True
            return
        if message.data:
            self.had.append((message.segment, message.gap, message.data))
        self._reader.consumed(message, message.segment if self._resume is None else self._resume)


@pytest.fixture
def boot(slab_fd, short_dir) -> EncodedBoot:
    return EncodedBoot("encoded", slab_fd(CURSOR_BYTES), f"ipc://{short_dir}/encoded", 1 << 20)


@pytest.fixture
def told(slab_fd) -> Told:
    return Told(slab_fd(STATS_BYTES))


@pytest.fixture
def run(
    boot: EncodedBoot, told: Told, open_context: Callable[[], zmq.Context], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[asyncio.Task[None], Decode]]:
    """run(url) -> ingress at work, and the decode that it feeds."""
    monkeypatch.setattr(ingest, "RETRY_SECONDS", 0.01)

    def start(
        channel: str, resume: int | None = None, source_timeout: float | None = None
    ) -> tuple[asyncio.Task[None], Decode]:
        writer = EncodedWriter(boot, open_context())
        decode = Decode(EncodedReader(boot, open_context(), owner=1), resume)
        ingress = TrickleIngest(ChannelAddress(channel), writer, told, source_timeout)
        both = asyncio.gather(ingress.run(), decode.work())
        return asyncio.ensure_future(both), decode

    return start


def write(relay: RunningServer, seq: int, data: bytes) -> None:
    relay.trickle.create_channel("a", "video/MP2T")
    channel = relay.trickle.channels.get("a")
    segment = channel.for_write(seq)
    channel.append(segment, data, 0.0)
    channel.finish(segment, 0.0)


async def test_a_channel_that_begins_anew_goes_on_with_higher_numbers_after_a_gap(run, relay: RunningServer) -> None:
    for seq in range(3):
        write(relay, seq, b"old")
    async with proxy(relay.port) as between:
        working, decode = run(url(between.port))
        await until(lambda: decode.had and relay.trickle.channels.get("a").find(3))
        between.cut()
        relay.trickle.channels.remove("a")
        await asyncio.sleep(0.05)
        write(relay, 0, b"new")
        await until(lambda: len(decode.had) == 2 and relay.trickle.channels.get("a").find(1))
        relay.trickle.channels.remove("a")
        await working

    (old, _, _), (new, gap, data) = decode.had
    assert old == 2
    assert new > old
    assert (gap, data) == (True, b"new")


async def test_a_channel_that_was_read_and_stays_away_has_ended(
    run, told: Told, relay: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "GONE_SECONDS", 0.1)
    write(relay, 0, b"all")
    async with proxy(relay.port) as between:
        working, decode = run(url(between.port))
        await until(lambda: decode.had and relay.trickle.channels.get("a").find(1))
        between.cut()
        relay.trickle.channels.remove("a")
        await working

    assert decode.had == [(0, False, b"all")]
    assert told.events == ["first_segment", "waiting_for_source", "source_ended"]


@pytest.mark.parametrize("comes", [False, True])
async def test_a_source_that_gives_nothing_for_long_is_at_its_end_if_it_has_a_limit(
    comes: bool, run, told: Told, relay: RunningServer
) -> None:
    """Also one whose channel is still there: its publisher may be gone without a word."""
    if comes:
        write(relay, 0, b"all")
    working, decode = run(url(relay.port), source_timeout=0.3)
    await working

    assert decode.had == ([(0, False, b"all")] if comes else [])
    assert decode.ended
    assert told.events[-1] == "source_silent"
    assert told.farewell == f"nothing came from {url(relay.port)} for 0.3 s"


async def test_what_decode_does_not_take_is_not_the_sources_fault(
    told: Told, slab_fd, short_dir, open_context: Callable[[], zmq.Context], relay: RunningServer
) -> None:
    tight = EncodedBoot("encoded", slab_fd(CURSOR_BYTES), f"ipc://{short_dir}/tight", 4)
    writer = EncodedWriter(tight, open_context())
    write(relay, 0, b"more than fits")
    working = asyncio.ensure_future(TrickleIngest(ChannelAddress(url(relay.port)), writer, told, 0.2).run())
    await until(lambda: writer.full)
    write(relay, 1, b"waits")
    await asyncio.wait((working,), timeout=0.5)  # More than twice the limit.
    assert told.farewell == ""
    decode = Decode(EncodedReader(tight, open_context(), owner=1), None)
    await asyncio.gather(working, decode.work())
    assert [data for *_, data in decode.had] == [b"more than fits", b"waits"]
    assert told.farewell, "now it is the source that gives nothing"


async def test_after_a_failure_it_reads_on_where_it_was_and_not_where_decode_is(run) -> None:
    """Decode may still need the segment before; ingress has that one already."""
    async with Scripted() as server:
        working, decode = run(url(server.port), resume=1)
        asked = []
        for reply in (ok(1, "one"), ok(2, "two"), REFUSED, ok(3, "three")):
            raw, line, _ = await server.request()
            asked.append(line.split()[1])
            await raw.send(reply)
        await until(lambda: len(decode.had) == 3)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    assert asked == ["/a/-2", "/a/2", "/a/3", "/a/3"]
    assert decode.had == [(1, False, b"one"), (2, False, b"two"), (3, False, b"three")]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_server_that_wants_another_token_refuses_the_stage_and_names_the_key(run, status: int) -> None:
    async with Scripted() as server:
        working, _ = run(url(server.port))
        raw, _, _ = await server.request()
        await raw.send(f"HTTP/1.1 {status} no\nConnection: close\nContent-Length: 0\n\n")
        with pytest.raises(WorkerRefused, match=rf"^token: GET .*: status {status}; give a token"):
            await working


async def test_it_rests_while_decode_takes_nothing(
    relay: RunningServer, boot: EncodedBoot, told: Told, context: zmq.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "FULL_POLL_MS", 60_000)
    writer = EncodedWriter(boot, context)
    looks = 0
    attend = writer.attend

    def count() -> None:
        nonlocal looks
        looks += 1
        attend()

    monkeypatch.setattr(writer, "attend", count)
    write(relay, 0, bytes(2 * boot.buffer_bytes))
    working = asyncio.ensure_future(TrickleIngest(ChannelAddress(url(relay.port)), writer, told).run())
    await until(lambda: writer.full)
    for _ in range(50):  # What was under way comes to rest.
        await asyncio.sleep(0)
    looked = looks
    for _ in range(50):
        await asyncio.sleep(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert looks == looked
