"""The service on a real socket, at a small launcher behind the real control socket, and a relay for its channels."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from pipeline.api.app import Api
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.stream_session import Channels
from pipeline.api.urls import UrlRules
from pipeline.topology_sections import Api as Section
from pipeline.trickle.server import RunningServer, serve
from tests.api.small_launcher import SmallLauncher

PATIENCE_S = 20.0
LISTENERS = 2
"""Of one service to the launcher's events: those who watch streams, and those who watch pages."""
RELAY_TOKEN = "relay-secret"


class Service:
    """One service, and somebody who asks it."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, launcher: SmallLauncher, runner: web.AppRunner
    ) -> None:
        self.url = url
        self.session = session
        self.launcher = launcher
        self.runner = runner

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Status and JSON of the reply."""
        if body is not None:
            options["json"] = body
        async with self.session.request(method, self.url + path, **options) as reply:
            return reply.status, msgspec.json.decode(await reply.read())

    async def post(self, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        return await self.ask("POST", path, body, **options)

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        return await self.ask("GET", path, **options)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Nobody tells of what is only in an attribute."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


StartService = Callable[..., Awaitable[Service]]


@pytest.fixture
def launcher(short_dir: Path) -> Iterator[SmallLauncher]:
    with SmallLauncher(f"ipc://{short_dir}/control") as launcher:
        yield launcher


@pytest.fixture
async def relay() -> AsyncIterator[RunningServer]:
    """A relay that wants a token from everybody."""
    server = await serve("127.0.0.1", 0, publish_tokens=(RELAY_TOKEN,), subscribe_tokens=(RELAY_TOKEN,))
    yield server
    await server.close()


@pytest.fixture
async def start_service(launcher: SmallLauncher) -> AsyncIterator[StartService]:
    """start_service(relay=..., tls=..., **keys of the section) -> Service."""
    async with AsyncExitStack() as stack:

        async def start(relay: RunningServer | None = None, tls: ssl.SSLContext | None = None, **keys: Any) -> Service:
            section = msgspec.convert({"requests_per_second": 0} | keys, Section)
            line = LauncherLine(launcher.endpoint)
            stack.callback(line.close)
            rules = UrlRules(section.allowed_urls, private=section.permits_private, has_relay=relay is not None)
            relay_url = f"http://127.0.0.1:{relay.port}" if relay is not None else None
            before = launcher.listeners
            api = Api(line, section, Channels(rules, relay_url, RELAY_TOKEN), "test")
            runner = api.runner()
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            listener = socket.create_server(("127.0.0.1", 0))
            await web.SockSite(runner, listener, ssl_context=tls).start()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            scheme = "https" if tls else "http"
            service = Service(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", session, launcher, runner)
            await service.until(lambda: launcher.listeners == before + LISTENERS)  # What happens now is heard.
            return service

        yield start


@pytest.fixture
async def service(start_service: StartService) -> Service:
    return await start_service()
