"""Who may use the relay: bearer tokens, and pages of other sites."""

import pytest

from pipeline.trickle.bearer import TokenMissing, reveal
from pipeline.trickle.reply import Refusal
from pipeline.trickle.server import serve
from pipeline.trickle.tokens import Tokens
from tests.trickle.steps import Step, ask, bench, get, post

PUBLISH, SUBSCRIBE = "publish-secret", "subscribe-secret"
PUBLISHER, SUBSCRIBER = f"Authorization: Bearer {PUBLISH}", f"Authorization: Bearer {SUBSCRIBE}"
BOTH = {"publish_tokens": (PUBLISH, "another-secret"), "subscribe_tokens": (SUBSCRIBE,)}


def requests(*headers: str) -> dict[str, Step]:
    """Every kind of request, with the status that it gets where it is allowed."""
    return {
        "create": post("/c", "", *headers, body=None),
        "write": post("/c/1", "y", *headers, body=None),
        "read": get("/c/0", None, *headers),
        "head": ask("HEAD /c/0", 200, None, *headers),
        "next": get("/c/next", None, *headers),
        "close segment": ask("DELETE /c/1", 200, None, *headers),
        "remove": ask("DELETE /c", 200, None, *headers),
    }


READS = {"read", "head", "next"}


@pytest.mark.parametrize(
    ("header", "reads", "writes"),
    [
        ("X: none", 401, 401),
        (SUBSCRIBER, 200, 403),
        (PUBLISHER, 200, 200),
        ("Authorization: bearer another-secret", 200, 200),
        ("Authorization: Bearer wrong", 401, 401),
        (f"Authorization: Bearer {PUBLISH}x", 401, 401),
        (f"Authorization: Bearer {PUBLISH[:-1]}", 401, 401),
        ("Authorization: Bearer ", 401, 401),
        (f"Authorization: {PUBLISH}", 401, 401),
        ("Authorization: Basic cHVibGlzaA==", 401, 401),
    ],
)
async def test_with_tokens_each_request_needs_one_that_is_for_it(
    start_relay, header: str, reads: int, writes: int
) -> None:
    async with bench(await start_relay(**BOTH)) as at:
        await at.play(post("/c/0", "x", PUBLISHER))
        for kind, step in requests(header).items():
            await at.play(step._replace(status=reads if kind in READS else writes))


async def test_with_publish_tokens_alone_everybody_may_read(start_relay) -> None:
    async with bench(await start_relay(publish_tokens=(PUBLISH,))) as at:
        await at.play(post("/c/0", "x", PUBLISHER))
        for kind, step in requests().items():
            await at.play(step._replace(status=200 if kind in READS else 401))


async def test_a_refusal_says_what_is_needed_before_the_body_has_come(start_relay) -> None:
    async with bench(await start_relay(**BOTH)) as at:
        head = await (await at.writer("/c/0")).head()
        assert (head.status, head.headers["connection"]) == (401, "close")
        assert head.headers["www-authenticate"] == 'Bearer realm="trickle"'
        head = await (await at.writer("/c/0", b"", "Authorization: Bearer wrong")).head()
        assert 'error="invalid_token"' in head.headers["www-authenticate"]
        head = await (await at.writer("/c/0", b"", SUBSCRIBER)).head()
        assert (head.status, 'error="insufficient_scope"' in head.headers["www-authenticate"]) == (403, True)
        assert len(at.relay.trickle.channels) == 0


def test_a_token_may_come_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("RELAY_TOKEN", PUBLISH)
    tokens = Tokens(["${RELAY_TOKEN}"])

    tokens.check(f"Bearer {PUBLISH}", writes=True)
    with pytest.raises(Refusal):
        tokens.check("Bearer ${RELAY_TOKEN}", writes=True)
    assert reveal("literal-token") == "literal-token"


@pytest.mark.parametrize("value", [None, "", "two words", "line\nbreak"])
async def test_a_token_that_the_environment_does_not_have_is_a_mistake(monkeypatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("RELAY_TOKEN", raising=False)
    else:
        monkeypatch.setenv("RELAY_TOKEN", value)
    with pytest.raises(TokenMissing, match="RELAY_TOKEN"):
        await serve("127.0.0.1", 0, publish_tokens=("${RELAY_TOKEN}",))


SITE = "https://player.example"


async def test_a_page_may_ask_before_it_writes_and_needs_no_token_for_that(start_relay) -> None:
    async with bench(await start_relay(cors_origins=(SITE,), **BOTH)) as at:
        raw = await at.connect()
        for path, methods in (("/c/0", "DELETE, GET, HEAD, POST"), ("/c", "DELETE, POST")):
            head, _ = await raw.request("OPTIONS", path, f"Origin: {SITE}", "Access-Control-Request-Method: POST")
            assert head.status == 200
            assert head.headers["access-control-allow-origin"] == SITE
            assert head.headers["access-control-allow-methods"] == methods
            assert "Authorization" in head.headers["access-control-allow-headers"]
            assert "Lp-Trickle-Reset" in head.headers["access-control-allow-headers"]
            assert head.headers["vary"] == "Origin"


async def test_a_page_may_see_the_headers_of_every_reply(start_relay) -> None:
    async with bench(await start_relay(cors_origins=("*",))) as at:
        await at.play(post("/c/0", "x"), post("/c/1", ""))
        raw = await at.connect()
        for path, status in (("/c/0", 200), ("/c/1", 200), ("/c/9", 470), ("/c/next", 200), ("/d/0", 404), ("/c", 405)):
            head, _ = await raw.request("GET", path, f"Origin: {SITE}")
            assert (head.status, head.headers["access-control-allow-origin"]) == (status, "*")
            assert (
                head.headers["access-control-expose-headers"] == "Lp-Trickle-Seq, Lp-Trickle-Latest, Lp-Trickle-Closed"
            )


async def test_pages_of_other_sites_are_told_nothing(start_relay) -> None:
    async with bench(await start_relay(cors_origins=(SITE,))) as at:
        await at.play(post("/c/0", "x"))
        raw = await at.connect()
        head, _ = await raw.request("GET", "/c/0", "Origin: https://other.example")
        assert "access-control-allow-origin" not in head.headers
        assert head.headers["vary"] == "Origin"
        head, _ = await raw.request(
            "OPTIONS", "/c/0", "Origin: https://other.example", "Access-Control-Request-Method: GET"
        )
        assert (head.status, "access-control-allow-origin" in head.headers) == (405, False)


async def test_by_default_no_page_of_another_site_may_use_the_relay(relay) -> None:
    async with bench(relay) as at:
        await at.play(post("/c/0", "x"))
        raw = await at.connect()
        for method, status in (("GET", 200), ("OPTIONS", 405)):
            head, _ = await raw.request(method, "/c/0", f"Origin: {SITE}", "Access-Control-Request-Method: GET")
            assert head.status == status
            assert not [name for name in head.headers if name.startswith("access-control")]
