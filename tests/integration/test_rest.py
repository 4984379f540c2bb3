"""The REST service over the real launcher: a stream is started, steered, watched and stopped as a gateway does it."""

import asyncio
import itertools
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.trickle.publisher import TricklePublisher
from tests.integration.camera import Camera
from tests.integration.running import ROOT, RunningPipeline
from tests.orchestrator import Orchestrator

CHANNELS = ("events", "control", "data")
STREAMS = ("a", "b")
TELLS = {"callable": "tests.integration.odd_ops:tells_identity", "params": {"word": "own"}, "threads": 1}

_numbers = itertools.count()


class Service:
    """The service of a running pipeline, and its relay."""

    def __init__(self, pipeline: RunningPipeline) -> None:
        self.pipeline = pipeline
        self.api = pipeline.url_of("api")
        self.relay = pipeline.url_of("relay")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.api + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def request_for(self, stream: str, **more: Any) -> dict[str, Any]:
        urls = {f"{name}_url": f"{self.relay}/{stream}-{name}" for name in CHANNELS}
        ends = {"subscribe_url": f"{self.relay}/in", "publish_url": f"{self.relay}/out"}
        return {"stream_id": stream, "gateway_request_id": f"gateway-{stream}"} | urls | ends | more

    def control(self, stream: str, message: dict[str, Any]) -> None:
        """What a gateway writes into the control channel."""

        async def write() -> None:
            publisher = TricklePublisher(f"{self.relay}/{stream}-control", "application/json")
            await publisher.resume()
            async with await publisher.next() as segment:
                await segment.write(json.dumps(message).encode())
            publisher.abort()

        asyncio.run(write())

    def wait_for_text(self, text: str) -> None:
        self.pipeline.wait_for(rf'text stage=inference .*text="{text}"')

    def spoken(self) -> int:
        """Lines that the processor has written."""
        return sum("text stage=inference" in line for line in self.pipeline.lines)

    def wait_for_dropped(self, reason: str, count: int) -> None:
        """As the service tells it."""

        def dropped() -> int:
            return self.ask("GET", "/stream/status")[1]["current_stream"]["frames"]["dropped"].get(reason, 0)

        self.pipeline.wait_until(lambda: dropped() >= count)


@contextmanager
def serving(folder: Path, **changes: Any) -> Iterator[Service]:
    topology = yaml.safe_load((ROOT / "configs/api.yaml").read_text())
    topology |= {"name": f"t-rest-{next(_numbers)}-{os.getpid()}", "frame": {"width": 256, "height": 256}}
    channels = {f"{stream}-{name}": "application/json" for stream in STREAMS for name in CHANNELS}
    topology |= {"relay": {"port": 0, "channels": channels}}
    topology["api"] = {"port": 0, "stats_seconds": 1.0}
    topology["stages"]["inference"]["processor"] = TELLS
    topology["stages"]["egress"]["encoder"] = {"preset": "ultrafast"}
    with RunningPipeline(topology | changes, folder) as pipeline:
        service = Service(pipeline)
        pipeline.wait_for("active stage=inference")
        yield service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path) as service:
        yield service


def test_a_stream_is_started_steered_and_stopped_and_its_channels_tell_of_it(
    service: Service, long_source: Path
) -> None:
    events, lines = service.pipeline.read_channel("a-events"), service.pipeline.read_channel("a-data")
    assert service.ask("GET", "/health") == (200, {"status": "IDLE", "reasons": []})
    request = service.request_for("a", params={"word": "asked", "width": 192, "height": 192})
    with Camera(long_source, f"{service.relay}/in"):
        code, answer = service.ask("POST", "/stream/start", request)
        assert (code, answer["status"], answer["stream_id"]) == (200, "success", "a"), answer
        assert service.ask("POST", "/live-video-to-video", request)[0] == 200, "asked again, it is the same"
        assert service.ask("POST", "/stream/start", request | {"data_url": ""})[0] == 409
        service.wait_for_text("a 0 asked 0")
        service.pipeline.wait_for("stream_online stage=launcher stream=a")

        code, state = service.ask("GET", "/stream/gateway-a/status")
        assert (code, state["current_stream"]["state"], state["stream_count"]) == (200, "ONLINE", 1)
        assert service.ask("GET", "/health")[1]["status"] == "OK"

        assert service.ask("POST", "/stream/params", {"word": "changed"})[0] == 200
        service.wait_for_text("a 0 changed 0")
        service.control("a", {"keep": "alive"})
        service.control("a", {"word": "controlled"})
        service.wait_for_text("a 0 controlled 0")
        code, refusal = service.ask("POST", "/stream/a/params", {"wort": 1})
        assert (code, refusal["status"]) == (422, "error")
        assert "parameters that it takes" in refusal["error"]

        assert service.ask("POST", "/stream/a/pause", {"show": "input"})[0] == 200
        assert service.ask("GET", "/stream/status")[1]["paused"] is True
        os.kill(service.pipeline.pid_of("inference"), signal.SIGKILL)
        service.pipeline.wait_for("active stage=inference", 2)
        spoken = service.spoken()
        service.wait_for_dropped("paused", 30)
        assert service.spoken() == spoken, "the process that is new is not to work either"
        assert service.ask("POST", "/stream/a/resume")[0] == 200
        service.pipeline.wait_for("text stage=inference", spoken + 1)

        assert service.ask("POST", "/stream/params", {"width": 128, "height": 128})[0] == 200
        code, refusal = service.ask("POST", "/stream/params", {"width": 512, "height": 512})
        assert (code, "does not fit in the slots" in refusal["error"]) == (422, True)
        service.pipeline.wait_for("text=.a 0 controlled", 60)  # So that statistics were told, and lines written.

        assert service.ask("POST", "/stream/stop")[0] == 200
    code, state = service.ask("GET", "/stream/a/status")
    assert (code, state["current_stream"]["state"]) == (200, "ENDED")
    frames = state["current_stream"]["frames"]
    assert frames["decoded"] == frames["delivered"] + sum(frames["dropped"].values()) > 0
    assert service.ask("GET", "/health")[1]["status"] == "IDLE"

    told = [json.loads(line)["event"] for line in events().replace(b"}{", b"}\n{").splitlines()]
    kinds = [event["type"] for event in told]
    first, last = kinds[0], kinds[-1]
    assert (first, last) == ("stream_started", "stream_stopped")
    assert {"runner_receive_first_ingest_segment", "runner_send_first_processed_segment", "status"} <= set(kinds)
    assert kinds.count("params_updated") == 3
    assert (kinds.count("stream_paused"), kinds.count("stream_resumed")) == (1, 1)
    assert all(event["gateway_request_id"] == "gateway-a" for event in told)
    assert json.loads(lines().splitlines()[0])["text"].startswith("a 0 ")


