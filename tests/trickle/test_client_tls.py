"""Whom a client trusts over TLS, and whom it does not, against a real server with real certificates."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pipeline.trickle import TrickleConnectionError, TricklePublisher, TrickleSubscriber, TrickleTimeout
from pipeline.trickle.http1 import HttpConnection
from pipeline.trickle.server import RunningServer
from pipeline.trickle.target import parse_url
from pipeline.trickle.tls import client_context, server_context
from tests.trickle.certificates import Identity, make_identity
from tests.trickle.conftest import StartRelay
from tests.trickle.test_subscriber import whole, write
from tests.trickle.wire import Proxy, Scripted, proxy

SecureRelay = Callable[..., Awaitable[tuple[RunningServer, str]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client-tls")


@pytest.fixture(scope="module")
def server(folder: Path) -> Identity:
    return make_identity(folder, "server")


@pytest.fixture(scope="module")
def client(folder: Path) -> Identity:
    return make_identity(folder, "client")


@pytest.fixture
def start_secure(start_relay: StartRelay) -> SecureRelay:
    """start(context) -> a relay with a segment, and the channel's URL."""

    async def start(context: ssl.SSLContext) -> tuple[RunningServer, str]:
        relay = await start_relay(ssl_context=context)
        write(relay, 0, b"secret")
        return relay, f"https://127.0.0.1:{relay.port}/a"

    return start


async def refused(url: str, context: ssl.SSLContext | None, reason: str) -> None:
    async with TrickleSubscriber(url, 0, ssl_context=context, max_retries=0) as subscriber:
        with pytest.raises(TrickleConnectionError, match=f"^{url}: .*{reason}"):
            await subscriber.next()


async def test_a_certificate_that_the_system_does_not_know_is_refused_by_default(
    start_secure: SecureRelay, server: Identity
) -> None:
    _, url = await start_secure(server_context(*server, None))

    await refused(url, None, "certificate verify failed: self-signed certificate")


async def test_a_certificate_of_another_authority_is_refused(
    start_secure: SecureRelay, server: Identity, client: Identity
) -> None:
    _, url = await start_secure(server_context(*server, None))

    await refused(url, client_context(client.certificate, None, None), "certificate verify failed")


async def test_a_certificate_for_another_host_is_refused(start_secure: SecureRelay, server: Identity) -> None:
    relay, _ = await start_secure(server_context(*server, None))
    trusting = client_context(server.certificate, None, None)

    await refused(f"https://localhost:{relay.port}/a", trusting, "Hostname mismatch.*'localhost'")


async def test_a_certificate_of_an_authority_that_is_named_is_trusted(
    start_secure: SecureRelay, server: Identity
) -> None:
    _, url = await start_secure(server_context(*server, None))
    async with TrickleSubscriber(url, 0, ssl_context=client_context(server.certificate, None, None)) as subscriber:
        assert await whole(await subscriber.next()) == b"secret"


async def test_a_client_shows_its_certificate_to_a_server_that_asks_for_one(
    start_secure: SecureRelay, server: Identity, client: Identity
) -> None:
    _, url = await start_secure(server_context(*server, client.certificate))
    async with TrickleSubscriber(url, 0, ssl_context=client_context(server.certificate, *client)) as subscriber:
        assert await whole(await subscriber.next()) == b"secret"

    await refused(url, client_context(server.certificate, None, None), "")


async def test_a_server_that_speaks_plain_http_is_an_error_that_says_so() -> None:
    async with Scripted() as plain:
        url = f"https://127.0.0.1:{plain.port}/a"
        opening = asyncio.create_task(HttpConnection.open(parse_url(url)))
        raw = await plain.accepted()
        await raw.send("HTTP/1.1 400 Bad Request\n\n")

        with pytest.raises(TrickleConnectionError, match=f"^{url}: .*WRONG_VERSION_NUMBER"):
            await opening


async def test_a_handshake_that_is_not_answered_is_a_time_out() -> None:
    async with Scripted() as silent:
        with pytest.raises(TrickleTimeout, match=r"no connection within 0\.2 s"):
            await HttpConnection.open(parse_url(f"https://127.0.0.1:{silent.port}/a"), timeout_s=0.2)


async def test_over_tls_a_connection_that_breaks_is_resumed_and_back_pressure_holds(
    start_secure: SecureRelay, server: Identity
) -> None:
    relay, _ = await start_secure(server_context(*server, None))
    data = bytes(range(256)) * 16_000
    write(relay, 1, *[data[at : at + 64_000] for at in range(0, len(data), 64_000)])
    trusting = client_context(server.certificate, None, None)
    async with proxy(relay.port) as between:
        between.cut_after = 1_500_000
        url = f"https://127.0.0.1:{between.port}/a"
        async with TrickleSubscriber(url, 1, ssl_context=trusting) as subscriber:
            assert await whole(await subscriber.next()) == data
        assert between.opened >= 2
        await _publish(url, trusting, between, relay, data)


async def _publish(url: str, trusting: ssl.SSLContext, between: Proxy, relay: RunningServer, data: bytes) -> None:
    async with TricklePublisher(url.replace("/a", "/b"), ssl_context=trusting) as publisher:
        async with await publisher.next() as writing:
            await writing.write(data)
        assert relay.trickle.channels.get("b").find(0).size == len(data)
