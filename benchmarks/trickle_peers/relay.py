"""Our relay with its default limits, in a process of its own: `python -m benchmarks.trickle_peers.relay FD`.

It says its port, then answers every word with what it has used so far, until the other side hangs up.
"""

import asyncio
import socket
import sys
import time
from multiprocessing.connection import Connection

from benchmarks.trickle_peers.job import Usage
from pipeline.topology_sections import Relay
from pipeline.trickle.server import serve_on


class CountingListener(socket.socket):
    """Counts the connections that come over it."""

    accepted = 0

    def accept(self) -> tuple[socket.socket, object]:
        connection = super().accept()
        self.accepted += 1
        return connection


async def main(fd: str) -> None:
    runner = Connection(int(fd))
    listener = CountingListener(fileno=socket.create_server(("127.0.0.1", 0), backlog=1024).detach())
    relay = await serve_on([listener], Relay())
    over = asyncio.Event()

    def answer() -> None:
        try:
            runner.recv()
        except EOFError:
            over.set()
        else:
            runner.send(Usage(listener.accepted, time.process_time_ns()))

    asyncio.get_running_loop().add_reader(runner.fileno(), answer)
    runner.send(relay.port)
    await over.wait()
    asyncio.get_running_loop().remove_reader(runner.fileno())
    await relay.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
