"""Every transport that the hand-over benchmark compares really carries frames. No times are asserted."""

from collections.abc import Iterator

import pytest

from benchmarks.handoff_peers.catalogue import OURS_LATEST, TRANSPORTS
from benchmarks.handoff_peers.end import Job
from benchmarks.handoff_peers.pair import Pair
from benchmarks.handoff_peers.transport import Frame

FRAMES = 50
SMALL = Frame("small", 64, 48)


@pytest.fixture(scope="module", params=TRANSPORTS)
def name(request: pytest.FixtureRequest) -> str:
    if not TRANSPORTS[request.param].installed:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(scope="module")
def pair(name: str) -> Iterator[Pair]:
    with Pair(TRANSPORTS[name].make([SMALL]), cores=None) as pair:
        yield pair


def test_every_frame_arrives_whole_and_in_order(pair: Pair) -> None:
    carried = pair.run(Job(SMALL, "ping-pong", copies=True, count=FRAMES, whole=True))
    sent, received = carried.sent.at_ns, carried.received.at_ns
    assert len(received) == FRAMES
    assert all(before < after for before, after in zip(sent, received, strict=True))


def test_a_stream_arrives_in_order(pair: Pair, name: str) -> None:
    """The end itself refuses a frame that is out of order, or that does not hold its own number."""
    received = pair.run(Job(SMALL, "streaming", copies=not TRANSPORTS[name].in_place, count=FRAMES)).received.at_ns
    assert received[-1] > 0
    assert all(received) or name == OURS_LATEST
