"""One end of a comparison, in a process of its own: a publisher, or any number of readers. Standard library only, since
a peer's interpreter runs it: `python -m benchmarks.trickle_peers.end ROLE CLIENT FD`, where CLIENT is a module here.

It says its versions, then does jobs until the other side hangs up. A publisher answers each with what it sent; readers
say that they are about to ask, that they have had everything, and at the end of the stream what that was.
"""

import asyncio
import importlib
import sys
import time
from importlib import metadata
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.trickle_peers.job import HEADER, Arrivals, Job, Received, Sent

OPENED, COMPLETE = "opened", "complete"


def main(role: str, client_name: str, fd: str) -> None:
    runner = Connection(int(fd))
    client = importlib.import_module(f"benchmarks.trickle_peers.{client_name}")
    runner.send({name: metadata.version(name) for name in client.VERSIONED})
    while True:
        try:
            job = runner.recv()
        except EOFError:
            return
        cpu = time.process_time_ns()
        if role == "publisher":
            asyncio.run(_publish(client, job))
            runner.send(Sent(time.process_time_ns() - cpu))
        else:
            readers = asyncio.run(_read_all(client, job, runner))
            runner.send(Received(readers, time.process_time_ns() - cpu))


async def _publish(client: Any, job: Job) -> None:
    filler = bytes(job.chunk_bytes - HEADER.size)
    start = time.monotonic()
    async with client.Publisher(job.url) as publisher:
        for number in range(job.count):
            if job.chunks_per_second:
                await asyncio.sleep(max(0.0, start + number / job.chunks_per_second - time.monotonic()))
            switched_ns = 0
            if number % job.chunks == 0:
                if number:
                    switched_ns = time.monotonic_ns()
                    await publisher.end()
                await publisher.begin()
            await publisher.write(HEADER.pack(number, time.monotonic_ns(), switched_ns) + filler)
        await publisher.end()


async def _read_all(client: Any, job: Job, runner: Connection) -> list[Arrivals]:
    readers = [Arrivals(job) for _ in range(job.readers)]
    runner.send(OPENED)
    missing = set(range(job.readers))

    async def read(which: int) -> None:
        arrivals = readers[which]
        async for segment in client.segments(job.url):
            arrivals.begin()
            async for data in segment:
                arrivals.feed(data, time.monotonic_ns())
            if arrivals.complete and which in missing:
                missing.remove(which)
                if not missing:
                    runner.send(COMPLETE)

    await asyncio.gather(*map(read, range(job.readers)))
    return readers


if __name__ == "__main__":
    main(*sys.argv[1:])
