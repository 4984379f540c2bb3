"""What source and viewer say in the end. Modules that are run as programs cannot hold what they send."""

import msgspec

from benchmarks.onlooker import Sighting


class Played(msgspec.Struct, frozen=True):
    """When each picture was handed to the socket, CLOCK_MONOTONIC seconds, and how much later than it was due. The
    index is the number that it bears."""

    sent: list[float]
    late_ms: list[float]


class Watched(msgspec.Struct, frozen=True):
    """Every picture in order of arrival (at CLOCK_MONOTONIC seconds); the sizes that there were, width and height; the
    bytes of video; and what stopped the watching before its time, if anything."""

    seen: list[Sighting]
    sizes: list[tuple[int, int]]
    video_bytes: int
    problem: str
