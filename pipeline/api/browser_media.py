"""What a browser sends, its camera's recording or a file, into a channel. Importing this loads FFmpeg: `publish` does
so when somebody publishes for the first time."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.api.problems import ApiError
from pipeline.client.channel import Channel
from pipeline.client.errors import ChannelUnavailable
from pipeline.client.publishing import Published, publish_file, publish_recording
from pipeline.media.errors import MediaError
from pipeline.media.recording import PipeReader

USER_ERRORS = (MediaError, ChannelUnavailable)
"""What may be wrong with what a browser sends, or with the channel."""

SILENCE_SECONDS = 30.0
"""A browser that sends nothing for so long has stopped, though its connection lives: others may want its place."""

Receive = Callable[[], Awaitable[bytes]]
"""Gives the next part; empty at the end, also when the browser is gone."""


async def publish_camera(receive: Receive, channel: Channel) -> Published:
    """Until the recording ends. Bytes go through a pipe to the thread that publishes: what it does not take yet waits
    in the browser. Raises USER_ERRORS."""
    reading, writing = os.pipe()
    publishing = asyncio.create_task(publish_recording(PipeReader(reading), channel))
    feeding = asyncio.create_task(_feed(receive, writing))
    try:
        await asyncio.wait((publishing, feeding), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if publishing.done():
            os.close(reading)  # So that a write that waits for room ends.
            reading = -1
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        os.close(writing)  # The end of the recording.
        await asyncio.wait((publishing,))
        if reading >= 0:
            os.close(reading)
    return publishing.result()


async def publish_upload(
    receive: Receive, size: int, channel: Channel, received: Callable[[], Awaitable[None]]
) -> Published:
    """Play a file of `size` bytes once all of it is here, for its index may be at its end; `received` is called then.
    It ends early when the browser goes. Raises ApiError for bytes that do not come, and USER_ERRORS."""
    with tempfile.NamedTemporaryFile(prefix="livepipe-upload-") as file:
        came = 0
        while came < size:
            part = await _next(receive)
            came += len(part)
            if not part or came > size:
                raise ApiError(400, f"{came} bytes came of the {size} that were announced")
            await _in_thread(file.write, part)
        await _in_thread(file.flush)
        await received()
        playing = asyncio.create_task(publish_file(file.name, channel))
        gone = asyncio.create_task(_until_it_ends(receive))
        try:
            await asyncio.wait((playing, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (playing, gone):
                task.cancel()
            await asyncio.gather(playing, gone, return_exceptions=True)
    if playing.cancelled():
        raise ApiError(400, "it was stopped before its end")
    return playing.result()


async def _feed(receive: Receive, fd: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        while part := await _next(receive):
            await _in_thread(_write_all, fd, part)


async def _next(receive: Receive) -> bytes:
    """Empty at the end, and when nothing comes."""
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await receive()
    except TimeoutError:
        return b""


async def _until_it_ends(receive: Receive) -> None:
    while await receive():
        pass


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> None:
    """Also when cancelled, only once it has ended: the file is in use until then."""
    running = asyncio.create_task(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(running)
    finally:
        await asyncio.gather(running, return_exceptions=True)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
