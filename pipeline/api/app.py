"""The REST service: what may be asked, and who answers it. docs/api.md describes it for those who ask."""

import asyncio
import os
from typing import Any

import msgspec
from aiohttp import web

from pipeline import __version__
from pipeline.api import answers, live_updates, streams, watch
from pipeline.api.access import Access
from pipeline.api.changes import Changed, change, has_stream
from pipeline.api.exposition import Scrape, render
from pipeline.api.hardware import HardwareInfo, HardwareStats, gpu_stats, hardware_info, hardware_stats
from pipeline.api.health import Health, health_of
from pipeline.api.http_log import http_logger
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.live_updates import LiveUpdates
from pipeline.api.metrics import METRICS
from pipeline.api.openapi import document
from pipeline.api.params import workflow_of
from pipeline.api.problems import ApiError, problems_as_json
from pipeline.api.publish import Publish
from pipeline.api.redact import redacted_plan, redacted_status
from pipeline.api.requests import (
    SetPrompt,
    StreamPause,
    StreamStart,
    StreamStop,
    Warmup,
    convert,
    read_object,
    unknown_fields,
)
from pipeline.api.route import Route
from pipeline.api.stream_session import Channels
from pipeline.api.stream_watch import StreamWatch
from pipeline.api.watch import Watch
from pipeline.api.web_page import WebPage
from pipeline.boot import Pause
from pipeline.control import LauncherSilent
from pipeline.status import Plan, Status, Traces
from pipeline.topology_sections import Api as Section

SHUTDOWN_SECONDS = 1.0
"""How long requests that are being answered may take when the service stops."""

UPDATED = "Parameters updated successfully"


