"""Bodies of requests, in whatever pieces they come."""

import asyncio
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pipeline.trickle.body import MAX_LINE_BYTES, BodyBroken, BodyDecoder
from pipeline.trickle.intake import PIECE_BYTES, _portions
from pipeline.trickle.server import serve
from tests.trickle.steps import bench, get, post


def decode(length: int | None, *parts: bytes) -> tuple[bytes, bytes]:
    """The body in `parts`, and what came after it."""
    decoder = BodyDecoder(length)
    body, rest = b"", b""
    for part in parts:
        pieces, used = decoder.feed(part)
        body += b"".join(pieces)
        rest += part[used:]
    assert decoder.ended
    return body, rest


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";x", b" ;name=value"]),
    st.sampled_from([b"", b"Trailer: t\r\n", b"A: b\r\nC: d\r\n"]),
    st.lists(st.integers(0, 1000), max_size=12),
)
def test_a_chunked_body_may_be_cut_anywhere(
    chunks: list[bytes], extension: bytes, trailers: bytes, places: list[int]
) -> None:
    framed = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    message = framed + b"0\r\n" + trailers + b"\r\n" + b"NEXT"

    assert decode(None, *cut(message, places)) == (b"".join(chunks), b"NEXT")


@given(st.binary(max_size=100), st.lists(st.integers(0, 1000), max_size=8))
def test_a_body_of_a_given_length_may_be_cut_anywhere(body: bytes, places: list[int]) -> None:
    assert decode(len(body), *cut(body + b"NEXT", places)) == (body, b"NEXT")


@pytest.mark.parametrize(
    "framing",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\nx\r\n",
        b"+1\r\nx\r\n",
        b"0x1\r\nx\r\n",
        b"1_0\r\n",
        b"1\nx\r\n",
        b"1\r\nx\n",
        b"1\r\nxy\r\n",
        b"ffffffffffffffff\r\n",
        b"1;a\x00b\r\nx\r\n",
        b"1" * (MAX_LINE_BYTES + 1),
        b"0\r\n" + b"T: t\r\n" * 5000,
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_framing_that_is_wrong_is_found(framing: bytes, at_once: bool) -> None:
    parts = [framing] if at_once else [framing[place : place + 1] for place in range(len(framing))]
    with pytest.raises(BodyBroken):
        decode(None, *parts)


@given(st.lists(st.integers(1, 3 * PIECE_BYTES), max_size=5))
@settings(max_examples=50, deadline=None)
def test_a_piece_of_a_segment_is_never_longer_than_it_may_be(sizes: list[int]) -> None:
    pieces = [memoryview(bytes([number]) * size) for number, size in enumerate(sizes)]
    portions = [b"".join(portion) for portion in _portions(pieces)]

    assert b"".join(portions) == b"".join(pieces)
    assert all(0 < len(portion) <= PIECE_BYTES for portion in portions)
    assert all(len(portion) == PIECE_BYTES for portion in portions[:-1])


@settings(max_examples=60, deadline=None)
@given(
    noise=st.lists(st.binary(max_size=60) | st.sampled_from([b"GET /c/0 HTTP/1.1\r\n", b"\r\n\r\n", b"Host: x\r\n"]))
)
def test_whatever_bytes_come_the_relay_goes_on(noise: list[bytes]) -> None:
    asyncio.run(_send_noise(noise))


async def _send_noise(noise: list[bytes]) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    relay = await serve("127.0.0.1", 0)
    try:
        async with bench(relay) as at:
            raw = await at.connect()
            for part in noise:
                raw.writer.write(part)
                await asyncio.sleep(0)
            await at.play(post("/c/0", "x"), get("/c/0", b"x"))
    finally:
        await relay.close()
    assert not complaints
