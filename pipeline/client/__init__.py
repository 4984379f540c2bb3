"""A client for programs that use a node from outside: start a stream, publish into it, read what comes back.

It speaks HTTP and trickle to any node that has this service. Of the pipeline's own processes only the api uses
a part of it, to publish what a browser sends.
"""

from pipeline.client.errors import (
    ChannelUnavailable,
    ClientError,
    ServerUnreachable,
    StreamRefused,
    TokenRefused,
    UnexpectedAnswer,
)
from pipeline.client.publishing import Published
from pipeline.client.receiving import ReceivedFrame
from pipeline.client.stream_client import ComfyStreamTrickleClient

__all__ = [
    "ChannelUnavailable",
    "ClientError",
    "ComfyStreamTrickleClient",
    "Published",
    "ReceivedFrame",
    "ServerUnreachable",
    "StreamRefused",
    "TokenRefused",
    "UnexpectedAnswer",
]
