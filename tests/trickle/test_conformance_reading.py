"""The trickle protocol, rule by rule: the leading edge, the window, and readers while a segment is written."""

import pytest

from tests.trickle.steps import NO_SEGMENT, Bench, Scenarios, get, is_silent, post
from tests.trickle.wire import until

SCENARIOS = Scenarios()
rule = SCENARIOS.rule


# The leading edge.


@rule("fresh channel: 0, 1, -1, -2 wait; 2 is 470")
async def _(at: Bench) -> None:
    await at.play(post("/c"), get("/c/2", NO_SEGMENT, status=470, seq="2", latest="0"))
    readers = [await at.reader(f"/c/{seq}") for seq in (0, -1, -2)]
    one = await at.reader("/c/1")
    for raw in (*readers, one):
        assert await is_silent(raw)
    await at.play(post("/c/0", "zero"), post("/c/1", "one"))
    for raw in readers:
        head = await raw.head()
        assert (head.headers["lp-trickle-seq"], await raw.body(head)) == ("0", b"zero")
    assert (await one.head()).headers["lp-trickle-seq"] == "1"


@rule("N being written: N+1 waits whether or not the publisher has preconnected; N+2 is 470")
async def _(at: Bench) -> None:
    await at.writer("/c/0", b"begun")
    waiting = await at.reader("/c/1")
    await at.play(get("/c/2", NO_SEGMENT, status=470, latest="1"))
    assert await is_silent(waiting)


@rule("N+2 is 470 unless the publisher has already opened POST N+2")
async def _(at: Bench) -> None:
    await at.writer("/c/0", b"begun")
    await at.writer("/c/2")
    assert await is_silent(await at.reader("/c/2"))


@rule("N preconnected but with no byte yet: N waits, N+1 is 470")
async def _(at: Bench) -> None:
    await at.play(post("/c/0", "x"))
    await at.writer("/c/1")
    waiting = await at.reader("/c/1")
    await at.play(get("/c/2", NO_SEGMENT, status=470, seq="2", latest="1"))
    assert await is_silent(waiting)


@rule("except 1 on a fresh channel, which waits while 0 is preconnected")
async def _(at: Bench) -> None:
    await at.writer("/c/0")
    waiting = await at.reader("/c/1")
    assert await is_silent(waiting)
    await at.play(post("/c/1", "one"))
    assert (await waiting.head()).headers["lp-trickle-seq"] == "1"


@rule("nextWrite is set by the first body byte of a POST, not by the preconnect")
async def _(at: Bench) -> None:
    raw = await at.writer("/c/0")
    await at.play(get("/c/next", b"0"))
    await at.write(raw, "/c/0", b"x")
    await at.play(get("/c/next", b"1"))


@rule("-2 is the segment being written")
async def _(at: Bench) -> None:
    await at.play(post("/c/0", "x"))
    await at.writer("/c/1", b"live")
    reader = await at.reader("/c/-2")
    assert (await reader.head()).headers["lp-trickle-seq"] == "1"
    assert await anext(reader.chunks()) == b"live"


@rule("two overlapping POST -1 before any first byte get the same segment")
async def _(at: Bench) -> None:
    one, two = await at.writer("/c/-1"), await at.writer("/c/-1")
    await one.chunk(b"1")
    await until(lambda: at.channel().size == 1)
    await two.chunk(b"2")
    await until(lambda: at.channel().size == 2)
    head = await one.end_post()
    assert head.headers["lp-trickle-seq"] == "0"
    await at.play(get("/c/0", b"12"), get("/c/next", b"1"))


@rule("a mere GET at the edge evicts the oldest segment")
async def _(at: Bench) -> None:
    await at.play(*[post(f"/c/{seq}", f"{seq}") for seq in range(8)])
    await at.reader("/c/8")
    await at.play(get("/c/3", NO_SEGMENT, status=470, latest="8"), get("/c/4", b"4"))


@rule("the segment evicted by a GET is closed, so that its readers end")
async def _(at: Bench) -> None:
    await at.writer("/c/3", b"left open")
    await at.play(*[post(f"/c/{seq}", "x") for seq in (4, 5, 6, 7)])
    held = await at.reader("/c/3")
    head = await held.head()
    await at.reader("/c/8")
    assert await held.body(head) == b"left open"


# The window.


@rule("as soon as 8 is preconnected 3 is gone")
async def _(at: Bench) -> None:
    await at.play(*[post(f"/c/{seq}", f"{seq}") for seq in range(8)], get("/c/3", b"3"))
    await at.writer("/c/8")
    await at.play(get("/c/3", NO_SEGMENT, status=470, latest="8"), get("/c/4", b"4"))


