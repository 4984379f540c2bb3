"""Trickle: segmented publish/subscribe over HTTP, client and server.

The names here are the client's; the server has its own module, `pipeline.trickle.server`.
"""

from pipeline.trickle.errors import (
    ChannelGone,
    SegmentRefused,
    TrickleConnectionError,
    TrickleError,
    TrickleTimeout,
)
from pipeline.trickle.publisher import SegmentWriter, TricklePublisher
from pipeline.trickle.sink import TrickleSink
from pipeline.trickle.subscriber import SegmentReader, TrickleSubscriber

__all__ = [
    "ChannelGone",
    "SegmentReader",
    "SegmentRefused",
    "SegmentWriter",
    "TrickleConnectionError",
    "TrickleError",
    "TricklePublisher",
    "TrickleSink",
    "TrickleSubscriber",
    "TrickleTimeout",
]
