"""The head of a response: what is understood, what is passed over, and what is refused and why."""

import pytest

from pipeline.trickle.response import MAX_HEAD_BYTES, Reply, ReplyBroken, ReplyHead

HEAD = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nLp-Trickle-Seq: 7\r\nContent-Type:\r\nX-Long:\ta \r\n b\r\nTransfer-Encoding: Chunked\r\n\r\n"
)


def parse(head: str) -> Reply:
    found = ReplyHead().feed(head.replace("\n", "\r\n").encode("latin-1"))
    assert found is not None
    return found[0]


def test_a_head_is_understood_whatever_the_pieces_in_which_it_comes() -> None:
    for cut in range(len(HEAD) + 1):
        head = ReplyHead()
        found = head.feed(HEAD[:cut]) if cut else None
        if cut < len(HEAD):
            assert found is None
            found = head.feed(HEAD[cut:] + b"body")
        else:
            found = (found[0], b"body")
        reply, rest = found

        assert (reply.status, rest) == (200, b"body")
        assert reply.headers == {
            "lp-trickle-seq": "7",
            "content-type": "",
            "x-long": "a b",
            "transfer-encoding": "Chunked",
        }
        assert (reply.number("lp-trickle-seq"), reply.number("content-type"), reply.number("x")) == (7, None, None)


def test_a_head_byte_by_byte_is_the_same_head() -> None:
    head = ReplyHead()
    results = [head.feed(HEAD[at : at + 1]) for at in range(len(HEAD))]

    assert results[:-1] == [None] * (len(HEAD) - 1)
    assert results[-1][0].status == 200


@pytest.mark.parametrize(
    ("head", "chunked", "length", "keeps_alive"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 12\n\n", False, 12, True),
        ("HTTP/1.1 200 OK\nContent-Length: 12\nContent-Length: 12\n\n", False, 12, True),
        ("HTTP/1.1 200 OK\nContent-Length: 12\nConnection: Close\n\n", False, 12, False),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 12\n\n", True, None, True),
        ("HTTP/1.0 200 OK\nContent-Length: 12\n\n", False, 12, False),
        ("HTTP/1.0 200 OK\n\n", False, None, False),
        ("HTTP/1.1 200\n\n", False, None, False),
        ("HTTP/1.1 204 No Content\n\n", False, 0, True),
        ("HTTP/1.1 470 status code 470\nContent-Length: 0\n\n", False, 0, True),
    ],
)
def test_where_a_body_ends_and_whether_another_request_may_follow(
    head: str, chunked: bool, length: int | None, keeps_alive: bool
) -> None:
    reply = parse(head)

    assert (reply.chunked, reply.length, reply.keeps_alive) == (chunked, length, keeps_alive)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("SSH-2.0-OpenSSH_9.2\n", r"does not speak HTTP/1.x, it says b'SSH-2.0"),
        ("\x15\x03\x03\x00\x02\x02\x28", r"does not speak HTTP/1.x, it says b'\\x15\\x03"),
        ("HTTP/2 200\n\n", "does not speak HTTP/1.x, it says b'HTTP/2 200"),
        ("HTTP/1.1 2000 OK\n\n", "status line is broken: b'HTTP/1.1 2000 OK"),
        ("HTTP/1.1 OK\n\n", "status line is broken"),
        ("HTTP/1.1 101 Switching Protocols\n\n", "status 101"),
        ("HTTP/1.1 200 OK\nno colon\n\n", "a header of the reply is broken: b'no colon"),
        ("HTTP/1.1 200 OK\nSpaced : x\n\n", "a header of the reply is broken: b'Spaced : x"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n", "transfer coding is unknown: gzip, chunked"),
        ("HTTP/1.1 200 OK\nContent-Length: -1\n\n", "length is no number: -1"),
        ("HTTP/1.1 200 OK\nContent-Length: 1\nContent-Length: 2\n\n", "length is no number: 1, 2"),
        ("HTTP/1.1 200 OK\nContent-Length: 99999999999999999999\n\n", "length is no number"),
        ("HTTP/1.1 200 OK\nX: " + MAX_HEAD_BYTES * "x", f"more than {MAX_HEAD_BYTES} bytes"),
    ],
)
def test_what_is_no_reply_is_refused_with_a_reason(head: str, said: str) -> None:
    with pytest.raises(ReplyBroken, match=said):
        parse(head)


def test_what_is_not_http_is_refused_at_its_first_byte() -> None:
    with pytest.raises(ReplyBroken, match="does not speak HTTP"):
        ReplyHead().feed(b"\x16")