@rule("a reader that already holds an evicted segment may read all bytes already there")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"all that there is, ")
    reader = await at.reader("/c/0")
    head = await reader.head()
    await at.write(writer, "/c/0", b"and this")
    await at.play(post("/c/5", "x"))
    assert await reader.body(head) == b"all that there is, and this"


@rule("POST eviction closes the evicted segment: a pending POST on it returns 200, Connection: close")
async def _(at: Bench) -> None:
    pending = await at.writer("/c/0")
    await at.play(post("/c/5", "x"))
    head = await pending.head()
    assert (head.status, head.headers["connection"], head.headers["lp-trickle-seq"]) == (200, "close", "0")


@rule("an active POST on an evicted segment is told, and loses nothing silently")
async def _(at: Bench) -> None:
    active = await at.writer("/c/0", b"begun")
    await at.play(post("/c/5", "x"))
    head = await active.head()
    assert (head.status, head.headers["connection"]) == (200, "close")


# Reading.


@rule("GET response headers are sent with the first data byte, not before")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0")
    assert await is_silent(reader)
    await writer.chunk(b"x")
    assert (await reader.head()).headers["transfer-encoding"] == "chunked"


@rule("a GET that waited at the edge has no Lp-Trickle-Latest")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0")
    await writer.chunk(b"x")
    head = await reader.head()
    assert "lp-trickle-latest" not in head.headers
    assert head.headers["lp-trickle-seq"] == "0"


@rule("Lp-Trickle-Latest is nextWrite at the time the GET arrived")
async def _(at: Bench) -> None:
    await at.play(post("/c/3", "x"))
    writer = await at.writer("/c/9")
    reader = await at.reader("/c/9")
    await at.play(post("/c/4", "x"))
    await writer.chunk(b"x")
    assert (await reader.head()).headers["lp-trickle-latest"] == "4"


@rule("HEAD waits at the live edge until data comes, and has no body")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0", method="HEAD")
    assert await is_silent(reader)
    await writer.chunk(b"x")
    head = await reader.head()
    await writer.end_post()
    assert (head.status, head.headers["lp-trickle-seq"]) == (200, "0")
    following, body = await reader.request("GET", "/c/0")
    assert (following.status, body) == (200, b"x")


@rule("HTTP/1.0 gets an un-chunked body ended by close")
async def _(at: Bench) -> None:
    await at.play(post("/c/0", "data"))
    raw = await at.connect()
    await raw.send("GET /c/0 HTTP/1.0\n\n")
    head = await raw.head()
    assert "transfer-encoding" not in head.headers
    assert await raw.reader.read() == b"data"


@rule("mid-publish join: all bytes so far at once, then each append as it comes")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"one")
    await at.write(writer, "/c/0", b"two")
    reader = await at.reader("/c/0")
    await reader.head()
    chunks = reader.chunks()
    assert (await anext(chunks)) + (await anext(chunks)) == b"onetwo"
    await at.write(writer, "/c/0", b"three")
    assert await anext(chunks) == b"three"


@rule("one spaced publisher chunk = one HTTP chunk to the reader")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0")
    for piece in (b"a", b"bc", b"def"):
        await at.write(writer, "/c/0", piece)
    await reader.head()
    await writer.end_post()
    assert [piece async for piece in reader.chunks()] == [b"a", b"bc", b"def"]


@rule("end of segment = end of chunked body, and the connection can be used again")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0", b"x")
    reader = await at.reader("/c/0")
    head = await reader.head()
    await writer.end_post()
    assert await reader.body(head) == b"x"
    following, body = await reader.request("GET", "/c/0")
    assert (following.status, body) == (200, b"x")


@rule("segment closed with zero bytes while a GET waits: 200, Content-Length: 0, Seq, Latest")
async def _(at: Bench) -> None:
    writer = await at.writer("/c/0")
    reader = await at.reader("/c/0")
    await writer.end_post()
    head = await reader.head()
    assert (head.status, head.headers["content-length"]) == (200, "0")
    assert (head.headers["lp-trickle-seq"], head.headers["lp-trickle-latest"]) == ("0", "1")
    assert "lp-trickle-closed" not in head.headers


@rule("abandoned waiting GETs do not stay")
async def _(at: Bench) -> None:
    await at.play(post("/c"))
    reader = await at.reader("/c/0")
    reader.close()
    await until(lambda: at.relay.trickle._requests == 0)
    assert not at.channel().find(0).readers


@pytest.mark.parametrize("words", SCENARIOS.names)
async def test_scenario(start_relay, words: str) -> None:
    await SCENARIOS.play(words, start_relay)
