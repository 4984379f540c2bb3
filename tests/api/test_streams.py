"""Streams started, changed and stopped as the peers' clients do it."""

from typing import Any

import pytest

from pipeline.boot import Pause
from pipeline.status import StreamStatus
from tests.api.conftest import Service, StartService

URLS = {"subscribe_url": "http://127.0.0.1:5678/input", "publish_url": "http://127.0.0.1:5678/output"}
WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "any.png"}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def running(service: Service) -> StreamStatus:
    stream = service.launcher.running
    assert stream is not None
    return stream


async def test_what_pytrickles_clients_send_starts_a_stream(service: Service) -> None:
    body = URLS | {
        "control_url": "http://127.0.0.1:5678/control",
        "events_url": "http://127.0.0.1:5678/events",
        "data_url": None,
        "gateway_request_id": "test-123",
        "params": {"intensity": 0.8, "width": 512, "height": "512"},
    }

    assert await service.post("/stream/start", body) == (
        200,
        {
            "status": "success",
            "message": "Stream started successfully",
            "request_id": "test-123",
            "stream_id": "test-123",
        },
    )
    spec = running(service).spec
    assert (spec.subscribe_url, spec.publish_url, spec.data_url) == (URLS["subscribe_url"], URLS["publish_url"], "")
    assert (spec.control_url, spec.events_url) == (body["control_url"], body["events_url"])
    assert (spec.width, spec.height, spec.params) == (512, 512, {"intensity": 0.8})
    assert spec.labels == {"gateway_request_id": "test-123"}


async def test_a_stream_is_paused_and_goes_on(service: Service) -> None:
    assert (await service.post("/stream/pause", {}))[0] == 400, "there is none"
    await service.post("/stream/start", URLS | {"stream_id": "a", "gateway_request_id": "g"})

    status, answer = await service.post("/stream/g/pause", {"show": "input"})
    assert (status, answer["message"], answer["stream_id"]) == (200, "Stream paused successfully", "a")
    assert service.launcher.pause == Pause("input")
    state = (await service.get("/stream/status"))[1]
    assert (state["paused"], state["processing_active"]) == (True, False)

    assert (await service.post("/stream/resume", {"stream_id": "a"}))[0] == 200
    assert service.launcher.pause is None
    assert (await service.get("/stream/status"))[1]["paused"] is False


async def test_what_cannot_be_paused_is_said(service: Service) -> None:
    await service.post("/stream/start", URLS | {"stream_id": "a"})

    assert (await service.post("/stream/b/pause", {}))[0] == 404
    status, answer = await service.post("/stream/pause", {"show": "nothing"})
    assert (status, answer["path"]) == (400, "show")
    assert service.launcher.pause is None


async def test_what_livepeers_orchestrator_sends_starts_a_stream(service: Service) -> None:
    """The fields of LiveVideoToVideoParams, with a workflow among the params."""
    body = URLS | {
        "gateway_request_id": "request",
        "manifest_id": "manifest",
        "stream_id": "stream",
        "model_id": "comfyui",
        "params": {"prompts": WORKFLOW},
    }

    status, answer = await service.post("/live-video-to-video", body)

    assert (status, answer["stream_id"], answer["request_id"]) == (200, "stream", "request")
    assert answer["ignored"] == ["model_id"]
    assert running(service).spec.params == {"prompts": [WORKFLOW]}
    assert running(service).spec.labels == {
        "gateway_request_id": "request",
        "manifest_id": "manifest",
        "stream_id": "stream",
    }


async def test_what_the_founding_document_sends_starts_a_stream(service: Service) -> None:
    status, _ = await service.post("/api/stream/start", URLS | {"width": 512, "height": 512, "prompts": [WORKFLOW]})

    assert status == 200
    assert running(service).spec.params == {"prompts": [WORKFLOW]}
    assert running(service).spec.width == running(service).spec.height == 512
    assert len(running(service).spec.stream) == 32


@pytest.mark.parametrize("prompts", [WORKFLOW, [WORKFLOW], '{"1": {"class_type": "LoadImage"}}'])
async def test_a_workflow_may_come_in_all_the_ways_that_comfystream_takes(service: Service, prompts: Any) -> None:
    assert (await service.post("/stream/start", URLS | {"params": {"prompt": prompts}}))[0] == 200
    ((name, value),) = running(service).spec.params.items()
    assert name == "prompts"
    assert value[0]["1"]["class_type"] == "LoadImage"


