"""Trickle: segmented publish/subscribe over HTTP, client and server.

The names here are the client's; the server has its own module, `pipeline.trickle.server`.
"""

from pipeline.trickle.errors import (
    AccessDenied,
    ChannelGone,
    SegmentRefused,
    SegmentTooLarge,
    TrickleConnectionError,
    TrickleError,
    TrickleTimeout,
)
from pipeline.trickle.publisher import TricklePublisher
from pipeline.trickle.segment_reader import SegmentReader
from pipeline.trickle.segment_writer import SegmentWriter
from pipeline.trickle.sink import TrickleSink
from pipeline.trickle.subscriber import TrickleSubscriber

__all__ = [
    "AccessDenied",
    "ChannelGone",
    "SegmentReader",
    "SegmentRefused",
    "SegmentTooLarge",
    "SegmentWriter",
    "TrickleConnectionError",
    "TrickleError",
    "TricklePublisher",
    "TrickleSink",
    "TrickleSubscriber",
    "TrickleTimeout",
]
