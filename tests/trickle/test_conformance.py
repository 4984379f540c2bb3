"""The trickle protocol, rule by rule, on raw sockets: what one request after another is answered. Where the Go servers
crash or hang, the rule is the safe answer. What takes several connections has files of its own beside this one."""

import asyncio

import pytest

from tests.trickle.steps import BAD_SEQ, NO_CHANNEL, NO_SEGMENT, PATIENCE_S, Step, ask, bench, get, post

ANSWERS: dict[str, list[Step]] = {
    # Routes.
    "POST {name} creates a channel": [post("/c"), get("/c/next", b"0")],
    "a name is one path segment after percent-decoding, so a%2Fb is a legal name": [
        post("/a%2Fb/0", "x"),
        get("/a%2Fb/0", b"x"),
        get("/a/b", NO_CHANNEL, status=404),
    ],
    "query strings are ignored": [post("/c/0?x=1", "x"), get("/c/0?y=/2", b"x")],
    "idx is parsed like Atoi: +3 and 03 are accepted as 3": [
        post("/c/3", "x"),
        get("/c/+3", b"x", seq="3"),
        get("/c/03", b"x", seq="3"),
        get(f"/c/{'0' * 30}3", b"x", seq="3"),
    ],
    "an idx that is no number is a 400": [
        post("/c"),
        *[
            get(f"/c/{bad}", BAD_SEQ, status=400)
            for bad in ("abc", "1_0", "0x1", "1.0", "%201", "--1", "+-1", "-", "+")
        ],
        get("/c/%D9%A3", BAD_SEQ, status=400),
    ],
    "an idx out of the range of an int64 is a 400": [
        post("/c"),
        *[get(f"/c/{big}", BAD_SEQ, status=400) for big in (2**63 - 1, 2**63, 10**30, "9" * 5000)],
        get(f"/c/{2**63 - 2}", NO_SEGMENT, status=470, seq=str(2**63 - 2)),
    ],
    "POST and DELETE {name}/next are a 400": [
        post("/c"),
        post("/c/next", status=400, body=BAD_SEQ),
        ask("DELETE /c/next", 400, BAD_SEQ),
    ],
    "HEAD is routed like GET: the same head, no body": [
        post("/c/0", "x"),
        ask("HEAD /c/0", 200, b"", seq="0", latest="1"),
        ask("HEAD /c/7", 470, b"", seq="7", latest="1"),
        ask("HEAD /c/next", 200, b"", latest="1"),
        ask("HEAD /d/0", 404, b""),
    ],
    "trailing slash or deeper path: 404 page not found": [
        post("/c"),
        *[
            ask(f"GET {path}", 404, b"404 page not found\n")
            for path in ("/", "/c/", "/c/0/", "/c/0/1", "//c", "/../c/0")
        ],
        ask("GET nowhere", 404, b"404 page not found\n"),
    ],
    "wrong method: 405 with Allow": [
        post("/c"),
        ask("GET /c", 405, allow="DELETE, POST"),
        ask("PUT /c/0", 405, allow="DELETE, GET, HEAD, POST"),
        ask("OPTIONS /c/0", 405, allow="DELETE, GET, HEAD, POST"),
        ask("BREW /c/0", 405, allow="DELETE, GET, HEAD, POST"),
    ],
    "Range is ignored: 200, whole body": [post("/c/0", "whole"), get("/c/0", b"whole", "Range: bytes=1-2")],
    "HTTP/1.1 keep-alive works between GETs": [post("/c/0", "x"), *[get("/c/0", b"x", connection=None)] * 3],
    "Connection: close from the client is honoured": [
        post("/c/0", "x"),
        get("/c/0", b"x", "Connection: close", connection="close"),
    ],
    # Status codes and their bodies.
    "channel unknown: GET, DELETE seq and /next are a 404": [
        get("/c/0", NO_CHANNEL, status=404),
        get("/c/-1", NO_CHANNEL, status=404),
        get("/c/next", NO_CHANNEL, status=404),
        ask("DELETE /c/0", 404, NO_CHANNEL),
    ],
    "GET never creates a channel": [get("/c/0", None, status=404), get("/c/0", None, status=404)],
    "channel exists, segment does not: 470 with Entry not found": [
        post("/c/0", "x"),
        get("/c/7", NO_SEGMENT, status=470, type="text/plain; charset=utf-8"),
    ],
    "470 has Lp-Trickle-Seq, the number asked, and Lp-Trickle-Latest": [
        post("/c/0", "x"),
        post("/c/1", "x"),
        get("/c/7", NO_SEGMENT, status=470, seq="7", latest="2"),
    ],
    "the reason of a 470 is status code 470": [
        post("/c"),
        get("/c/7", NO_SEGMENT, status=470, reason="status code 470"),
    ],
    "errors are text/plain; charset=utf-8": [
        get("/c/0", NO_CHANNEL, status=404, type="text/plain; charset=utf-8"),
        get("/", None, status=404, type="text/plain; charset=utf-8"),
        post("/c/abc", status=400, body=BAD_SEQ, type="text/plain; charset=utf-8"),
        ask("PUT /c/0", 405, type="text/plain; charset=utf-8"),
    ],
    "DELETE of a missing segment: 400 Nonexistent segment": [
        post("/c"),
        ask("DELETE /c/0", 400, b"Nonexistent segment\n"),
    ],
    "DELETE of a missing channel: 400 Invalid stream": [ask("DELETE /c", 400, b"Invalid stream\n")],
    # Sequence numbers.
    "nextWrite starts at 0": [post("/c"), get("/c/next", b"0", latest="0", type="text/plain; charset=utf-8")],
    "nextWrite is set to idx+1": [post("/c/4", "x"), get("/c/next", b"5", latest="5")],
    "it is an assignment, not a maximum: writing a lower seq moves it back": [
        post("/c/1000", "x"),
        post("/c/0", "x"),
        get("/c/next", b"1"),
    ],
    "after a late 1, GET -1 returns the already complete segment 2": [
        post("/c/2", "two"),
        post("/c/1", "one"),
        get("/c/-1", b"two", seq="2"),
    ],
    "GET -2 = nextWrite-1, the segment last written": [
        post("/c/0", "zero"),
        post("/c/1", "one"),
        get("/c/-2", b"one", seq="1"),
    ],
    "GET with another negative idx: 400, never a crash": [
        post("/c/0", "x"),
        *[get(f"/c/{seq}", BAD_SEQ, status=400) for seq in (-3, -4, -5, -6, -10, -(2**63))],
        get("/c/0", b"x"),
    ],
    "POST -1 = write to nextWrite; the real seq is in the reply": [
        post("/c/0", "x"),
        post("/c/-1", "y", seq="1"),
        post("/c/-1", "z", seq="2"),
        get("/c/next", b"3"),
    ],
    "POST with another negative idx: 400, nothing is written": [
        *[post(f"/c/{seq}", "x", status=400, body=BAD_SEQ) for seq in (-2, -3, -5, -10)],
        get("/c/next", NO_CHANNEL, status=404),
    ],
    "DELETE of a negative idx: 400, and the channel goes on": [
        post("/c/0", "x"),
        *[ask(f"DELETE /c/{seq}", 400, BAD_SEQ) for seq in (-1, -2, -5)],
        get("/c/0", b"x"),
        ask("DELETE /c", 200),
    ],
    "the largest seq has a successor that a client can read": [
        post(f"/c/{2**63 - 2}", "x"),
        get("/c/next", str(2**63 - 1).encode()),
        post("/c/-1", "y", status=400, body=BAD_SEQ),
        get("/c/-2", b"x"),
    ],
    "with 0..7 written, 3..7 are readable, 0..2 are 470 with Lp-Trickle-Latest: 8": [
        *[post(f"/c/{seq}", f"segment {seq}") for seq in range(8)],
        *[get(f"/c/{seq}", NO_SEGMENT, status=470, latest="8", seq=str(seq)) for seq in range(3)],
        *[get(f"/c/{seq}", f"segment {seq}".encode()) for seq in range(3, 8)],
    ],
    # Headers.
    "Expect-Content is the MIME type of the channel; the create request's Content-Type is ignored": [
        post("/c", "", "Expect-Content: video/MP2T", "Content-Type: text/html"),
        post("/c/0", "x"),
        get("/c/0", b"x", type="video/MP2T"),
    ],
    "a segment's Content-Type counts only if this POST autocreates the channel": [
        post("/c/0", "x", "Content-Type: video/mp4"),
        post("/c/1", "x", "Content-Type: text/plain"),
        get("/c/1", b"x", type="video/mp4"),
    ],
    "a channel without a type has one for its readers all the same": [
        post("/c/0", "x"),
        get("/c/0", b"x", type="application/octet-stream"),
    ],
    "Lp-Trickle-Latest is on data if it differs from the segment's seq": [
        post("/c/0", "x"),
        post("/c/1", "x"),
        get("/c/0", b"x", seq="0", latest="2"),
        post("/c/3", "three"),
        post("/c/2", "two"),
        get("/c/3", b"three", seq="3", latest=None),
    ],
    "POST 200 has Lp-Trickle-Seq, the effective seq": [post("/c/7", "x", seq="7", closed=None, connection=None)],
    "Connection: close on a POST that ended with zero bytes": [post("/c/0", "", connection="close", seq="0")],
    "a Content-Length body is accepted too": [post("/c/0", "abc"), get("/c/0", b"abc")],
    # Create.
    "POST {name}: 200, empty body, idempotent": [post("/c", length="0"), post("/c", length="0")],
    "a second create does not change the MIME type": [
        post("/c", "", "Expect-Content: a/a"),
        post("/c", "", "Expect-Content: b/b"),
        post("/c/0", "x"),
        get("/c/0", b"x", type="a/a"),
    ],
    "a POST with a bad idx is a 400 and leaves no channel behind": [
        post("/c/abc", "x", status=400, body=BAD_SEQ),
        get("/c/next", NO_CHANNEL, status=404),
    ],
    "a create request may have a body, which is ignored": [post("/c", "whatever"), get("/c/next", b"0")],
    # Writing.
    "zero-byte POST: an empty segment, nextWrite moves on, GET gives 200 with empty body, Seq and Latest": [
        post("/c/0", ""),
        get("/c/next", b"1"),
        get("/c/0", b"", seq="0", latest="1", length="0", closed=None, type=None),
    ],
    "re-POST to a closed seq: 200 with zero bytes taken, old data kept, Connection: close": [
        post("/c/0", "old"),
        post("/c/0", "new", connection="close"),
        get("/c/0", b"old"),
    ],
    # Ending.
    "DELETE seq: 200; the slot stays, a later POST to it takes nothing": [
        post("/c/0", "x"),
        ask("DELETE /c/0", 200, b""),
        post("/c/0", "y", connection="close"),
        get("/c/0", b"x"),
    ],
    "after DELETE channel the next GET is a plain 404": [
        post("/c/0", "x"),
        ask("DELETE /c", 200, b""),
        get("/c/0", NO_CHANNEL, status=404, closed=None),
        get("/c/1", NO_CHANNEL, status=404, closed=None),
    ],
    "second DELETE: 400 Invalid stream": [
        post("/c"),
        ask("DELETE /c", 200),
        ask("DELETE /c", 400, b"Invalid stream\n"),
    ],
    "a late POST re-creates the channel with nextWrite from that POST": [
        post("/c/0", "x"),
        ask("DELETE /c", 200),
        post("/c/7", "late"),
        get("/c/next", b"8"),
        get("/c/0", NO_SEGMENT, status=470),
    ],
}


@pytest.mark.parametrize("rule", ANSWERS)
async def test_rule(start_relay, rule: str) -> None:
    async with asyncio.timeout(PATIENCE_S), bench(await start_relay()) as at:
        await at.play(*ANSWERS[rule])