async def test_a_prompt_of_words_is_the_processors_own(service: Service) -> None:
    assert (await service.post("/stream/start", URLS | {"params": {"prompt": "a cat"}}))[0] == 200
    assert running(service).spec.params == {"prompt": "a cat"}


async def test_what_nothing_is_done_with_is_named(service: Service) -> None:
    body = URLS | {"colour": "blue", "params": {"max_framerate": 24, "show_loading": True}}

    _, answer = await service.post("/stream/start", body)

    assert answer["ignored"] == ["max_framerate", "show_loading", "colour"]
    assert running(service).spec.params == {}


async def test_the_same_request_again_is_no_mistake_and_another_with_its_id_is_one(service: Service) -> None:
    body = URLS | {"stream_id": "a"}
    assert (await service.post("/stream/start", body))[0] == 200
    assert (await service.post("/stream/start", body))[0] == 200

    status, answer = await service.post("/stream/start", body | {"params": {"x": 1}})
    assert (status, answer["code"]) == (409, "exists")

    status, answer = await service.post("/stream/start", URLS | {"stream_id": "b"})
    assert (status, answer["code"]) == (503, "full")
    assert "a runs, and streams.max is 1" in answer["message"]


async def test_while_the_processor_loads_the_answer_is_when_to_ask_again(service: Service) -> None:
    service.launcher.inference = "STARTING"
    async with service.session.post(f"{service.url}/stream/start", json=URLS) as reply:
        assert reply.status == 503
        assert reply.headers["Retry-After"] == "1"
        assert (await reply.json())["code"] == "loading"


async def test_a_topology_with_a_stream_of_its_own_says_what_to_set(service: Service) -> None:
    service.launcher.on_request = False

    status, answer = await service.post("/stream/start", URLS)

    assert (status, answer["code"]) == (400, "invalid")
    assert "streams.on_request" in answer["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/stream/stop", None),
        ("/stream/stop", {}),
        ("/stream/stop", {"gateway_request_id": "request"}),
        ("/stream/a/stop", None),
        ("/stream/request/stop", {}),
        ("/stream/manifest%20%2F1/stop", {}),
    ],
)
async def test_a_stream_is_stopped_by_whatever_it_is_called(service: Service, path: str, body: Any) -> None:
    names = {"stream_id": "a", "gateway_request_id": "request", "manifest_id": "manifest /1"}
    await service.post("/stream/start", URLS | names)

    assert await service.post(path, body) == (
        200,
        {"status": "success", "message": "Stream stopped successfully", "request_id": "request", "stream_id": "a"},
    )
    assert service.launcher.running is None


async def test_a_stop_without_a_stream_says_what_pytrickles_clients_look_for(service: Service) -> None:
    status, answer = await service.post("/stream/stop", {})
    assert (status, answer["status"]) == (400, "error")
    assert "No active stream" in answer["message"]

    await service.post("/stream/start", URLS | {"stream_id": "a"})
    status, answer = await service.post("/stream/b/stop")
    assert (status, answer["code"], answer["allowed"]) == (404, "unknown", "a")


async def test_params_reach_the_processor_and_a_size_the_decoder(service: Service) -> None:
    await service.post("/stream/start", URLS | {"stream_id": "a"})

    assert (await service.post("/stream/params", {"intensity": 0.9, "width": 640, "height": 360}))[0] == 200
    assert (await service.post("/stream/a/params", {"prompts": [WORKFLOW]}))[0] == 200

    assert service.launcher.updates == [
        ("inference", {"intensity": 0.9}),
        ("decode", {"width": 640, "height": 360}),
        ("inference", {"prompts": [WORKFLOW]}),
    ]


async def test_params_without_a_stream_and_for_one_that_is_over_are_refused(service: Service) -> None:
    status, answer = await service.post("/stream/params", {"intensity": 0.9})
    assert status == 400
    assert "No active stream" in answer["message"]

    await service.post("/stream/start", URLS | {"stream_id": "a"})
    await service.post("/stream/a/stop")
    assert (await service.post("/stream/a/params", {"intensity": 0.9}))[0] == 404
    assert service.launcher.updates == []


