"""Several streams at once on the page: a chain for each, and one of them chosen to be watched and changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.opened_page import OpenedPage
from tests.browser.test_streams import on_request, start
from tests.integration.camera import Camera
from tests.integration.running import RunningPipeline

STREAMS = ("one", "two")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    folder = tmp_path_factory.mktemp("several")
    edges = {"callable": "pipeline.processors.torch_ops:edges", "params": {"strength": 1.0}, "threads": 1}
    topology = on_request("t-page-several", processor=edges)
    topology["streams"] = {"max": 2, "on_request": True}
    topology["frame"] = {"width": 128, "height": 128}
    with RunningPipeline(topology, folder) as pipeline:
        pipeline.wait_for("active stage=inference")
        yield pipeline


def test_each_stream_has_its_chain_and_one_is_watched_and_changed(
    browser: Any, node: RunningPipeline, pattern: Path
) -> None:
    relay = node.url_of("relay")
    with (
        Camera(pattern, f"{relay}/in-one"),
        Camera(pattern, f"{relay}/in-two"),
        OpenedPage(browser, node.url_of("api")) as page,
    ):
        page.wait_for_text("#health", "IDLE")
        page.until("() => document.querySelectorAll('.flow:not([hidden])').length === 1")
        for name in STREAMS:
            start(page, subscribe_url=f"in-{name}", publish_url=f"out-{name}", stream_id=name)
            page.wait_for_text(f"[data-stream='{name}']", "ONLINE")
        page.until("() => document.querySelectorAll('.flow:not([hidden])').length === 2")
        page.wait_for_text("[id='stage-decode.2'] [data-figure='in / out']", r"[1-9][\d.]* / [1-9]")

        choice = page.tab.get_by_label("Stream", exact=True)
        assert sorted(choice.locator("option").all_inner_texts()) == ["one", "two"]
        assert choice.input_value() == "one", "what is watched stays when another begins"
        for name in STREAMS:
            choice.select_option(name)
            page.wait_for_text("#video figure:last-of-type figcaption", f"out-{name}")
            page.wait_for_video("output")
            assert page.read_index("output") is not None
        page.tab.get_by_label("strength", exact=True).fill("5")
        page.tab.get_by_role("button", name="Apply").click()
        page.wait_for_text("#parameters form [role=status]", "^In force")
        node.wait_for(r"updated .*strength")
        for name in STREAMS:
            page.tab.get_by_role("button", name=f"Stop the stream {name}").click()
            page.wait_for_text(f"[data-stream='{name}']", "ENDED")
        page.wait_for_text("#health", "IDLE")


def test_each_replica_of_inference_has_its_box(browser: Any, tmp_path: Path) -> None:
    edges = {"callable": "pipeline.processors.torch_ops:edges", "threads": 1}
    topology = on_request("t-page-pool", processor=edges)
    topology["streams"] = {"max": 3, "on_request": True}
    topology["stages"]["inference"]["replicas"] = 2
    with RunningPipeline(topology, tmp_path) as pipeline:
        pipeline.wait_for("active stage=inference", 2)
        with OpenedPage(browser, pipeline.url_of("api")) as page:
            for replica in ("inference.1", "inference.2"):
                page.wait_for_text(f"[id='stage-{replica}']", "READY")
            page.until("() => document.querySelectorAll('.flow:not([hidden])').length === 2")
            assert page.tab.locator(".stage.shared h3").all_text_contents() == ["inference.1"]
