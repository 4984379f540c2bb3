"""The trickle protocol, rule by rule: segments on their way in, how streams end, and the change feed."""

import asyncio
import json

import pytest

from pipeline.topology_sections import RelayLimits
from tests.trickle.steps import NO_CHANNEL, NO_SEGMENT, Bench, Scenarios, Step, ask, get, is_silent, post
from tests.trickle.wire import until

SCENARIOS = Scenarios()
rule = SCENARIOS.rule


# Writing.


@rule("preconnect reserves the slot and does nothing else")
async def _(at: Bench) -> None:
    await at.writer("/c/0")
    assert at.channel().find(0)
    await at.play(get("/c/next", b"0"))


@rule(
    "every so many seconds without a byte the server sends 100 Continue",
    limits=RelayLimits(interim_interval_s=0.01),
)
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    assert [(await writer.head()).status for _ in range(3)] == [100, 100, 100]
    await at.write(writer, "/c/0", b"x")
    await writer.send("0\n\n")
    while (head := await writer.head()).status == 100:
        pass
    assert head.status == 200


@rule("once the first byte has come, no 100 Continue is sent", limits=RelayLimits(interim_interval_s=0.01))
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0")
    assert (await writer.head()).status == 100
    await at.write(writer, "/c/0", b"x")
    while not await is_silent(writer, 0.0):
        await writer.head()
    assert await is_silent(writer, 0.05)
    assert (await reader.head()).status == 200


@rule("Expect: 100-continue is answered before the body")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"", "Expect: 100-continue")
    assert (await writer.head()).status == 100


@rule("a client that holds its headers back until the first chunk is served as well")
async def _(at: Bench) -> None:
    raw = await at.connect()
    await asyncio.sleep(0.01)
    await raw.send("POST /c/0 HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n1\nx\n0\n\n")
    assert (await raw.head()).status == 200
    await at.play(get("/c/0", b"x"))


@rule("zero-byte POST, also how a client cancels a preconnect: 200, Connection: close")
async def _(at: Bench) -> None:
    head = await (await at.writer("/c/0")).end_post()
    assert (head.status, head.headers["connection"], head.headers["lp-trickle-seq"]) == (200, "close", "0")
    await at.play(get("/c/next", b"1"))


@rule("Connection: close on a 404 POST, while its body is still open", autocreate=False)
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    head = await writer.head()
    assert (head.status, head.headers["connection"]) == (404, "close")


@rule("create and POST without autocreate: 404 Stream not found", autocreate=False)
async def _(at: Bench) -> None:
    await at.play(
        post("/c", status=404, body=NO_CHANNEL),
        post("/c/0", "x", status=404, body=NO_CHANNEL),
        post("/c/abc", "x", status=404, body=NO_CHANNEL),
    )


@rule("without autocreate: 200 if the channel exists", autocreate=False, channels={"c": "video/MP2T"})
async def _(at: Bench) -> None:
    await at.play(post("/c"), post("/c/0", "x"), get("/c/0", b"x", type="video/MP2T"))
    await at.play(ask("DELETE /c", 200), post("/c/0", "y"), get("/c/0", b"y", type="video/MP2T"))


@rule("broken body: the segment is left open for a short grace", limits=RelayLimits(broken_post_grace_s=60))
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"part")
    reader = await at.reader("/c/0")
    await reader.head()
    assert await reader.reader.readexactly(9) == b"4\r\npart\r\n"
    writer.close()
    await until(lambda: not at.channel().writers)
    assert await is_silent(reader)


@rule("broken body: after the grace the segment is closed", limits=RelayLimits(broken_post_grace_s=0.01))
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"part")
    reader = await at.reader("/c/0")
    head = await reader.head()
    writer.close()
    assert await reader.body(head) == b"part"


@rule("broken body (bad chunk): 500 Server error if it still can")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"part")
    await writer.send("zzz\n")
    head = await writer.head()
    assert (head.status, head.headers["connection"], await writer.body(head)) == (500, "close", b"Server error\n")
    assert not at.channel().find(0).closed


@rule("broken body (short Content-Length): the segment is left open")
async def _(at: Bench) -> None:
    raw = await at.connect()
    await raw.send("POST /c/0 HTTP/1.1\nHost: x\nContent-Length: 10\n\nshort")
    await until(lambda: at.relay.trickle.channels.get("c") and at.channel().size)
    raw.writer.write_eof()
    assert (await raw.head()).status == 500
    assert (at.channel().find(0).chunks, at.channel().find(0).closed) == ([b"short"], False)


@rule("reconnect to the same seq (open segment) appends, readers continue", limits=RelayLimits(broken_post_grace_s=60))
async def _(at: Bench) -> None:
    broken = await at.writer("/c/0", b"part")
    reader = await at.reader("/c/0")
    head = await reader.head()
    broken.close()
    await until(lambda: not at.channel().writers)
    again = await at.writer("/c/0", b"-resumed")
    await again.end_post()
    assert await reader.body(head) == b"part-resumed"
    await at.play(get("/c/0", b"part-resumed"))


