"""The page as docs/images shows it, in light and dark: a camera through a processor. `make screenshots` keeps them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.opened_page import OpenedPage
from tests.browser.test_streams import on_request, start, stop
from tests.integration.running import RunningPipeline

MAX_BYTES = 200_000
WIDTH = 1280
KEPT_SAMPLES = 140
"""So much, at two a second, is in the charts of pictures that are kept; others need not wait."""

CHARTED = "(samples) => globalThis.livepipe.charts.samples.length > samples"

FOLDER = os.environ.get("SCREENSHOTS")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    folder = tmp_path_factory.mktemp("screenshots")
    edges = {"callable": "pipeline.processors.torch_ops:edges", "params": {"strength": 4.0, "mix": 0.6}, "threads": 1}
    topology = on_request("demo", processor=edges) | {"frame": {"width": 512, "height": 512}}
    with RunningPipeline(topology, folder) as pipeline:
        pipeline.wait_for("active stage=inference")
        yield pipeline


def test_the_page_is_pictured_in_light_and_in_dark(browser: Any, node: RunningPipeline, tmp_path: Path) -> None:
    folder = Path(FOLDER) if FOLDER else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    with OpenedPage(browser, node.url_of("api"), viewport={"width": WIDTH, "height": 900}) as page:
        page.tab.get_by_role("button", name="Publish the camera").click()
        page.wait_for_text("#publish [role=status]", "^Publishing")
        start(page, subscribe_url="camera", publish_url="styled", stream_id="camera-1")
        page.wait_for_text("[data-stream='camera-1']", "ONLINE")
        page.wait_for_video("output")
        page.until(
            "(samples) => globalThis.livepipe.charts.samples.length > samples", KEPT_SAMPLES if FOLDER else 10, 180_000
        )
        page.wait_for_text("#glass-latency", r"p50 [\d.]+ ms")
        pictures = [
            page.picture(folder / "web-latency.png", "#latency-title", "#latency"),
            page.picture(folder / "web-forms.png", "#charts-title", "#publish"),
        ]
        for scheme in ("light", "dark"):
            page.tab.emulate_media(color_scheme=scheme)
            pictures.append(page.picture(folder / f"web-{scheme}.png", ".bar", "#video"))
        stop(page, "camera-1")
    assert len(set(pictures)) == 4
    assert max(map(len, pictures)) < MAX_BYTES