async def test_params_of_a_topologys_own_stream_can_be_changed_too(service: Service) -> None:
    service.launcher.on_request = False

    assert (await service.post("/stream/params", {"intensity": 0.9}))[0] == 200
    assert service.launcher.updates == [("inference", {"intensity": 0.9})]


async def test_what_the_processor_refuses_is_told_in_its_words(service: Service) -> None:
    await service.post("/stream/start", URLS)

    status, answer = await service.post("/stream/params", {"refuse": 1})

    assert (status, answer["code"]) == (422, "invalid")
    assert answer["error"] == "inference: refuse: not known here; allowed: strength"


@pytest.mark.parametrize("path", ["/api/set_prompt", "/api/prompts/update"])
async def test_a_prompt_is_set_whether_or_not_a_stream_runs(service: Service, path: str) -> None:
    body = {"prompts": WORKFLOW, "width": 512, "height": 512}

    status, answer = await service.post(path, body)
    assert (status, answer["ignored"]) == (200, ["width", "height"])

    await service.post("/stream/start", URLS)
    status, answer = await service.post(path, body)
    assert (status, answer.get("ignored")) == (200, None)
    assert service.launcher.updates == [
        ("inference", {"prompts": [WORKFLOW]}),
        ("inference", {"prompts": [WORKFLOW]}),
        ("decode", {"width": 512, "height": 512}),
    ]


async def test_warm_up_loads_a_workflow_but_not_before_the_eyes_of_viewers(service: Service) -> None:
    assert (await service.post("/warmup", {"prompts": [WORKFLOW]}))[0] == 200
    assert service.launcher.updates == [("inference", {"prompts": [WORKFLOW]})]

    await service.post("/stream/start", URLS)
    assert (await service.post("/warmup", {"prompts": [WORKFLOW]}))[0] == 409
    assert (await service.post("/warmup"))[0] == 200
    assert len(service.launcher.updates) == 1


async def test_warm_up_says_whether_the_processor_still_loads(service: Service) -> None:
    service.launcher.inference = "STARTING"
    assert (await service.post("/warmup"))[0] == 202
    assert (await service.post("/warmup", {"prompts": [WORKFLOW]}))[0] == 503

    service.launcher.inference = "READY"
    assert (await service.post("/warmup"))[0] == 200


async def test_the_state_of_a_stream_has_the_fields_of_the_peers(service: Service) -> None:
    _, state = await service.get("/stream/status")
    assert (state["client_active"], state["active_streams"], state["state"]) == (False, 0, "IDLE")
    assert (state["processing_active"], state["stream_count"], state["current_stream"]) == (False, 0, None)

    await service.post("/stream/start", URLS | {"gateway_request_id": "status-test"})
    _, state = await service.get("/stream/status")
    assert (state["client_active"], state["active_streams"], state["state"]) == (True, 1, "OK")
    assert state["current_params"] == URLS | {"gateway_request_id": "status-test"}
    assert state["fps"] == {"ingress_video_fps": 30.0, "egress_video_fps": 30.0}
    assert state["current_stream"] == state["all_streams"]["status-test"]

    await service.post("/stream/stop")
    _, state = await service.get("/stream/status-test/status")
    assert state["current_stream"]["state"] == "ENDED"
    assert (await service.get("/stream/other/status"))[0] == 404
    assert [stream["stream_id"] for stream in (await service.get("/streams"))[1]["streams"]] == ["status-test"]


async def test_secrets_in_urls_are_shown_to_nobody(start_service: StartService) -> None:
    service = await start_service()
    secret = {name: f"{url}?key=SECRET&b=1" for name, url in URLS.items()}
    await service.post("/stream/start", secret | {"stream_id": "a", "events_url": "http://127.0.0.1:9/e?key=SECRET"})

    assert running(service).spec.subscribe_url.endswith("?key=SECRET&b=1")
    for path in ("/stream/status", "/stream/a/status", "/streams", "/status"):
        async with service.session.get(service.url + path) as reply:
            text = await reply.text()
        assert "SECRET" not in text
        assert "?***" in text
