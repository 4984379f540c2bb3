"""Where URLs may lead, however they are written."""

import asyncio
import ipaddress
import socket

import pytest

from pipeline.addresses import address_problem
from pipeline.api.urls import UrlRefused, UrlRules
from pipeline.trickle import SegmentRefused, TricklePublisher, TrickleSubscriber
from tests.api.conftest import StartService
from tests.api.test_streams import URLS

PUBLIC, LOCAL = UrlRules((), private=False, has_relay=False), UrlRules((), private=True, has_relay=True)

NEVER = [
    "http://169.254.169.254/latest/meta-data",
    "http://169.254.1.1/x",
    "http://100.100.100.200/x",
    "http://[fd00:ec2::254]/x",
    "http://[::ffff:169.254.169.254]/x",
    "http://[::169.254.169.254]/x",
    "http://[64:ff9b::a9fe:a9fe]/x",
    "http://[2002:a9fe:a9fe::]/x",
    "http://[fe80::1]/x",
    "http://2852039166/x",
    "http://0xa9fea9fe/x",
    "http://0251.0376.0251.0376/x",
    "http://169.254.43518/x",
    "http://224.0.0.1/x",
    "http://[ff02::1]/x",
    "http://0.0.0.0/x",
    "http://[::]/x",
    "http://255.255.255.255/x",
    "http://240.0.0.1/x",
]

PRIVATE = [
    "http://127.0.0.1:5678/x",
    "http://127.1/x",
    "http://2130706433/x",
    "http://0x7f.0.0.1/x",
    "http://0177.0.0.1/x",
    "http://[::1]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://[::ffff:7f00:1]/x",
    "http://localhost/x",
    "http://LOCALHOST/x",
    "http://10.0.0.1/x",
    "http://172.16.0.1/x",
    "http://192.168.1.1/x",
    "http://100.64.0.1/x",
    "http://[fd12:3456::1]/x",
    "http://[fec0::1]/x",
]

NO_URL = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1/x",
    "javascript://x/y",
    "http:///x",
    "http://",
    "http://127.0.0.1",
    "http://127.0.0.1/",
    "http://user:word@127.0.0.1/x",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:0/x",
    "http://127.0.0.1:port/x",
    "http://127.0.0.1/x y",
    "http://127.0.0.1/x\r\nHost: other",
    "http://127.0.0.1\\@example.org/x",
    "http://[::1/x",
    "http://[fe80::1%25eth0]/x",
    "http://127.0.0.1/a/../b",
    "http://127.0.0.1/%2e%2e/b",
    "http://ｌocalhost/x",
    "../x",
    "/etc/passwd",
    "a/../b",
    "",
    "http://127.0.0.1/" + "x" * 3000,
]


@pytest.mark.parametrize("url", NEVER)
async def test_no_topology_lets_a_url_lead_there(url: str) -> None:
    with pytest.raises(UrlRefused, match="leads to"):
        await LOCAL.check(url)


@pytest.mark.parametrize("url", PRIVATE)
async def test_private_addresses_are_for_a_service_that_may(url: str) -> None:
    with pytest.raises(UrlRefused, match=r"api\.allow_private is off"):
        await PUBLIC.check(url)
    await LOCAL.check(url)


@pytest.mark.parametrize("url", NO_URL)
async def test_what_is_no_url_of_a_channel_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        await LOCAL.check(url)


@pytest.mark.parametrize("url", ["http://8.8.8.8/x", "https://8.8.8.8:8443/a/b?token=c", "http://[2606:4700::1111]/x"])
async def test_public_addresses_are_taken(url: str) -> None:
    await PUBLIC.check(url)


@pytest.mark.parametrize("name", ["input", "a/b", "stream-1_x.y"])
async def test_a_name_is_a_channel_of_the_embedded_relay_if_there_is_one(name: str) -> None:
    await LOCAL.check(name)
    with pytest.raises(UrlRefused):
        await PUBLIC.check(name)


async def test_every_address_of_a_name_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server of somebody else's may give a good address and a bad one."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]

    async def resolve(*_: object, **__: object) -> list[object]:
        return found

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(UrlRefused, match=r"leads to 10\.0\.0\.1"):
        await PUBLIC.check("http://good.example/x")


async def test_a_name_that_is_not_known_is_refused() -> None:
    with pytest.raises(UrlRefused, match="not known here"):
        await LOCAL.check("http://no-such-host.invalid/x")


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://8.8.8.8/live/a", True),
        ("http://8.8.8.8:80/live", True),
        ("http://8.8.8.8/lively", False),
        ("http://8.8.8.8/", False),
        ("https://8.8.8.8/live/a", False),
        ("http://8.8.8.8:81/live/a", False),
        ("http://8.8.8.8.example.org/live/a", False),
        ("http://8.8.8.8/live/../admin", False),
        ("http://8.8.8.8/live/%2e%2e/admin", False),
    ],
)
async def test_with_allowed_urls_only_those_and_what_is_below_them(url: str, allowed: bool) -> None:
    rules = UrlRules(("http://8.8.8.8/live/",), private=True, has_relay=True)
    if allowed:
        await rules.check(url)
    else:
        with pytest.raises(UrlRefused):
            await rules.check(url)


def test_every_ipv4_address_in_ipv6_is_judged_as_itself() -> None:
    for address in ("::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"):
        assert "api.allow_private" in address_problem(ipaddress.ip_address(address), private=False)


@pytest.mark.parametrize("field", ["subscribe_url", "publish_url", "control_url", "events_url", "data_url"])
async def test_all_urls_of_a_stream_are_looked_at(start_service: StartService, field: str) -> None:
    service = await start_service()
    status, answer = await service.post("/stream/start", URLS | {field: "http://169.254.169.254/latest"})
    assert (status, answer["path"]) == (400, field)
    assert service.launcher.streams == []


async def test_a_service_for_others_takes_no_loopback_urls_until_it_is_said(start_service: StartService) -> None:
    closed = await start_service(host="0.0.0.0")
    assert (await closed.post("/stream/start", URLS))[0] == 400

    opened = await start_service(host="0.0.0.0", allow_private=True)
    assert (await opened.post("/stream/start", URLS))[0] == 200


async def test_the_trickle_client_follows_no_redirect() -> None:
    """So there is nothing to check again."""
    asked: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /secret\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/channel"
    async with TrickleSubscriber(url, 0) as subscriber:
        with pytest.raises(SegmentRefused, match="status 302"):
            await subscriber.next()
    with pytest.raises(SegmentRefused, match="status 302"):
        await TricklePublisher(url).create()
    server.close()

    assert asked == [b"/channel/0", b"/channel"]
