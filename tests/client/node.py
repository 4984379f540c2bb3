"""A node's HTTP service for tests: a real server on a free port that answers in the service's shapes and keeps what it
was sent. It runs no stream."""

import json
import ssl
from typing import Any

from aiohttp import web


class Node:
    """At most one stream, as a node with `streams: {max: 1}`; with `token` it asks for that."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.requests: list[tuple[str, str, Any]] = []
        """Method, path and JSON body of each, in order."""
        self.running: dict[str, Any] | None = None
        self.healthy = True
        self.loading = 0
        """How often it says that it is loading."""
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self, ssl_context: ssl.SSLContext | None = None, port: int = 0) -> None:
        app = web.Application(middlewares=[self._note])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/version", self._version),
                web.get("/streams", self._streams),
                web.get("/stream/status", self._status),
                web.get("/stream/{id}/status", self._status),
                web.post("/stream/start", self._start),
                web.post("/stream/stop", self._stop),
                web.post("/stream/{id}/stop", self._stop),
                web.post("/stream/params", self._update),
                web.post("/stream/{id}/params", self._update),
                web.post("/stream/{id}/pause", self._update),
                web.post("/stream/{id}/resume", self._update),
                web.post("/api/prompts/update", self._update),
                web.post("/api/set_prompt", self._update),
                web.get("/elsewhere", self._moved),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=ssl_context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def last(self) -> tuple[str, str, Any]:
        return self.requests[-1]

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        text = await request.text()
        self.requests.append((request.method, request.path, json.loads(text) if text else None))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _error(401, "a bearer token is needed here")
        return await handler(request)

    async def _health(self, _request: web.Request) -> web.Response:
        if self.loading:
            self.loading -= 1
            return web.json_response({"status": "LOADING", "reasons": []})
        state = {"status": "OK", "reasons": []} if self.healthy else {"status": "DEGRADED", "reasons": ["inference"]}
        return web.json_response(state, status=200 if self.healthy else 503)

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"pipeline": "byoc", "model_id": "edges", "version": "0.1.0"})

    async def _streams(self, _request: web.Request) -> web.Response:
        return web.json_response({"streams": [self.running] if self.running else []})

    async def _status(self, request: web.Request) -> web.Response:
        if not self._is_running(request) and "id" in request.match_info:
            return self._no_stream(request, "show")
        return web.json_response({"status": "OK" if self.running else "IDLE", "current_stream": self.running})

    async def _start(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if self.running:
            return _error(503, f"{self.running['stream_id']} runs, and streams.max is 1; stop it first", code="full")
        width = asked["params"].get("width", 512)
        if width % 2:
            return _error(400, f"{width} is no size of a frame", "params.width", "even numbers from 16 to 8192")
        self.running = {"stream_id": asked.get("stream_id", "s-1"), **asked}
        return web.json_response({"status": "success", "stream_id": self.running["stream_id"]})

    async def _stop(self, request: web.Request) -> web.Response:
        if not self._is_running(request):
            return self._no_stream(request, "stop")
        self.running = None
        return web.json_response({"status": "success"})

    async def _update(self, request: web.Request) -> web.Response:
        if self.running is None:
            return self._no_stream(request, "update")
        return web.json_response({"status": "success"})

    async def _moved(self, _request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/health")

    def _is_running(self, request: web.Request) -> bool:
        wanted = request.match_info.get("id")
        return self.running is not None and wanted in (None, self.running["stream_id"])

    def _no_stream(self, request: web.Request, purpose: str) -> web.Response:
        name = request.match_info.get("id")
        if name is None:
            return _error(400, f"No active stream to {purpose}", code="unknown")
        return _error(404, f"there is no stream {name!r}", allowed="none runs", code="unknown")


def _error(status: int, error: str, path: str = "", allowed: str = "", code: str = "") -> web.Response:
    error = f"{path}: {error}" if path else error
    given = {"error": error, "message": error, "path": path, "allowed": allowed, "code": code}
    return web.json_response({"status": "error"} | {key: value for key, value in given.items() if value}, status=status)
