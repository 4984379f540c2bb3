"""What a benchmark says to its source and its viewer, and what they say. Modules that are run as programs cannot hold
what they send."""

import msgspec


class Prepare(msgspec.Struct, frozen=True):
    """To the source: have pictures of this size ready, to be played at `fps`. Answered with READY."""

    width: int
    height: int
    fps: float


class Play(msgspec.Struct, frozen=True):
    """To the source: publish to each of these channels what was prepared, for so long, or until Stop. Answered with
    a list of Played, one for each channel, when it is over."""

    urls: list[str]
    seconds: float


class Stop(msgspec.Struct, frozen=True):
    """To the source: what is playing is over."""


class End(msgspec.Struct, frozen=True):
    """To the source: end this channel, for good. Answered with READY."""

    url: str


class Watch(msgspec.Struct, frozen=True):
    """To the viewer: watch this channel, from its first segment on. Answered with READY."""

    url: str


class Unwatch(msgspec.Struct, frozen=True):
    """To the viewer: forget this channel. Answered with READY."""

    url: str


class Tell(msgspec.Struct, frozen=True):
    """To the viewer: what was there since the last time. Answered with Watched, by channel. Without `numbers` nothing
    is decoded, which would keep the viewer from watching meanwhile: they are all UNREADABLE."""

    numbers: bool = True


class Played(msgspec.Struct, frozen=True):
    """Each picture in its order: its time stamp (1/90000 s), the number that it bears, when it was handed to the socket
    (CLOCK_MONOTONIC seconds), and how much later that was than due."""

    pts: list[int]
    numbers: list[int]
    sent: list[float]
    late_ms: list[float]


class Watched(msgspec.Struct, frozen=True):
    """Each picture in order of arrival: when its last byte was there (CLOCK_MONOTONIC seconds), its time stamp, the
    number that it bears, or UNREADABLE, and its size. `problem`: what stopped the watching before its time."""

    at: list[float]
    pts: list[int]
    numbers: list[int]
    sizes: list[tuple[int, int]]
    video_bytes: int
    problem: str = ""


READY = "ready"
UNREADABLE = -1
