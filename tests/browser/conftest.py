"""A real Chromium, and real pipelines for it to look at. Without Playwright or Chromium the tests are skipped, and say
why; `make test-browser` sets both up."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.pattern import write_pattern
from tests.browser.opened_page import OpenedPage
from tests.integration.running import RunningPipeline, topology

NAMES = ("chromium", "chromium-browser", "google-chrome")
FPS = 30
SIDE = 256
SECONDS = 240
"""Longer than all tests that share the pipeline take together."""

TOKEN, RELAY_TOKEN = "page-secret-1", "relay-secret-1"

ARGUMENTS = [
    "--no-sandbox",  # Needed where the tests run as root, as in containers.
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def _missing() -> str:
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed; make test-browser installs it"
    if _chromium() is None:
        return f"no browser: none of {', '.join(NAMES)} is on the PATH; install chromium, or name one with CHROMIUM"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = _missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright  # Here: where it is missing, the tests are skipped.

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered pictures with beeps: H.264 and AAC in MPEG-TS, a keyframe a second."""
    path = tmp_path_factory.mktemp("source") / "pattern.ts"
    write_pattern(path, SIDE, SIDE, FPS, SECONDS)
    return path


@pytest.fixture(scope="module")
def live(pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    """The demo's pipeline, live, whose api and relay both want tokens."""
    folder = tmp_path_factory.mktemp("live")
    changes = {
        "relay": {"port": 0, "publish_tokens": [RELAY_TOKEN], "subscribe_tokens": [RELAY_TOKEN]},
        "api": {"port": 0, "tokens": [TOKEN]},
        "stages__inference__processor": {
            "callable": "pipeline.processors.torch_ops:edges",
            "params": {"strength": 1.0, "mix": 0.2},
            "threads": 1,
        },
        "links__raw": {"slots": 6, "policy": "latest"},
    }
    with RunningPipeline(topology(f"t-page-{os.getpid()}", folder, pattern, **changes), folder) as pipeline:
        pipeline.wait_for("first_frame stage=egress")
        yield pipeline


@pytest.fixture
def page(browser: Any, live: RunningPipeline) -> Iterator[OpenedPage]:
    """The page of `live`, with its token kept in the browser."""
    with OpenedPage(browser, live.url_of("api"), TOKEN) as opened:
        yield opened
