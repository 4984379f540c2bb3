"""Api: the HTTP service, on the socket that the launcher listens on."""

import asyncio
import socket

from aiohttp import web

from pipeline.api.app import Api
from pipeline.control import ControlClient
from pipeline.worker import Worker, run


async def serve_until_drained(worker: Worker) -> None:
    assert worker.boot.listen_fd is not None
    control = ControlClient(worker.boot.control_endpoint)
    runner = web.AppRunner(Api(control).application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=worker.boot.listen_fd)).start()
    worker.ready(worker.boot.api_url or "")
    await worker.draining_event().wait()
    await runner.cleanup()
    control.close()


def main(worker: Worker) -> None:
    asyncio.run(serve_until_drained(worker))


if __name__ == "__main__":
    run(main)
