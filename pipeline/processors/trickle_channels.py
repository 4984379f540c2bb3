"""The publisher and the subscriber of trickle-app (pytrickle) for programs written against it where the package is not
installed: our own client under the package's names.

A failure raises, where the package's own gives None or a writer that throws away; leaving the publisher's `async with`
ends the stream.
"""

from pipeline.trickle.publisher import TricklePublisher as _Publisher
from pipeline.trickle.subscriber import TrickleSubscriber

__all__ = ["TricklePublisher", "TrickleSubscriber"]


class TricklePublisher(_Publisher):
    """See `pipeline.trickle.publisher`."""

    def __init__(self, url: str, mime_type: str = "video/mp4") -> None:
        super().__init__(url, mime_type)