class Api:
    """`pipeline` is the topology's name; PIPELINE and MODEL_ID in the environment say otherwise to Livepeer's workers,
    as they do to its own runner."""

    def __init__(self, line: LauncherLine, section: Section, channels: Channels, pipeline: str) -> None:
        """Raises TokenMissing."""
        self.watch = StreamWatch(line, channels, section)
        self._line = line
        self._section = section
        self._rules = channels.rules
        self._pipeline = os.environ.get("PIPELINE", pipeline)
        self._model = os.environ.get("MODEL_ID") or os.environ.get("CAPABILITY_NAME") or pipeline
        self._version = __version__
        self._access = Access(section, self._is_open)
        self._page = WebPage()
        self._updates = LiveUpdates(line, lambda: hardware_stats(self._pipeline, self._model))
        self._players = Watch(line, channels)
        self._publish = Publish(line, channels, section)
        self.routes = self._routes()
        self._open_paths = {route.template for route in self.routes if route.is_open}
        self._document = document(self.routes, self._version, with_tokens=bool(section.tokens))

    def application(self) -> web.Application:
        middlewares = [self._access.outer(), problems_as_json, self._access.inner()]
        app = web.Application(middlewares=middlewares, client_max_size=self._section.max_request_bytes)
        for route in self.routes:
            app.router.add_route(route.method, route.path, route.handler)
        app.on_response_prepare.append(self._access.mark)
        app.on_shutdown.append(self._close)
        app.cleanup_ctx.append(self._watching)
        return app

    def runner(self) -> web.AppRunner:
        """To be set up, and given sockets."""
        return web.AppRunner(
            self.application(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, logger=http_logger()
        )

    async def _watching(self, _app: web.Application) -> Any:
        runs = {"watch": self.watch.run(), "updates": self._updates.run()}
        tasks = [asyncio.create_task(run, name=name) for name, run in runs.items()]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self, _app: web.Application) -> None:
        """End what would go on for as long as somebody reads it."""
        self._updates.close()
        self._players.close()
        self._publish.close()

    def _is_open(self, request: web.Request) -> bool:
        """Whether what is asked needs no token."""
        resource = request.match_info.route.resource
        return resource is not None and resource.canonical in self._open_paths

    def _routes(self) -> list[Route]:
        done = answers.Done
        start = Route("POST", "/stream/start", self.start, "Start a stream", done, StreamStart, refusals=(409, 503))
        stop = Route("POST", "/stream/stop", self.stop, "Stop a stream", done, StreamStop, refusals=(404, 503))
        pause = Route("POST", "/stream/pause", self.pause, "Pause a stream", done, StreamPause, refusals=(404, 503))
        resume = Route("POST", "/stream/resume", self.resume, "Let it go on", done, StreamStop, refusals=(404, 503))
        params = Route("POST", "/stream/params", self.params, "Change parameters", done, refusals=(404, 422, 503))
        prompt = Route("POST", "/api/set_prompt", self.set_prompt, "Change the workflow", done, SetPrompt)
        prompt = msgspec.structs.replace(prompt, refusals=(422, 503))
        state = Route("GET", "/stream/status", self.stream_status, "How a stream is", answers.StreamState)
        state = msgspec.structs.replace(state, refusals=(404, 503))
        warm = Route("POST", "/warmup", self.warmup, "Load a workflow before a stream comes", done, Warmup)
        health = Route("GET", "/health", self.health, "For load balancers", Health, statuses=(200, 503))
        ready = Route("GET", "/ready", self.ready, "For those that do not wait", Health, statuses=(200, 503))
        page = Route("GET", "/", self._page.index, "The web page", content_type="text/html", is_open=True)
        files = Route("GET", "/web/{path:.+}", self._page.asset, "What the page is made of", is_open=True)
        files = msgspec.structs.replace(files, refusals=(404,), content_type="text/plain")
        updates = Route("GET", "/updates", self._updates.answer, "Status and events as they come", refusals=(503,))
        updates = msgspec.structs.replace(updates, content_type=live_updates.CONTENT_TYPE)
        video = Route("GET", "/watch/{end}.ts", self._players.answer, "A channel as one MPEG-TS")
        video = msgspec.structs.replace(video, content_type=watch.CONTENT_TYPE, refusals=(403, 404, 503))
        camera = Route("GET", "/publish/{channel}", self._publish.answer, "Publish over a WebSocket", statuses=(101,))
        camera = msgspec.structs.replace(camera, refusals=(403, 426))
        restart = Route("POST", "/stages/{stage}/restart", self.restart, "Start a stage again", done)
        metrics = Route("GET", "/metrics", self.metrics, "For Prometheus", refusals=(503,), content_type="text/plain")
        return [
            start,
            start.also("/api/stream/start"),
            start.also("/live-video-to-video"),
            stop,
            stop.also("/stream/{stream_id}/stop"),
            pause,
            pause.also("/stream/{stream_id}/pause"),
            resume,
            resume.also("/stream/{stream_id}/resume"),
            params,
            params.also("/stream/{stream_id}/params"),
            prompt,
            prompt.also("/api/prompts/update"),
            msgspec.structs.replace(warm, statuses=(200, 202), refusals=(409, 422, 503)),
            state,
            state.also("/stream/{stream_id}/status"),
            Route("GET", "/streams", self.list_streams, "Streams on request", answers.Streams, refusals=(503,)),
            msgspec.structs.replace(health, is_open=True),
            msgspec.structs.replace(ready, is_open=True),
            Route("GET", "/status", self.status, "Everything that the launcher knows", Status, refusals=(503,)),
            metrics,
            Route("GET", "/traces", self.traces, "The way of single frames, hop by hop", Traces, refusals=(503,)),
            Route("GET", "/version", self.version, "What runs here", answers.Version),
            Route("GET", "/app-version", self.app_version, "The version of this program", answers.AppVersion),
            Route("GET", "/hardware/info", self.hardware_info, "What this machine has", HardwareInfo),
            Route("GET", "/hardware/stats", self.hardware_stats, "How busy it is", HardwareStats),
            page,
            files,
            Route("GET", "/plan", self.plan, "What the pipeline consists of", Plan, refusals=(503,)),
            updates,
            video,
            camera,
            msgspec.structs.replace(restart, refusals=(404, 409, 503)),
            Route("GET", "/openapi.json", self.openapi, "This document"),
        ]

    # Streams.

    async def start(self, request: web.Request) -> web.Response:
        given = await read_object(request)
        done = await streams.start_stream(self._line, self._rules, given, convert(given, StreamStart))
        self.watch.look()
        return _json(done)

    async def stop(self, request: web.Request) -> web.Response:
        asked = convert(await read_object(request), StreamStop)
        name = request.match_info.get("stream_id") or streams.name_of(asked)
        done = await streams.stop_stream(self._line, name)
        self.watch.look()
        return _json(done)

    async def pause(self, request: web.Request) -> web.Response:
        """The processor rests; frames, sound and counts go on."""
        asked = convert(await read_object(request), StreamPause)
        return await self._pause(request, asked, Pause(asked.show))

    async def resume(self, request: web.Request) -> web.Response:
        return await self._pause(request, convert(await read_object(request), StreamStop), None)

    async def _pause(self, request: web.Request, asked: StreamPause | StreamStop, pause: Pause | None) -> web.Response:
        name = request.match_info.get("stream_id") or streams.name_of(asked)
        return _json(await streams.pause_stream(self._line, name, pause))

    async def params(self, request: web.Request) -> web.Response:
        """With the id of a stream, which has to be under way; without one, of whatever runs."""
        given = await read_object(request)
        name, stream = request.match_info.get("stream_id", ""), ""
        status = await self._line.status()
        if name:
            stream = streams.find(status, name, "update").spec.stream
            if all(stream != each.spec.stream for each in answers.under_way(status)):
                raise ApiError(404, f"the stream {stream!r} is over", code="unknown")
        elif not has_stream(status):
            raise ApiError(400, f"{streams.NO_STREAM} to update", code="unknown")
        return self._answer_change(await change(self._line, given, stream), stream, UPDATED)

    async def stream_status(self, request: web.Request) -> web.Response:
        return _json(streams.state_of(await self._line.status(), request.match_info.get("stream_id", "")))

    async def list_streams(self, _request: web.Request) -> web.Response:
        return _json(streams.all_streams(await self._line.status()))

    # The processor.

    async def set_prompt(self, request: web.Request) -> web.Response:
        """Whether or not a stream runs."""
        given = await read_object(request)
        asked = convert(given, SetPrompt)
        if asked.prompts is None and asked.prompt is None:
            raise ApiError(400, "is missing", path="prompts", allowed="a workflow, or a list with one")
        known = {name: value for name in SetPrompt.__struct_fields__ if (value := getattr(asked, name)) is not None}
        done = await change(self._line, known)
        ignored = done.ignored + unknown_fields(given, SetPrompt)
        return self._answer_change(done._replace(ignored=ignored), "", UPDATED)

    async def warmup(self, request: web.Request) -> web.Response:
        """200 once the processor is ready, with the workflow if one was given; 202 while it loads."""
        asked = convert(await read_object(request), Warmup)
        status = await self._line.status()
        health = health_of(status)
        given = asked.prompts if asked.prompts is not None else asked.prompt
        if given is not None:
            workflow = workflow_of(given, "prompts")
            if has_stream(status) and health.status != "LOADING":
                raise ApiError(
                    409,
                    "a stream runs, and it would change before its viewers",
                    allowed="/api/set_prompt",
                    code="exists",
                )
            return self._answer_change(await change(self._line, {"prompts": [workflow]}), "", "The workflow is loaded")
        if health.status == "LOADING":
            return _json(answers.Done("success", "; ".join(health.reasons), "", ""), 202)
        if health.http_status != 200:
            raise ApiError(503, "; ".join(health.reasons))
        return _json(answers.Done("success", "The processor is ready", "", ""))

    def _answer_change(self, done: Changed, name: str, message: str) -> web.Response:
        self.watch.changed(done.params, name)
        return _json(answers.Done("success", message, "", name, done.ignored))

    # The pipeline.

    async def health(self, _request: web.Request) -> web.Response:
        """503 when nothing should be sent here: `reasons` says why."""
        health = await self._health()
        return _json(health, health.http_status)

    async def ready(self, _request: web.Request) -> web.Response:
        """The same, but 503 while a model loads too."""
        health = await self._health()
        return _json(health, 200 if health.is_loaded else 503)

    async def _health(self) -> Health:
        try:
            return health_of(await self._line.look())
        except LauncherSilent as silent:
            return Health("ERROR", [str(silent)])

    async def status(self, _request: web.Request) -> web.Response:
        """Everything that the launcher knows, as `status.Status`."""
        return _json(redacted_status(await self._line.status()))

    async def traces(self, _request: web.Request) -> web.Response:
        """The newest frames that were traced, as `status.Traces`."""
        return _json(await self._line.traces())

    async def plan(self, _request: web.Request) -> web.Response:
        """What the pipeline consists of, and the parameters that are in force."""
        return _json(redacted_plan(await self._line.plan()))

    async def restart(self, request: web.Request) -> web.Response:
        """Start a stage again, with a fresh budget of restarts; kill it before if it runs."""
        name = request.match_info["stage"]
        stages = [stage.stage for stage in (await self._line.status()).stages]
        if name not in stages:
            raise ApiError(404, f"there is no stage {name[:80]!r}", allowed=", ".join(stages), code="unknown")
        answer = await self._line.restart(name)
        if not answer.ok:
            raise ApiError(409, answer.text)
        return _json(answers.Done("success", answer.text, "", ""))

    async def metrics(self, _request: web.Request) -> web.Response:
        """Prometheus text format."""
        status = await self._line.look()
        gpus = await asyncio.to_thread(gpu_stats)
        content_type, body = render(METRICS, Scrape(status, gpus, self._version))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def version(self, _request: web.Request) -> web.Response:
        return _json(answers.Version(self._pipeline, self._model, self._version))

    async def app_version(self, _request: web.Request) -> web.Response:
        return _json(answers.AppVersion(self._version))

    async def hardware_info(self, _request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(hardware_info, self._pipeline, self._model))

    async def hardware_stats(self, _request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(hardware_stats, self._pipeline, self._model))

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")


def _json(answer: msgspec.Struct, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type="application/json")
