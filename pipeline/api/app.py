"""The HTTP service: /health for load balancers, /status for programs, /metrics for Prometheus."""

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.api.metrics import render_metrics
from pipeline.control import ControlClient, LauncherSilent
from pipeline.messages import Status


class Api:
    def __init__(self, control: ControlClient) -> None:
        self._control = control

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_silent_launcher])
        app.add_routes(
            [web.get("/health", self.health), web.get("/status", self.status), web.get("/metrics", self.metrics)]
        )
        return app

    async def health(self, _request: web.Request) -> web.Response:
        """200 while the stream can flow, 503 when a stage has failed for good: `reasons` says which, and why."""
        status = await self._control.status()
        body = {"status": status.state, "reasons": status.reasons}
        return web.json_response(body, status=200 if status.healthy else 503)

    async def status(self, _request: web.Request) -> web.Response:
        """Everything that the launcher knows, as `messages.Status`."""
        status: Status = await self._control.status()
        return web.Response(body=msgspec.json.encode(status), content_type="application/json")

    async def metrics(self, _request: web.Request) -> web.Response:
        """Prometheus text format."""
        content_type, body = render_metrics(await self._control.status())
        return web.Response(body=body, headers={"Content-Type": content_type})


@web.middleware
async def _silent_launcher(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except LauncherSilent as error:
        return web.json_response({"status": "ERROR", "reasons": [str(error)]}, status=503)
