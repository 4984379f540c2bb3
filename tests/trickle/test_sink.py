"""The sink as an encode loop uses it: from a thread without an event loop, against relays that come and go."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from pipeline.trickle import AccessDenied, TrickleSink
from pipeline.trickle.server import RunningServer, serve
from tests.trickle.wire import Scripted, url

MIB = 1024 * 1024


class Relay:
    """A relay in a thread of its own, since these tests are synchronous like the callers of a sink."""

    def __init__(self, port: int = 0, **section: object) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-relay")
        self._thread.start()
        self.server: RunningServer = self.run(serve("127.0.0.1", port, **section))
        self.port = self.server.port

    def run(self, work: Awaitable):  # type: ignore[no-untyped-def, type-arg]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        if self._loop.is_closed():
            return
        self.run(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def channel(self):  # type: ignore[no-untyped-def]
        return self.server.trickle.channels.get("a")

    def content(self, seq: int) -> bytes:
        channel = self.channel()
        segment = channel.find(seq) if channel else None
        return b"".join(segment.chunks) if segment and segment.closed else b""


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.stop()


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A listener that accepts connections and never reads them nor answers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="test-listener")
    thread.start()
    server = Scripted()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(5)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait for what the other thread does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.002)


def write_segment(sink: TrickleSink, *pieces: bytes) -> None:
    sink.begin_segment()
    for piece in pieces:
        sink.write(piece)
    sink.end_segment()


def sink_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trickle-sink"]


def test_segments_are_delivered_whole_and_counted_once_confirmed(relay: Relay) -> None:
    with TrickleSink(url(relay.port), "video/x-test") as sink:
        for seq in range(4):
            write_segment(sink, b"%d-" % seq, b"end")
        until(lambda: sink.segments_sent == 4)

        assert [relay.content(seq) for seq in range(4)] == [b"0-end", b"1-end", b"2-end", b"3-end"]
        assert (sink.bytes_sent, sink.segments_lost, sink.queued_bytes, sink.error) == (20, 0, 0, None)
        assert relay.channel().content_type == "video/x-test"


def test_bytes_are_sent_before_their_segment_ends(relay: Relay) -> None:
    with TrickleSink(url(relay.port)) as sink:
        sink.begin_segment()
        sink.write(b"early")

        until(lambda: relay.channel() and relay.channel().size == 5)


def test_whoever_asks_is_told_when_what_was_written_is_with_the_connection(relay: Relay) -> None:
    sent: list[int] = []
    with TrickleSink(url(relay.port)) as sink:
        sink.begin_segment()
        sink.write(b"first")
        sink.when_sent(lambda: sent.append(1))
        until(lambda: sent == [1])
        sink.when_sent(lambda: sent.append(2))
        assert sent == [1, 2], "nothing is left to be sent"
        sink.write(b"second")
        sink.when_sent(lambda: sent.append(3))
        sink.end_segment()
        until(lambda: sent == [1, 2, 3])
        sink.when_sent(lambda: sent.append(4))
        assert sent[-1] == 4, "no segment is open"


def test_whoever_asks_is_told_when_what_was_written_is_given_up() -> None:
    told: list[int] = []
    with scripted() as server:
        sink = TrickleSink(url(server.port), max_buffer_bytes=MIB)
        sink.begin_segment()
        sink.write(b"x")
        sink.when_sent(lambda: told.append(1))
        assert told == []
        sink.close(drain_timeout=0.01)
        assert told == [1]
    assert sink.segments_lost == 1


def test_close_sends_what_is_queued_removes_the_channel_and_joins_the_thread(relay: Relay) -> None:
    sink = TrickleSink(url(relay.port))
    sink.begin_segment()
    sink.write(bytes(3 * MIB))

    sink.close()
    sink.close()

    assert (sink.segments_sent, sink.segments_lost, sink.bytes_sent) == (1, 0, 3 * MIB)
    assert relay.channel() is None
    assert sink_threads() == []


def test_close_removes_the_channel_even_if_what_is_queued_cannot_be_sent(relay: Relay) -> None:
    sink = TrickleSink(url(relay.port), max_buffer_bytes=64 * MIB)
    sink.begin_segment()
    sink.write(b"begun")
    until(lambda: relay.channel() and relay.channel().size)
    relay.run(stop_reading(relay.server))
    sink.write(bytes(32 * MIB))  # more than the system's buffers take

    sink.close(drain_timeout=2.0)

    assert (sink.segments_sent, sink.segments_lost) == (0, 1)
    assert relay.channel() is None, "viewers are told that it is over"
    assert sink_threads() == []


def test_an_error_leaves_the_channel_to_a_successor(relay: Relay) -> None:
    def write_and_fail() -> None:
        with TrickleSink(url(relay.port)) as sink:
            sink.begin_segment()
            sink.write(b"shown")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert relay.content(0) == b"shown", "what was written before is sent, and its segment ended"

    with TrickleSink(url(relay.port)) as successor:
        write_segment(successor, b"and on")
        until(lambda: successor.segments_sent == 1)
        assert (relay.content(0), relay.content(1)) == (b"shown", b"and on")
    assert relay.channel() is None


async def stop_reading(server: RunningServer) -> None:
    """Of those who are connected now; who comes later is heard."""
    for connection in server.trickle.connections:
        connection._transport.pause_reading()


def test_a_successor_goes_on_at_the_next_number(relay: Relay) -> None:
    first = TrickleSink(url(relay.port))
    write_segment(first, b"zero")
    until(lambda: first.segments_sent == 1)
    with TrickleSink(url(relay.port)) as successor:
        write_segment(successor, b"one")

        until(lambda: successor.segments_sent == 1)
        assert relay.content(1) == b"one"
    first.close()


@pytest.mark.parametrize("waits", [False, True])
def test_a_relay_that_restarts_costs_counted_segments_and_the_stream_goes_on(relay: Relay, waits: bool) -> None:
    with TrickleSink(url(relay.port)) as sink:
        write_segment(sink, b"before")
        until(lambda: sink.segments_sent == 1)
        sink.begin_segment()
        sink.write(b"cut ")
        assert not sink.lost_segment
        until(lambda: relay.channel().size > len(b"before"))
        relay.stop()
        if waits:
            sink.write(b"short")
            until(lambda: sink.error is not None)
            assert sink.lost_segment
            write_segment(sink, b"nobody there")  # The next segment is what finds out that the relay is gone.
            until(lambda: "Connect call failed" in str(sink.error))
            for _ in range(100):
                write_segment(sink, bytes(MIB))
            assert sink.queued_bytes < 4 * MIB
        back = Relay(relay.port)
        try:
            written = 103 if waits else 2

            def delivered() -> bool:
                nonlocal written
                write_segment(sink, b"after")
                written += 1
                time.sleep(0.02)
                return sink.segments_sent > 1

            until(delivered)
            until(lambda: sink.queued_bytes == 0)
            until(lambda: sink.segments_sent + sink.segments_lost == written)
            assert back.content(back.channel().latest - 1) == b"after"
            assert sink.error is None
            assert sink.segments_lost >= 1
        finally:
            sink.close()
            back.stop()


def test_room_can_be_waited_for(relay: Relay) -> None:
    with TrickleSink(url(relay.port), max_buffer_bytes=4 * MIB) as sink:
        sink.begin_segment()
        sink.write(bytes(3 * MIB))
        assert sink.wait_for_room(60), "the relay takes it"


def test_room_that_does_not_come_is_not_waited_for_too_long() -> None:
    with scripted() as stuck:
        sink = TrickleSink(url(stuck.port), max_buffer_bytes=MIB)
        sink.begin_segment()
        sink.write(bytes(MIB * 3 // 4))
        assert not sink.wait_for_room(0.01)
        sink.close(drain_timeout=0.1)


def test_over_the_bound_the_rest_of_the_segment_is_discarded_and_counted() -> None:
    with scripted() as stuck:
        sink = TrickleSink(url(stuck.port), max_buffer_bytes=MIB)
        sink.begin_segment()
        sink.write(bytes(MIB // 4))
        assert not sink.congested
        sink.write(bytes(MIB // 2))
        assert sink.congested
        for _ in range(100):
            sink.write(bytes(MIB // 2))
            assert sink.queued_bytes <= MIB
        assert sink.segments_lost == 1
        assert not sink.congested

        sink.begin_segment()
        sink.write(bytes(MIB // 4))
        started = time.monotonic()
        sink.close(drain_timeout=0.1)

    assert time.monotonic() - started < 2
    assert (sink.segments_sent, sink.segments_lost, sink.queued_bytes) == (0, 2, 0)
    assert sink_threads() == []


def test_empty_segments_cannot_pile_up_either() -> None:
    with scripted() as stuck:
        sink = TrickleSink(url(stuck.port), max_buffer_bytes=MIB)
        for _ in range(5000):
            write_segment(sink)

        assert sink.queued_bytes <= MIB
        sink.close(drain_timeout=0)
    assert sink.segments_lost == 5000


def test_without_a_relay_the_error_says_so_and_nothing_waits() -> None:
    relay = Relay()
    relay.stop()
    sink = TrickleSink(url(relay.port))
    until(lambda: sink.error is not None)
    started = time.monotonic()
    for _ in range(50):
        write_segment(sink, bytes(100_000))

    assert time.monotonic() - started < 1
    assert f"127.0.0.1:{relay.port}/a" in str(sink.error)
    assert sink.queued_bytes < MIB
    sink.close(drain_timeout=0)
    assert sink.segments_lost == 50


def test_writing_outside_a_segment_is_a_mistake(relay: Relay) -> None:
    with TrickleSink(url(relay.port)) as sink, pytest.raises(ValueError, match="begin_segment"):
        sink.write(b"x")


def test_a_bad_url_is_refused_before_a_thread_starts() -> None:
    with pytest.raises(ValueError, match="not a trickle channel URL"):
        TrickleSink("nonsense")

    assert sink_threads() == []


@pytest.fixture
def guarded() -> Iterator[Relay]:
    relay = Relay(publish_tokens=["right"])
    yield relay
    relay.stop()


def test_a_token_opens_a_channel_that_needs_one(guarded: Relay) -> None:
    with TrickleSink(url(guarded.port), token="right") as sink:
        write_segment(sink, b"let in")
        until(lambda: sink.segments_sent == 1)

        assert guarded.content(0) == b"let in"


@pytest.mark.parametrize(("token", "hint"), [(None, "give a token"), ("wrong", "give another token")])
def test_a_sink_that_is_denied_access_gives_up_and_the_next_write_says_so(
    guarded: Relay, token: str | None, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = TrickleSink(url(guarded.port), token=token)
    until(lambda: sink.access_denied is not None)

    assert sink.error is sink.access_denied
    with pytest.raises(AccessDenied, match=f"{url(guarded.port)}: access denied, status 401"):
        sink.begin_segment()
    until(lambda: sink_threads() == [])
    sink.close()
    (line,) = [line for line in caplog.text.splitlines() if "sink." in line]
    assert "sink.access_denied" in line
    assert hint in line
    assert "wrong" not in line


def test_what_was_written_before_access_was_denied_counts_as_lost(guarded: Relay) -> None:
    with scripted() as stuck:
        sink = TrickleSink(url(stuck.port))
        write_segment(sink, b"first")
        sink.begin_segment()
        sink.write(b"second, open")
        run_on(stuck, answer(stuck, "HTTP/1.1 401 Unauthorized\nContent-Length: 0\nConnection: close\n\n"))
        until(lambda: sink.access_denied is not None)
        with pytest.raises(AccessDenied):
            sink.write(b"more")
        sink.close()

    assert (sink.segments_sent, sink.segments_lost, sink.queued_bytes) == (0, 2, 0)


def run_on(server: Scripted, work: Awaitable) -> None:  # type: ignore[type-arg]
    asyncio.run_coroutine_threadsafe(work, server._server.get_loop()).result(10)


async def answer(server: Scripted, *replies: str) -> None:
    for reply in replies:
        raw, _, _ = await server.request()
        await raw.send(reply)


def test_the_age_of_what_waits_rises_while_the_server_does_not_take_it() -> None:
    with scripted() as slow:
        sink = TrickleSink(url(slow.port), max_buffer_bytes=32 * MIB)
        run_on(slow, answer(slow, "HTTP/1.1 200 OK\nLp-Trickle-Latest: 3\nContent-Length: 0\nConnection: close\n\n"))
        assert sink.queued_seconds == 0.0
        sink.begin_segment()
        sink.write(bytes(12 * MIB))
        sink.write(bytes(12 * MIB))
        until(lambda: sink.queued_bytes < 13 * MIB)  # the connection has begun to take the first one, and is stuck
        first = sink.queued_seconds
        until(lambda: sink.queued_seconds > first + 0.05)
        sink.close(drain_timeout=0)

    assert sink.queued_seconds == 0.0


def test_the_age_of_what_waits_is_zero_once_it_is_sent(relay: Relay) -> None:
    with TrickleSink(url(relay.port)) as sink:
        sink.begin_segment()
        sink.write(bytes(MIB))
        until(lambda: relay.channel() and relay.channel().size == MIB)

        until(lambda: sink.queued_seconds == 0.0)


def test_a_segment_that_is_never_confirmed_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.trickle.sink.REPLY_TIMEOUT_S", 0.05)
    with scripted() as silent:
        sink = TrickleSink(url(silent.port))
        run_on(
            silent, answer(silent, "HTTP/1.1 200 OK\nLp-Trickle-Latest: 3\nContent-Length: 0\nConnection: close\n\n")
        )
        write_segment(sink, b"unconfirmed")
        until(lambda: sink.segments_lost == 1)

        assert "not confirmed" in str(sink.error)
        assert sink.bytes_sent == 0
        sink.close(drain_timeout=0)
