"""The document that describes the service, and the service held against it with requests made from it."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.api.app import Api
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.stream_session import Channels
from pipeline.api.urls import UrlRules
from pipeline.topology_sections import Api as Section
from tests.api.conftest import StartService
from tests.api.small_launcher import SmallLauncher
from tests.api.test_streams import URLS, WORKFLOW

PATIENCE_S = 10.0
EXAMPLES = 150
FINITE = {"application/json", "text/plain", "text/html"}


async def test_every_route_is_in_the_document_with_its_refusals(start_service: StartService) -> None:
    service = await start_service()
    status, document = await service.get("/openapi.json")

    assert (status, document["openapi"]) == (200, "3.1.0")
    assert "security" not in document
    assert {"/stream/start", "/api/stream/start", "/live-video-to-video"} < set(document["paths"])
    start = document["paths"]["/stream/start"]["post"]
    assert {"200", "400", "409", "413", "415", "429", "503"} <= set(start["responses"])
    assert start["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/StreamStart"}
    assert document["components"]["schemas"]["StreamStart"]["properties"].keys() > {
        "subscribe_url",
        "prompts",
        "params",
    }
    places = document["paths"]["/stream/{stream_id}/stop"]["post"]["parameters"]
    assert [place["name"] for place in places] == ["stream_id"]
    for reference in set(_references(document)):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


async def test_with_tokens_the_document_says_so(start_service: StartService) -> None:
    service = await start_service(tokens=["api-secret-1"])
    _, document = await service.get("/openapi.json", headers={"Authorization": "Bearer api-secret-1"})
    assert document["security"] == [{"token": []}]
    assert document["paths"]["/health"]["get"]["security"] == []


class Served:
    """The service in a thread of its own, for requests that do not come from its loop."""

    def __init__(self, launcher: SmallLauncher) -> None:
        self._launcher = launcher
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(1)
        self._pool.submit(self._loop.run_forever)
        self.port = self._call(self._start())
        self.operations = self._operations()

    def close(self) -> None:
        self._call(self._runner.cleanup())
        self._line.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._pool.shutdown()
        self._loop.close()

    def ask(self, method: str, path: str, body: bytes, content_type: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request(method, path, body or None, {"Content-Type": content_type})
        reply = connection.getresponse()
        answer = reply.read()
        connection.close()
        return reply.status, answer

    async def _start(self) -> int:
        self._line = LauncherLine(self._launcher.endpoint)
        section = Section(requests_per_second=0)
        rules = UrlRules((), private=True, has_relay=False)
        api = Api(self._line, section, Channels(rules, None, None), "test")
        self._runner = api.runner()
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def _operations(self) -> list[tuple[str, str, list[str]]]:
        """Method, path, and the statuses that the document names; not of what is answered for as long as it is read."""
        document = json.loads(self.ask("GET", "/openapi.json", b"", "")[1])
        return [
            (method.upper(), path, list(operation["responses"]))
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if FINITE & set(operation["responses"].get("200", operation["responses"].get("101"))["content"])
        ]


@pytest.fixture
def served(short_dir: Path) -> Iterator[Served]:
    with SmallLauncher(f"ipc://{short_dir}/control") as launcher:
        service = Served(launcher)
        yield service
        service.close()


FIELDS = ["prompts", "prompt", "width", "height", "params", "stream_id", "gateway_request_id", "manifest_id", *URLS]
FIELDS += ["control_url", "events_url", "data_url", "refuse", "strength", "model_id"]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(WORKFLOW),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
numbers = st.sampled_from([0, 16, 512, -1, 1e308, "512", 2**63, 2**64])
urls = st.sampled_from(
    [*URLS.values(), "http://127.0.0.1:9/x?key=y", "http://[::1", "name", "http://169.254.169.254/x"]
)
objects = st.dictionaries(st.sampled_from(FIELDS), anything | numbers | urls, max_size=6)
starts = objects.map(lambda fields: URLS | fields)
bodies = (objects | starts | anything).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50)
types = st.sampled_from(["application/json"] * 8 + ["text/plain", "", "application/json; charset=latin-1"])
places = st.text(min_size=1, max_size=20) | st.sampled_from(["a", "..", "%2F", "stop"])


def test_whatever_is_asked_gets_one_of_the_answers_in_the_document(served: Served) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(st.sampled_from(served.operations), bodies, types, places)
    def ask(operation: tuple[str, str, list[str]], body: bytes, content_type: str, place: str) -> None:
        method, path, statuses = operation
        target = re.sub(r"\{\w+\}", quote(place, safe=""), path)
        status, answer = served.ask(method, target, body if method == "POST" else b"", content_type)

        allowed = {*statuses, "404", "405"} if "{" in path else set(statuses)  # `..` is another path.
        assert str(status) in allowed, answer
        assert status < 500 or b'"status":"error"' in answer or path in ("/health", "/ready")
        if path not in ("/metrics", "/", "/web/{path}"):
            assert isinstance(json.loads(answer), dict)

    ask()


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield each
            else:
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
