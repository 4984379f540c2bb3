"""Pictures from whatever FFmpeg opens: a camera, a screen, a network stream, a file. They are not paced here."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.media.errors import MediaFileError
from pipeline.media.still import rgb_of

SILENCE_S = 10.0
"""An input that gives nothing for so long counts as gone."""


async def captured(
    url: str, format: str | None = None, options: Mapping[str, str] | None = None
) -> AsyncGenerator[NDArray[np.uint8]]:
    """The pictures of `url` as uint8 (height, width, 3), each when it is there. `format` and `options` are FFmpeg's:
    `captured("/dev/video0", "v4l2", {"framerate": "30"})`.

    Raises MediaFileError when it cannot be opened, or has no video.
    """
    # Closed with its last reference: a thread may still be in it when this is cancelled.
    pictures = _pictures(url, format, options)
    while (picture := await asyncio.to_thread(next, pictures, None)) is not None:
        yield picture


def _pictures(url: str, format: str | None, options: Mapping[str, str] | None) -> Iterator[NDArray[np.uint8]]:
    try:
        with av.open(url, format=format, options=dict(options or {}), timeout=SILENCE_S) as container:
            if not container.streams.video:
                raise MediaFileError(f"{url}: no video stream in it")
            for frame in container.decode(container.streams.video[0]):
                yield rgb_of(frame)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MediaFileError):
            raise
        what = f"{format} input" if format else "input"
        raise MediaFileError(f"{url}: cannot be read as {what}: {getattr(error, 'strerror', None) or error}") from error
