"""Who may ask: tokens, pages of other sites, how often. What is asked is not looked at."""

import asyncio
import base64
import math
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.api.limits import RequestRate
from pipeline.api.problems import ApiError
from pipeline.topology_sections import Api
from pipeline.topology_values import is_loopback
from pipeline.trickle.door import client_of
from pipeline.trickle.origins import Origins
from pipeline.trickle.reply import Refusal
from pipeline.trickle.tokens import Tokens

METHODS = "GET, POST"

SERVER = "livepipe"

TOKEN_PROTOCOL = "bearer."
"""Before a token in base64url: a page cannot set headers of a WebSocket, but the names of its subprotocols."""

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Of every reply that says nothing else."""


class Access:
    """The middlewares of the service, for the outside and the inside of `problems_as_json`."""

    def __init__(self, section: Api, open_to_all: Callable[[web.Request], bool]) -> None:
        """`open_to_all` says what needs no token. Raises TokenMissing."""
        self._open_to_all = open_to_all
        self._origins = Origins(section.cors_origins, exposed="Retry-After")
        self._tokens = Tokens(section.tokens, section.tokens)
        self._rate = RequestRate(section.requests_per_second)

    def outer(self) -> web.middleware:  # type: ignore[valid-type]
        """Answers the question of a browser whether a page may ask."""

        @web.middleware
        async def cross_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
            preflight = self._origins.preflight(request, METHODS)
            return await handler(request) if preflight is None else web.Response(status=204, headers=[*preflight])

        return cross_origin

    async def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set what every reply says, before its head is sent: some are sent while they are still being made."""
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = SERVER
        for name, value in self._origins.fields(request):
            response.headers[name] = value

    def inner(self) -> web.middleware:  # type: ignore[valid-type]
        """Turns away who may not. Raises ApiError."""

        @web.middleware
        async def turn_away(request: web.Request, handler: Handler) -> web.StreamResponse:
            self._check_rate(request)
            self._check_origin(request)
            if not self._open_to_all(request):
                self._check_token(request)
            return await handler(request)

        return turn_away

    def _check_rate(self, request: web.Request) -> None:
        seconds = self._rate.take(client_of(request.remote or ""), asyncio.get_running_loop().time())
        if seconds:
            raise ApiError(
                429,
                "too many requests",
                allowed="api.requests_per_second",
                headers={"Retry-After": str(math.ceil(seconds))},
            )

    def _check_token(self, request: web.Request) -> None:
        shown = request.headers.get("Authorization") or _token_of_websocket(request)
        try:
            self._tokens.check(shown, writes=True)
        except Refusal as refusal:
            raise ApiError(refusal.status, refusal.text.strip(), headers=dict(refusal.fields)) from refusal

    def _check_origin(self, request: web.Request) -> None:
        """A page of another site may send a POST without asking first, if it has no body, and stop somebody's stream; a
        WebSocket it may always open.
        One that the browser takes for ours may be another's too, unless we are called by an address: names can be made
        to lead here."""
        origin = request.headers.get("Origin")
        only_reads = request.method in ("GET", "HEAD") and not _is_websocket(request)
        if origin is None or only_reads or self._origins.allow(origin):
            return
        if origin == f"{request.scheme}://{request.host}" and _is_address(request.host):
            return
        raise ApiError(403, f"pages of {origin[:200]} may not ask", allowed="api.cors_origins")


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _token_of_websocket(request: web.Request) -> str:
    """As a header would say it; empty if there is none."""
    if not _is_websocket(request):
        return ""
    for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(","):
        encoded = protocol.strip().removeprefix(TOKEN_PROTOCOL)
        if encoded != protocol.strip():
            with suppress(ValueError):
                return f"Bearer {base64.urlsafe_b64decode(encoded + '=' * (-len(encoded) % 4)).decode()}"
    return ""


def _is_address(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    return is_loopback(name) or name.replace(".", "").isdigit() or ":" in name
