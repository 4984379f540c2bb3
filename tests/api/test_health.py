"""The one word that load balancers and Livepeer's workers ask for."""

from typing import Any

import msgspec
import pytest

from pipeline.api.hardware import GpuInfo, HardwareInfo
from pipeline.api.redact import redacted
from tests.api.conftest import Service
from tests.api.test_streams import URLS


@pytest.mark.parametrize(
    ("changes", "status", "health"),
    [
        ({}, 200, {"status": "IDLE", "reasons": []}),
        ({"on_request": False}, 200, {"status": "OK", "reasons": []}),
        ({"inference": "STARTING"}, 200, {"status": "LOADING", "reasons": ["inference is STARTING"]}),
        ({"inference": "BACKOFF"}, 200, {"status": "LOADING", "reasons": ["inference is BACKOFF"]}),
        (
            {"state": "DEGRADED", "reasons": ["inference: no http://h/x?key=SECRET"]},
            503,
            {"status": "DEGRADED", "reasons": ["inference: no http://h/x?***"]},
        ),
        ({"state": "DRAINING"}, 503, {"status": "ERROR", "reasons": ["the pipeline is DRAINING"]}),
        ({"state": "FINISHED"}, 503, {"status": "ERROR", "reasons": ["the pipeline is FINISHED"]}),
    ],
)
async def test_the_word_and_its_status(service: Service, changes: dict[str, Any], status: int, health: Any) -> None:
    for name, value in changes.items():
        setattr(service.launcher, name, value)

    assert await service.get("/health") == (status, health)
    is_loaded = health["status"] in ("IDLE", "OK")
    assert await service.get("/ready") == (200 if is_loaded else 503, health)


async def test_it_is_idle_again_after_a_stream(service: Service) -> None:
    await service.post("/stream/start", URLS)
    assert (await service.get("/health"))[1]["status"] == "OK"
    service.launcher.end("FAILED")
    assert await service.get("/health") == (200, {"status": "IDLE", "reasons": []})


async def test_versions_are_asked_for_as_at_livepeers_runner(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    _, version = await service.get("/version")
    assert (version["pipeline"], version["model_id"]) == ("test", "test")
    assert await service.get("/app-version") == (200, {"version": version["version"]})


async def test_hardware_is_told_with_the_runners_fields(service: Service) -> None:
    _, info = await service.get("/hardware/info")
    assert info["cpu_count"] > 0
    assert info["memory_total"] > 0
    assert isinstance(info["gpu_info"], dict)

    _, stats = await service.get("/hardware/stats")
    assert 0 < stats["memory_available"] < stats["memory_total"]
    assert isinstance(stats["gpu_stats"], dict)


def test_cards_are_keyed_by_their_number() -> None:
    """As the Go client decodes them: a map with strings of integers."""
    info = HardwareInfo("p", "m", {0: GpuInfo("GPU-1", "card", 2, 1, 9, 0)}, 1, 1)
    assert b'"gpu_info":{"0":{"id":"GPU-1","name":"card"' in msgspec.json.encode(info)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h/x?a=b", "http://h/x?***"),
        ("https://user:word@h:1/x/y#f", "https://***@h:1/x/y?***"),
        ("https://token@h/x: status 403", "https://***@h/x: status 403"),
        ("from http://a/b?c to http://d/e?f, twice", "from http://a/b?*** to http://d/e?*** twice"),
        ("'HTTP://h/x?y' refused", "'HTTP://h/x?***' refused"),
        ("name", "name"),
        ("a? b@c", "a? b@c"),
    ],
)
def test_secrets_are_taken_out_of_urls_wherever_they_stand(text: str, shown: str) -> None:
    assert redacted(text) == shown
