"""An orchestrator as far as capabilities register with it: what go-livepeer's byoc/job_orchestrator.go answers, and
what its core/external_capabilities.go keeps. A real server on a free port."""

import asyncio
import json
import ssl
from typing import Any

from aiohttp import web

# json.Unmarshal into ExternalCapability: a value of another kind is an error, an unknown field is passed over.
_FIELDS = {
    "name": str,
    "description": str,
    "url": str,
    "capacity": int,
    "price_per_unit": int,
    "price_scaling": int,
    "currency": str,
    "token": str,
}


class Orchestrator:
    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.capabilities: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.came = asyncio.Event()
        """Set by each request."""
        self.answers: list[tuple[int, dict[str, str]]] = []
        """Statuses and headers for the next requests, in the place of the handler's own."""
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0, ssl_context: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_route("*", "/capability/{action}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=ssl_context).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        action = request.match_info["action"]
        self.requests.append(action)
        self.came.set()
        if self.answers:
            status, headers = self.answers.pop(0)
            return web.Response(status=status, text="not now", headers=headers)
        if action not in ("register", "unregister"):
            return web.Response(status=404, text="404 page not found\n")
        if request.method != "POST":
            return web.Response(status=405, text="Method not allowed\n")
        if request.headers.get("Authorization", "") != self.secret:
            return web.Response(status=400, text="invalid authorization\n")
        body = await request.text()
        if action == "unregister":
            self.capabilities.pop(body, None)
            return web.Response(text="ok", content_type="application/json")
        try:
            capability = _unmarshal(body)
        except ValueError as error:
            return web.Response(status=400, text=f"Error registering capability: {error}")
        if capability["currency"].lower() not in ("", "wei", "eth"):
            # No price feed: the handler panics, and net/http drops the connection.
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        capability["price_scaling"] = capability["price_scaling"] or 1
        self.capabilities[capability["name"]] = capability
        return web.Response(text="ok", content_type="application/json")


def _unmarshal(text: str) -> dict[str, Any]:
    given = json.loads(text)
    capability: dict[str, Any] = {key: kind() for key, kind in _FIELDS.items()}
    for key, value in given.items():
        kind = _FIELDS.get(key)
        if kind is None:
            continue
        if type(value) is not kind:
            raise ValueError(f"json: cannot unmarshal {type(value).__name__} into {key}")
        capability[key] = value
    return capability