def test_another_stream_may_come_and_a_service_that_dies_takes_its_channels_up_again(
    service: Service, long_source: Path
) -> None:
    events = service.pipeline.read_channel("b-events")
    for stream in STREAMS:
        with Camera(long_source, f"{service.relay}/in"):
            assert service.ask("POST", "/stream/start", service.request_for(stream))[0] == 200
            service.pipeline.wait_for(f"stream_online stage=launcher stream={stream}")
            if stream == "b":
                service.pipeline.wait_for('text="b 1 own', 45)  # So that what it had to tell so far was told.
                os.kill(service.pipeline.pid_of("api"), signal.SIGKILL)
                service.pipeline.wait_for("ready stage=api", 2)
                service.control("b", {"word": "after"})
                service.wait_for_text("b 1 after 0")
                for stage in ("decode", "inference"):
                    os.kill(service.pipeline.pid_of(stage, 2 if stage == "decode" else 1), signal.SIGKILL)
                service.pipeline.wait_for("active stage=inference", 2)
                service.pipeline.wait_for("ready stage=decode", 3)
            assert service.ask("POST", f"/stream/{stream}/stop")[0] == 200
    kinds = [json.loads(line)["event"]["type"] for line in events().replace(b"}{", b"}\n{").splitlines()]
    assert kinds.count("stream_started") + kinds.count("events_resumed") == 2
    assert {"runner_receive_first_ingest_segment", "runner_send_first_processed_segment"} <= set(kinds)
    assert (kinds.count("stage_died"), kinds.count("restart")) == (2, 2)
    assert kinds[-1] == "stream_stopped"


def test_what_is_asked_wrongly_starts_nothing(service: Service) -> None:
    request = service.request_for("a")
    for change, code, path in (
        ({"subscribe_url": "file:///etc/passwd"}, 400, "subscribe_url"),
        ({"publish_url": "http://169.254.169.254/x"}, 400, "publish_url"),
        ({"params": {"width": 511, "height": 512}}, 400, "width"),
        ({"params": {"prompts": [{"1": {"inputs": {}}}]}}, 400, "params.prompts"),
    ):
        answer = service.ask("POST", "/stream/start", request | change)
        assert (answer[0], answer[1]["path"]) == (code, path), answer
    assert service.ask("POST", "/stream/stop")[0] == 400
    assert service.ask("POST", "/stream/nobody/stop")[0] == 404
    assert service.ask("GET", "/streams") == (200, {"streams": []})


def test_the_node_is_known_to_an_orchestrator_while_it_can_work(tmp_path: Path) -> None:
    loop, orchestrator = asyncio.new_event_loop(), Orchestrator("s3cret")
    thread = threading.Thread(target=loop.run_forever, name="orchestrator")
    thread.start()
    asyncio.run_coroutine_threadsafe(orchestrator.start(), loop).result()
    byoc = {
        "orchestrator_url": f"http://127.0.0.1:{orchestrator.port}",
        "orch_secret": "s3cret",
        "capability_name": "edges",
        "capability_url": "http://127.0.0.1:9876",
    }
    with serving(tmp_path, api={"port": 0, "byoc": byoc}) as service:
        service.pipeline.wait_for(r"INFO byoc.registered stage=api .*capability=edges")
        loaded, known = (
            next(n for n, line in enumerate(service.pipeline.lines) if what in line)
            for what in ("active stage=inference", "byoc.registered")
        )
        assert loaded < known
        assert orchestrator.capabilities["edges"]["url"] == "http://127.0.0.1:9876"
        service.pipeline.signal(signal.SIGINT)
        assert service.pipeline.end() == 0
    assert orchestrator.requests == ["register", "unregister"]
    assert not orchestrator.capabilities
    assert "s3cret" not in service.pipeline.log
    asyncio.run_coroutine_threadsafe(orchestrator.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