LONG_GRACE = RelayLimits(broken_post_grace_s=60)


@rule("readers of a broken segment are freed by DELETE of the seq", limits=LONG_GRACE)
async def _(at: Bench) -> None:
    await _frees_readers(at, ask("DELETE /c/0", 200, b""))


@rule("readers of a broken segment are freed by DELETE of the channel", limits=LONG_GRACE)
async def _(at: Bench) -> None:
    await _frees_readers(at, ask("DELETE /c", 200, b""))


@rule("readers of a broken segment are freed by a POST of idx+5", limits=LONG_GRACE)
async def _(at: Bench) -> None:
    await _frees_readers(at, post("/c/5", "x"))


@rule("readers of a broken segment are freed by a POST of the same seq that ends without a byte", limits=LONG_GRACE)
async def _(at: Bench) -> None:
    await _frees_readers(at, post("/c/0", ""))


async def _frees_readers(at: Bench, step: Step) -> None:
    broken = await at.writer("/c/0", b"part")
    reader = await at.reader("/c/0")
    head = await reader.head()
    broken.close()
    await until(lambda: not at.channel().writers)
    await at.play(step)
    assert await reader.body(head) == b"part"


@rule("two POSTs on one open seq interleave; the first to end closes it, and the other is told")
async def _(at: Bench) -> None:
    one, two = await at.writer("/c/0", b"1"), await at.writer("/c/0", b"2")
    await at.write(one, "/c/0", b"1")
    assert (await two.end_post()).status == 200
    head = await one.head()
    assert (head.status, head.headers["connection"]) == (200, "close")
    await at.play(get("/c/0", b"121"))


@rule("Lp-Trickle-Reset closes every segment with a lower idx", limits=RelayLimits(broken_post_grace_s=60))
async def _(at: Bench) -> None:
    dead = await at.writer("/c/3", b"cut")
    dead.close()
    later = await at.writer("/c/6", b"later")
    reader = await at.reader("/c/3")
    head = await reader.head()
    await at.writer("/c/5", b"", "Lp-Trickle-Reset: 1")
    assert await reader.body(head) == b"cut"
    assert (await later.end_post()).headers.get("connection") is None


@rule(
    "a publisher restarts at /next with Lp-Trickle-Reset, and readers go on", limits=RelayLimits(broken_post_grace_s=60)
)
async def _(at: Bench) -> None:
    await at.play(post("/c/0", "zero"))
    dead = await at.writer("/c/1", b"one, cut")
    reader = await at.reader("/c/1")
    head = await reader.head()
    dead.close()
    await at.play(get("/c/next", b"2", latest="2"), post("/c/2", "two", "Lp-Trickle-Reset: 1"))
    assert await reader.body(head) == b"one, cut"
    await at.play(get("/c/2", b"two"), get("/c/next", b"3"))


# Ending.


@rule("DELETE seq: waiting GETs 200 empty, waiting POST 200, Connection: close")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0")
    await at.play(ask("DELETE /c/0", 200, b""))
    head, released = await reader.head(), await writer.head()
    assert (head.status, head.headers["content-length"]) == (200, "0")
    assert (released.status, released.headers["connection"]) == (200, "close")
    assert "lp-trickle-closed" not in head.headers.keys() | released.headers.keys()


@rule("DELETE seq: GET in the middle of it: body ends normally; the POST is told")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"so far")
    reader = await at.reader("/c/0")
    head = await reader.head()
    await at.play(ask("DELETE /c/0", 200, b""))
    assert await reader.body(head) == b"so far"
    released = await writer.head()
    assert (released.status, released.headers["connection"]) == (200, "close")
    await at.play(get("/c/next", b"1"), post("/c/1", "on it goes", connection=None))


@rule("DELETE channel: GET waiting for a first byte gets 200, Lp-Trickle-Closed: terminated, Seq, Latest")
async def _(at: Bench) -> None:
    await at.play(post("/c/0", "x"))
    reader = await at.reader("/c/1")
    await at.play(ask("DELETE /c", 200, b""))
    head = await reader.head()
    assert (head.status, head.headers["content-length"]) == (200, "0")
    assert head.headers["lp-trickle-closed"] == "terminated"
    assert (head.headers["lp-trickle-seq"], head.headers["lp-trickle-latest"]) == ("1", "1")


@rule("DELETE channel: GET in the middle of a segment: body ends normally")
async def _(at: Bench) -> None:
    await at.writer("/c/0", b"so far")
    reader = await at.reader("/c/0")
    head = await reader.head()
    await at.play(ask("DELETE /c", 200))
    assert await reader.body(head) == b"so far"
    following, _ = await reader.request("GET", "/c/1")
    assert following.status == 404


@rule("DELETE channel: preconnected POST gets 200, Lp-Trickle-Closed, Connection: close")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    await at.play(ask("DELETE /c", 200))
    head = await writer.head()
    assert (head.status, head.headers["connection"], head.headers["lp-trickle-closed"]) == (200, "close", "terminated")


