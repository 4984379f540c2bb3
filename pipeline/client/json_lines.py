"""A channel of JSON lines, one value after the other: the events of a stream, and the data that its processor gives."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pipeline.client.channel import Channel, segments
from pipeline.client.errors import ChannelUnavailable
from pipeline.trickle.errors import TrickleError

MAX_LINE_BYTES = 1024 * 1024


async def json_lines(channel: Channel, start_seq: int, patience_s: float) -> AsyncGenerator[Any]:
    """The value of each line, as soon as the line is complete; a line that is no JSON as the text that it is. The end
    of a segment ends a line too.

    Raises ChannelUnavailable as `segments` does, and for a line longer than MAX_LINE_BYTES.
    """
    async with aclosing(segments(channel, start_seq, patience_s)) as found:
        async for segment in found:
            rest = b""
            try:
                async for data in segment:
                    *lines, rest = (rest + data).split(b"\n")
                    for line in filter(bytes.strip, lines):
                        yield _value(line)
                    if len(rest) > MAX_LINE_BYTES:
                        raise ChannelUnavailable(f"{channel.url}: a line of more than {MAX_LINE_BYTES} bytes")
            except TrickleError as error:
                raise channel.unavailable(error) from error
            if rest.strip():
                yield _value(rest)


def _value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line.decode(errors="replace").rstrip("\r")
