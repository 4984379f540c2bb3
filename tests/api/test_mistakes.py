"""Mistakes of those who ask: JSON that says what, where and what is allowed; and never a look at our insides."""

import asyncio
import logging
from typing import Any

import pytest

from tests.api.conftest import PATIENCE_S, Service, StartService
from tests.api.test_streams import URLS, WORKFLOW


@pytest.mark.parametrize(
    ("body", "path", "error", "allowed"),
    [
        ({}, "subscribe_url", "is missing", "URL of a trickle channel"),
        ({"subscribe_url": URLS["subscribe_url"]}, "publish_url", "is missing", "URL of a trickle channel"),
        (URLS | {"subscribe_url": 7}, "subscribe_url", "got `int`", "str | null"),
        (URLS | {"subscribe_url": "ftp://host/x"}, "subscribe_url", "no trickle channel", "http[s]://"),
        (URLS | {"events_url": "http://127.0.0.1:1"}, "events_url", "no trickle channel", "http[s]://"),
        (URLS | {"params": [1]}, "params", "got `array`", "object | null"),
        (URLS | {"width": 512}, "height", "is missing", "together"),
        (URLS | {"params": {"height": 512}}, "params.width", "is missing", "together"),
        (URLS | {"width": -1, "height": 512}, "width", "no number of pixels", "integer from 1"),
        (URLS | {"width": "wide", "height": 512}, "width", "no number of pixels", "integer from 1"),
        (URLS | {"width": True, "height": 512}, "width", "got `bool`", "int | float | str | null"),
        (URLS | {"width": 512.5, "height": 512}, "width", "no number of pixels", "integer from 1"),
        (URLS | {"gateway_request_id": "x" * 300}, "gateway_request_id", "length <= 256", ""),
        (URLS | {"stream_id": "a\nb"}, "stream_id", "no id", "printable"),
        (URLS | {"prompts": []}, "prompts", "list of 0", "one workflow"),
        (URLS | {"prompts": [WORKFLOW, WORKFLOW]}, "prompts", "list of 2", "one workflow"),
        (URLS | {"prompts": "{"}, "prompts", "no JSON", "a workflow"),
        (URLS | {"prompts": {"nodes": []}}, "prompts", "editor format", "API format"),
        (URLS | {"prompts": {"1": {"class_type": 3}}}, "prompts", "node 1", "API format"),
        (
            URLS
            | {
                "params": {
                    "prompts": WORKFLOW
                    | {"3": {"class_type": "LoadImageMask", "inputs": {"image": "../../etc/passwd"}}}
                }
            },
            "params.prompts",
            "node 3 (LoadImageMask): input image: '../../etc/passwd' leads out of the folder",
            "API format",
        ),
        (URLS | {"width": 9999, "height": 16}, "width", "9999 is no size of a frame", ""),
    ],
)
async def test_a_mistake_in_a_start_is_named(service: Service, body: Any, path: str, error: str, allowed: str) -> None:
    status, answer = await service.post("/stream/start", body)

    assert (status, answer["status"]) == (400, "error")
    assert answer.get("path", "") == path
    assert error in answer["error"] == answer["message"]
    assert allowed in answer.get("allowed", "")
    assert service.launcher.streams == []


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'"\xff"', "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b'{"params":{"a":123456789012345678901234567890}}', "application/json", 400),
        (b'{"params":{"a":1e999}}', "application/json", 400),
        (b'{"params":{"a":NaN}}', "application/json", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b'{"x":"' + b"y" * (1 << 20) + b'"}', "application/json", 413),
    ],
)
@pytest.mark.parametrize("path", ["/stream/start", "/stream/params", "/api/set_prompt", "/warmup", "/stream/a/stop"])
async def test_a_body_that_is_no_json_object_is_refused_everywhere(
    start_service: StartService, path: str, data: bytes, content_type: str, status: int
) -> None:
    service = await start_service(max_request_bytes=1 << 20)
    answered, answer = await service.post(path, data=data, headers={"Content-Type": content_type})

    assert (answered, answer["status"]) == (status, "error"), answer
    assert answer["allowed"]


async def test_a_path_and_a_method_that_are_not_there_are_json_too(service: Service) -> None:
    assert (await service.get("/nothing"))[0] == 404
    async with service.session.get(f"{service.url}/stream/start") as reply:
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")
        assert (await reply.json())["allowed"] == "POST"


async def test_what_is_no_http_leaves_a_traceback_nowhere(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("livepipe"), "propagate", True)
    port = int(service.url.rsplit(":", 1)[1])
    for garbage in (
        b"\x16\x03\x01\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /warmup HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        async with asyncio.timeout(PATIENCE_S):
            reply = await reader.read()
        assert b"Traceback" not in reply
        assert reply.split()[1].startswith(b"4")
        writer.close()
    assert "api.no_http" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_mistake_of_ours_is_a_number_to_the_client_and_a_trace_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("inner secret http://user:word@host/x?key=SECRET")

    monkeypatch.setattr("pipeline.api.streams.all_streams", fail)
    monkeypatch.setattr(logging.getLogger("livepipe"), "propagate", True)
    status, answer = await service.get("/streams")

    assert status == 500
    assert "inner secret" not in str(answer)
    assert f"id={answer['id']}" in caplog.text
    assert "inner secret" in caplog.text
    assert "SECRET" not in caplog.text
    assert "word" not in caplog.text


async def test_a_silent_launcher_is_503_with_a_reason_and_no_late_answer_is_taken_for_another(service: Service) -> None:
    service.launcher.silent = True
    asked = [service.get("/health") for _ in range(5)]

    *health, (status, answer) = await asyncio.gather(*asked, service.post("/stream/start", URLS))

    assert health == [(503, {"status": "ERROR", "reasons": ["no answer from the launcher within 2 s"]})] * 5
    assert (status, answer["code"]) == (503, "silent")
    service.launcher.silent = False
    assert (await service.get("/health"))[1]["status"] == "IDLE"


async def test_health_does_not_wait_for_a_processor_that_loads(service: Service) -> None:
    service.launcher.held = []
    update = asyncio.create_task(service.post("/api/set_prompt", {"prompts": WORKFLOW}))
    await service.until(lambda: bool(service.launcher.updates))

    assert (await service.get("/health"))[0] == 200
    assert not update.done()
    service.launcher.release()
    assert (await update)[0] == 200
