"""TLS at both ends: the relay's encrypted port, the files that are named, and clients that do not shake hands."""

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from pipeline.topology_sections import Relay, RelayLimits
from pipeline.trickle import TrickleConnectionError, TricklePublisher, TrickleSubscriber, handshake
from pipeline.trickle.server import RunningServer, serve_on
from pipeline.trickle.tls import TlsFileError, client_context, server_context
from tests.trickle.certificates import Identity, make_identity
from tests.trickle.wire import connect, until, url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Identity:
    return make_identity(folder, "ours")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Identity:
    return make_identity(folder, "theirs")


@pytest.fixture
async def start_relay_with_tls():  # type: ignore[no-untyped-def]
    """start(context, limits) -> a relay with a plain port and an encrypted one."""
    started: list[RunningServer] = []

    async def start(context: ssl.SSLContext, limits: RelayLimits | None = None) -> RunningServer:
        plain, encrypted = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        section = Relay(limits=limits or RelayLimits())
        started.append(await serve_on([plain], section, tls=(encrypted, context)))
        return started[-1]

    yield start
    for relay in started:
        await relay.close()


def secure(port: int, name: str = "a") -> str:
    return url(port, name).replace("http:", "https:")


async def test_the_encrypted_port_leads_to_the_same_channels(start_relay_with_tls, ours: Identity) -> None:
    relay = await start_relay_with_tls(server_context(*ours, None))
    plain, encrypted = relay.ports
    trusting = client_context(ours.certificate, None, None)
    async with (
        TricklePublisher(secure(encrypted), ssl_context=trusting) as publisher,
        TrickleSubscriber(secure(encrypted), 0, ssl_context=trusting) as over_tls,
        TrickleSubscriber(url(plain), 0) as in_clear,
    ):
        async with await publisher.next() as segment:
            await segment.write(b"the same")
        for subscriber in (over_tls, in_clear):
            assert await (await subscriber.next()).read() == b"the same"


async def test_a_server_that_ca_did_not_sign_is_not_trusted(
    start_relay_with_tls, ours: Identity, theirs: Identity
) -> None:
    relay = await start_relay_with_tls(server_context(*theirs, None))
    with pytest.raises(TrickleConnectionError, match="certificate verify failed"):
        await TricklePublisher(
            secure(relay.ports[1]), ssl_context=client_context(ours.certificate, None, None)
        ).create()


async def test_with_client_ca_a_client_has_to_show_a_certificate(
    start_relay_with_tls, ours: Identity, theirs: Identity
) -> None:
    relay = await start_relay_with_tls(server_context(*ours, theirs.certificate))
    target = secure(relay.ports[1])
    async with TricklePublisher(target, ssl_context=client_context(ours.certificate, *theirs)) as publisher:
        await publisher.create()
    with pytest.raises(TrickleConnectionError):
        await TricklePublisher(target, ssl_context=client_context(ours.certificate, None, None)).create()
    with pytest.raises(TrickleConnectionError):
        await TricklePublisher(target, ssl_context=client_context(ours.certificate, *ours)).create()
    await until(lambda: not relay.trickle.connections)


async def test_the_end_of_a_large_segment_may_be_the_end_of_a_tls_connection(
    start_relay_with_tls, ours: Identity
) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    relay = await start_relay_with_tls(server_context(*ours, None))
    channel = relay.trickle.channels.create("a", "", 0.0)
    segment = channel.for_write(0)
    for _ in range(64):
        channel.append(segment, bytes(65536), 0.0)
    segment.close()
    trusting = client_context(ours.certificate, None, None)
    for _ in range(4):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.ports[1], ssl=trusting)
        writer.write(b"GET /a/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert len(await reader.read()) > segment.size
        writer.close()
    await until(lambda: not relay.trickle.connections)
    assert not complaints


async def test_plain_http_on_the_encrypted_port_harms_nobody(start_relay_with_tls, ours: Identity) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    relay = await start_relay_with_tls(server_context(*ours, None))
    async with connect(relay.ports[1]) as raw:
        await raw.send("GET /a/0 HTTP/1.1\nHost: x\n\n")
        await raw.reader.read()
    async with connect(relay.ports[0]) as raw:
        assert (await raw.request("GET", "/a/next"))[0].status == 404
    assert not complaints


async def test_who_does_not_shake_hands_is_cut_off_and_only_so_many_may_be_at_it(
    start_relay_with_tls, ours: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "MAX_HANDSHAKES", 2)
    relay = await start_relay_with_tls(server_context(*ours, None), RelayLimits(head_timeout_s=0.5))
    async with connect(relay.ports[1]) as one, connect(relay.ports[1]) as two:
        async with connect(relay.ports[1]) as one_too_many:
            assert await _is_cut_off(one_too_many)
        assert not relay.trickle.connections
        assert await _is_cut_off(one)
        assert await _is_cut_off(two)
    trusting = client_context(ours.certificate, None, None)
    await TricklePublisher(secure(relay.ports[1]), ssl_context=trusting).create()


async def _is_cut_off(raw) -> bool:  # type: ignore[no-untyped-def]
    try:
        return await raw.reader.read() == b""
    except ConnectionResetError:
        return True


def test_each_file_that_cannot_be_used_is_named(folder: Path, ours: Identity, theirs: Identity) -> None:
    nothing, folder_itself, empty = str(folder / "nothing.pem"), str(folder), folder / "empty.pem"
    empty.write_text("no certificate\n")
    encrypted = folder / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", ours.key, "-aes256", "-passout", "pass:secret", "-out", encrypted], check=True
    )
    mistakes = [
        ((nothing, None, None), "ca", "nothing.pem: No such file or directory"),
        ((folder_itself, None, None), "ca", "Is a directory"),
        ((str(empty), None, None), "ca", "empty.pem: holds no certificate in PEM form"),
        ((None, nothing, ours.key), "certificate", "nothing.pem: No such file or directory"),
        ((None, ours.certificate, nothing), "key", "nothing.pem: No such file or directory"),
        ((None, str(empty), ours.key), "certificate", "empty.pem: holds no certificate in PEM form"),
        ((None, ours.certificate, str(empty)), "key", "empty.pem: holds no private key in PEM form"),
        ((None, ours.certificate, theirs.key), "key", "theirs.key: is not the key of .*ours.pem"),
        ((None, ours.certificate, str(encrypted)), "key", "encrypted.key: is encrypted; allowed: a key without"),
    ]
    for files, role, said in mistakes:
        with pytest.raises(TlsFileError, match=said) as mistake:
            client_context(*files)
        assert mistake.value.role == role, files
    with pytest.raises(TlsFileError, match=r"empty\.pem") as mistake:
        server_context(*ours, str(empty))
    assert mistake.value.role == "client_ca"
