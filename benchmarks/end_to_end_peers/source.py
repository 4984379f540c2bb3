"""Plays a file that was encoded before, in real time, as a camera would:
`python -m benchmarks.end_to_end_peers.source FILE URL FD`.

The file is cut into chunks before it says that it is ready, so that playing costs next to nothing. Told to, it plays,
and says when each picture was sent. The channel stays.
"""

import asyncio
import sys
import time
from multiprocessing.connection import Connection

from benchmarks.end_to_end_peers.said import Played
from pipeline.media.file_source import SegmentChunk, TsFileSource
from pipeline.trickle import SegmentWriter, TricklePublisher

READY = "ready"


def main(path: str, url: str, fd: str) -> None:
    runner = Connection(int(fd))
    chunks = list(TsFileSource(path))
    runner.send(READY)
    try:
        runner.recv()
        runner.send(asyncio.run(_play(chunks, url)))
        runner.recv()
    except EOFError:
        return


async def _play(chunks: list[SegmentChunk], url: str) -> Played:
    sent: list[float] = []
    late_ms: list[float] = []
    last_due = -1.0
    writer: SegmentWriter | None = None
    publisher = TricklePublisher(url)
    began = time.monotonic()
    for chunk in chunks:
        due = began + chunk.pts_seconds
        if (early := due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        if writer is None:
            writer = await publisher.next()
        if chunk.pts_seconds != last_due:  # What is due together is a picture, and the sound behind it.
            last_due = chunk.pts_seconds
            sent.append(time.monotonic())
            late_ms.append(1000 * (sent[-1] - due))
        await writer.write(chunk.data)
        if chunk.last:
            await writer.close()
            writer = None
    await publisher.close(delete=False)
    return Played(sent, late_ms)


if __name__ == "__main__":
    main(*sys.argv[1:])