@rule("DELETE channel: POST in mid-body is told at once")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"x")
    await at.play(ask("DELETE /c", 200))
    head = await writer.head()
    assert (head.status, head.headers["connection"], head.headers["lp-trickle-closed"]) == (200, "close", "terminated")


IDLE = RelayLimits(idle_timeout_s=0.05, sweep_interval_s=0.01)


@rule("idle sweep: a channel whose writeTime is older than IdleTimeout is closed as by DELETE", limits=IDLE)
async def _(at: Bench) -> None:
    await at.play(post("/c/0", "x"))
    head = await (await at.reader("/c/1")).head()
    assert head.headers["lp-trickle-closed"] == "terminated"
    await at.play(get("/c/0", NO_CHANNEL, status=404))


@rule("idle sweep: a segment being written or read is not cut, however long it rests", limits=IDLE)
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"x")
    reader = await at.reader("/c/0")
    await reader.head()
    await asyncio.sleep(0.1)
    await at.write(writer, "/c/0", b"y")
    chunks = reader.chunks()
    assert await anext(chunks) + await anext(chunks) == b"xy"
    writer.close()
    await asyncio.sleep(0.1)
    assert at.channel().in_use, "the reader of a segment that its writer left open"


@rule("idle sweep: later bytes refresh writeTime", limits=IDLE)
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"x")
    begun = at.channel().written_at
    await at.write(writer, "/c/0", b"y")
    assert at.channel().written_at > begun


@rule("idle sweep: a zero-byte POST refreshes writeTime", limits=RelayLimits())
async def _(at: Bench) -> None:
    await at.play(post("/c"))
    begun = at.channel().written_at
    await at.play(post("/c/0", ""))
    assert at.channel().written_at > begun


@rule("idle sweep: an open POST is use, also before its first byte", limits=IDLE)
async def _(at: Bench) -> None:
    await at.play(post("/other"))
    await at.writer("/c/0")
    await until(lambda: at.relay.trickle.channels.get("other") is None)
    assert at.channel().in_use


@rule("names starting with _ are never swept", limits=IDLE)
async def _(at: Bench) -> None:
    await at.play(post("/_c"), post("/c"))
    await until(lambda: at.relay.trickle.channels.get("c") is None)
    await at.play(get("/_c/next", b"0"))


@rule("server stop: all channels closed as by DELETE")
async def _(at: Bench) -> None:
    await at.play(post("/c"))
    reader = await at.reader("/c/0")
    writer = await at.writer("/c/0")
    await at.relay.close()
    assert (await reader.head()).headers["lp-trickle-closed"] == "terminated"
    assert (await writer.head()).headers["lp-trickle-closed"] == "terminated"


# The change feed.


@rule("changefeed is off by default")
async def _(at: Bench) -> None:
    await at.play(post("/c"), get("/_changes/0", NO_CHANNEL, status=404))


@rule("changefeed: one JSON object per segment; segment 0 announces _changes itself", changefeed=True)
async def _(at: Bench) -> None:
    await at.play(post("/c"), post("/d/0", "x"), ask("DELETE /c", 200))
    raw = await at.connect()
    events = []
    for seq in range(4):
        head, body = await raw.request("GET", f"/_changes/{seq}")
        assert (head.headers["content-type"], head.headers["lp-trickle-seq"]) == ("application/json", str(seq))
        events.append(json.loads(body))
    assert events == [{"added": ["_changes"]}, {"added": ["c"]}, {"added": ["d"]}, {"removed": ["c"]}]


@rule("changefeed: it is an ordinary channel: nextWrite moves, the edge waits, the window is 5", changefeed=True)
async def _(at: Bench) -> None:
    await at.play(*[post(f"/c{number}") for number in range(6)])
    await at.play(get("/_changes/next", b"7"), get("/_changes/1", NO_SEGMENT, status=470, latest="7"))
    await at.play(get("/_changes/-2", b'{"added":["c5"]}', seq="6"))
    reader = await at.reader("/_changes/-1")
    await at.play(ask("DELETE /c0", 200))
    head = await reader.head()
    assert await reader.body(head) == b'{"removed":["c0"]}'


@rule("changefeed: a swept channel is announced too", changefeed=True, limits=IDLE)
async def _(at: Bench) -> None:
    await at.play(post("/c"))
    reader = await at.reader("/_changes/2")
    head = await reader.head()
    assert await reader.body(head) == b'{"removed":["c"]}'


@rule("changefeed: nobody but the relay writes or removes it", changefeed=True)
async def _(at: Bench) -> None:
    await at.play(
        post("/_changes/1", "{}", status=403, body=None),
        post("/_changes", "", status=403, body=None),
        ask("DELETE /_changes/0", 403),
        ask("DELETE /_changes", 403),
        get("/_changes/0", b'{"added":["_changes"]}'),
    )


@pytest.mark.parametrize("words", SCENARIOS.names)
async def test_scenario(start_relay, words: str) -> None:
    await SCENARIOS.play(words, start_relay)
