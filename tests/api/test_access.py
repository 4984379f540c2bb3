"""Who may ask: tokens, TLS, pages of other sites, how often."""

import ssl
from pathlib import Path

import aiohttp
import pytest

from pipeline.api.limits import MAX_CLIENTS, RequestRate
from pipeline.trickle.tls import client_context, server_context
from tests.api.conftest import StartService
from tests.api.test_streams import URLS
from tests.trickle.certificates import make_identity

TOKEN = "api-secret-1"
PAGE = "https://console.example"


async def test_with_tokens_everything_but_probes_and_the_pages_files_needs_one(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TEST_TOKEN", TOKEN)
    service = await start_service(tokens=["${API_TEST_TOKEN}", "api-secret-2"])
    _, document = await service.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            is_open = operation.get("security") == []
            assert is_open == (path in ("/health", "/ready", "/", "/web/{path}"))
            for header in ({}, {"Authorization": "Bearer wrong-secret"}, {"Authorization": f"Basic {TOKEN}"}):
                async with service.session.request(method, service.url + path, headers=header) as reply:
                    assert (reply.status != 401) == is_open, path
                    assert is_open or "Bearer" in reply.headers["WWW-Authenticate"]
                    assert TOKEN not in await reply.text()
    for token in (TOKEN, "api-secret-2"):
        assert (await service.post("/stream/start", URLS, headers={"Authorization": f"Bearer {token}"}))[0] in (
            200,
            503,
        )


async def test_over_tls_a_client_shows_its_certificate(start_service: StartService, tmp_path: Path) -> None:
    server, client = make_identity(tmp_path, "server"), make_identity(tmp_path, "client")
    service = await start_service(tls=server_context(server.certificate, server.key, client.certificate))
    known = client_context(server.certificate, client.certificate, client.key)
    stranger = client_context(server.certificate, None, None)

    assert (await service.get("/health", ssl=known))[0] == 200
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await service.get("/health", ssl=stranger)


async def test_pages_of_listed_sites_may_ask(start_service: StartService) -> None:
    service = await start_service(cors_origins=[PAGE])
    ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with service.session.options(f"{service.url}/stream/start", headers=ask) as reply:
        assert reply.status == 204
        assert reply.headers["Access-Control-Allow-Origin"] == PAGE
        assert reply.headers["Access-Control-Allow-Methods"] == "GET, POST"
        assert "Content-Type" in reply.headers["Access-Control-Allow-Headers"]
    async with service.session.post(f"{service.url}/stream/start", json=URLS, headers={"Origin": PAGE}) as reply:
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    async with service.session.get(f"{service.url}/nothing", headers={"Origin": PAGE}) as reply:
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (404, PAGE)


async def test_pages_of_other_sites_may_neither_read_nor_stop_a_stream(start_service: StartService) -> None:
    service = await start_service(cors_origins=[PAGE])
    await service.post("/stream/start", URLS)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        async with service.session.options(f"{service.url}/stream/start", headers=headers) as reply:
            assert reply.status in (403, 405)
            assert "Access-Control-Allow-Origin" not in reply.headers
        async with service.session.get(f"{service.url}/status", headers={"Origin": origin}) as reply:
            assert "Access-Control-Allow-Origin" not in reply.headers
        assert (await service.post("/stream/stop", headers={"Origin": origin}))[0] == 403
    assert service.launcher.running is not None


async def test_a_name_that_was_made_to_lead_here_makes_no_page_ours(start_service: StartService) -> None:
    service = await start_service()
    await service.post("/stream/start", URLS)
    port = service.url.rsplit(":", 1)[1]
    rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}

    assert (await service.post("/stream/stop", headers=rebound))[0] == 403
    assert (await service.post("/stream/stop", headers={"Origin": service.url}))[0] == 200


async def test_who_asks_too_often_is_told_when_to_come_back(start_service: StartService) -> None:
    service = await start_service(requests_per_second=1)
    statuses = []
    for _ in range(4):
        async with service.session.get(f"{service.url}/version") as reply:
            statuses.append(reply.status)
            after = reply.headers.get("Retry-After")
    assert statuses == [200, 200, 429, 429]
    assert after == "1"


def test_a_client_that_rests_may_ask_again() -> None:
    rate = RequestRate(10.0)
    assert [rate.take("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert rate.take("a", 0.0) == pytest.approx(0.1)
    assert rate.take("b", 0.0) == 0.0
    assert rate.take("a", 0.11) == 0.0
    assert rate.take("a", 0.11) > 0


def test_the_table_of_clients_does_not_grow() -> None:
    rate = RequestRate(1.0)
    for number in range(3 * MAX_CLIENTS):
        rate.take(str(number), 0.0)
    assert len(rate) == MAX_CLIENTS


async def test_replies_say_little_of_the_server(start_service: StartService) -> None:
    service = await start_service()
    async with service.session.get(f"{service.url}/version") as reply:
        assert reply.headers["Server"] == "livepipe"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
