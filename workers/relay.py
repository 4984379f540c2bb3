"""Relay: the embedded trickle server, on the socket that the launcher listens on."""

import asyncio
import socket

from pipeline.trickle.server import serve_on
from pipeline.worker import Worker, run


async def serve_until_drained(worker: Worker) -> None:
    assert worker.boot.listen_fd is not None
    server = await serve_on(socket.socket(fileno=worker.boot.listen_fd))
    worker.ready(worker.boot.relay_url or "")
    await worker.draining_event().wait()
    await server.close()


def main(worker: Worker) -> None:
    asyncio.run(serve_until_drained(worker))


if __name__ == "__main__":
    run(main)
