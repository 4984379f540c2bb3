"""Streams on request from the page: a camera and a file are published, a stream is started on them and stopped."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.media.pattern import write_pattern
from tests.browser.opened_page import OpenedPage
from tests.integration.running import ROOT, RunningPipeline


def on_request(name: str, **inference: Any) -> dict[str, Any]:
    topology: dict[str, Any] = yaml.safe_load((ROOT / "configs/api.yaml").read_text())
    topology |= {"name": f"{name}-{os.getpid()}", "relay": {"port": 0}, "api": {"port": 0}}
    topology["frame"] = {"width": 256, "height": 256}
    topology["stages"]["inference"] |= inference
    topology["stages"]["egress"]["encoder"] = {"preset": "ultrafast"}
    return topology


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    """A node that waits for streams, as configs/api.yaml is one."""
    folder = tmp_path_factory.mktemp("node")
    inverting = {"callable": "pipeline.processors.torch_ops:invert", "threads": 1}
    with RunningPipeline(on_request("t-page-streams", processor=inverting), folder) as pipeline:
        pipeline.wait_for("active stage=inference")
        yield pipeline


@pytest.fixture
def page(browser: Any, node: RunningPipeline) -> Iterator[OpenedPage]:
    with OpenedPage(browser, node.url_of("api")) as opened:
        opened.wait_for_text("#health", "IDLE")
        yield opened


def start(page: OpenedPage, **fields: str) -> None:
    for label in ("subscribe_url", "publish_url", "width", "height", "stream_id"):
        page.tab.get_by_label(label, exact=True).fill(fields.get(label, ""))
    page.tab.get_by_role("button", name="Start the stream").click()


def stop(page: OpenedPage, stream: str) -> None:
    page.tab.get_by_role("button", name=f"Stop the stream {stream}").click()
    page.wait_for_text(f"[data-stream='{stream}']", "ENDED")


def test_the_camera_goes_through_the_pipeline_and_comes_back(page: OpenedPage, node: RunningPipeline) -> None:
    page.tab.get_by_label("channel", exact=True).fill("camera")
    page.tab.get_by_role("button", name="Publish the camera").click()
    page.wait_for_text("#publish [role=status]", "^Publishing")
    start(page, subscribe_url="camera", publish_url="seen", stream_id="of-camera")
    page.wait_for_text("[data-stream='of-camera']", "ONLINE")
    for end in ("input", "output"):
        page.wait_for_video(end, 2.0)
    page.wait_for_text("#glass-latency", r"p50 [\d.]+ ms")
    assert page.text("#video figure:first-child .controls").count("640×480") == 1
    stop(page, "of-camera")
    page.tab.get_by_role("button", name="Stop publishing").click()
    page.wait_for_text("#publish [role=status]", r"^Over: published, \d+ segments")
    assert "api.request_failed" not in node.log


def test_a_page_that_is_closed_publishes_no_more(browser: Any, page: OpenedPage, node: RunningPipeline) -> None:
    with OpenedPage(browser, node.url_of("api")) as other:
        other.tab.get_by_label("channel", exact=True).fill("left")
        other.tab.get_by_role("button", name="Publish the camera").click()
        other.wait_for_text("#publish [role=status]", "^Publishing")
        page.tab.get_by_label("channel", exact=True).fill("left")
        page.tab.get_by_role("button", name="Publish the camera").click()
        page.wait_for_text("#publish [role=status]", "somebody publishes into left already")
    node.wait_for("api.published .*channel=left")


def test_a_file_is_played_into_a_stream(page: OpenedPage, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_pattern(film, 128, 128, 15, 8)
    page.tab.get_by_label("channel", exact=True).fill("film")
    page.tab.get_by_label("Or a file").set_input_files(film)
    page.wait_for_text("#publish [role=status]", "plays it")
    start(page, subscribe_url="film", publish_url="film-seen", stream_id="of-file", width="128", height="128")
    page.wait_for_text("[data-stream='of-file']", "ONLINE")
    page.wait_for_video("output", 1.0)
    assert page.read_index("output") is not None
    page.wait_for_text("#publish [role=status]", "^Over: published")
    page.wait_for_text("[data-stream='of-file']", "ENDED")
    page.wait_for_text("#health", "IDLE")


def test_what_is_wrong_with_a_start_is_told_at_its_field(page: OpenedPage) -> None:
    page.expected.append("400")  # The browser itself notes a request that was refused.
    start(page, subscribe_url="file:///etc/passwd", publish_url="out")
    page.wait_for_text("[data-field='subscribe_url'] .problem", "no trickle channel; allowed: http")
    start(page, subscribe_url="in", publish_url="out", width="256")
    page.wait_for_text("[data-field='height'] .problem", "is missing; allowed: width and height together")
    start(page, subscribe_url="in", publish_url="out", width="wide", height="256")
    page.wait_for_text("[data-field='width'] .problem", "is no number of pixels")
    assert page.tab.get_by_label("width", exact=True).get_attribute("aria-invalid") == "true"
    assert (
        page.tab.locator("[data-stream]").count() == page.tab.locator("[data-stream] .state", has_text="ENDED").count()
    )


def test_a_service_that_dies_is_followed_again(page: OpenedPage, node: RunningPipeline) -> None:
    page.expected += ["ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION", "ERR_EMPTY_RESPONSE"]
    old = page.stage("api", "pid").split(",")[0]
    os.kill(int(old), signal.SIGKILL)
    page.wait_for_text("#stage-api [data-figure='pid']", rf"^(?!{old},)\d+")
    page.wait_for_text("#health", "IDLE")
