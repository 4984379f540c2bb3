"""ComfyStream's real client behind the processor protocol: pictures, changes, mistakes, failures.

Run by an interpreter that has comfystream, with nothing else of tests/comfyui in the same process: `docs/comfyui.md`.
"""

import importlib.util
import logging
import sys

import pytest
import torch

if importlib.util.find_spec("comfystream") is None:
    pytest.skip("no comfystream here: docs/comfyui.md says how to install it", allow_module_level=True)

from pipeline.processors.comfystream.processor import ComfyStreamProcessor
from pipeline.processors.comfyui.answers import NodeError
from pipeline.processors.comfyui.workflow import WorkflowError
from pipeline.processors.errors import ProcessorError
from pipeline.topology_sections import ComfyStream
from tests.comfyui.probe import BLEND, CPU, INVERT, SIZE, Probe, node, picture, run

FRAGILE = {**INVERT, "2": node("Probe", name="a", image=["1", 0])}


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    """One for all: ComfyStream keeps its state in modules. Each test sets its workflow."""
    workspace = tmp_path_factory.mktemp("workspace")
    made = ComfyStreamProcessor(ComfyStream(workspace=str(workspace), workflow=""), {"prompt": INVERT})
    logger = logging.getLogger()
    arguments, level, out = list(sys.argv), logger.level, sys.stdout
    made.load(CPU)
    assert (sys.argv, logger.level, sys.stdout) == (arguments, level, out), "nothing is left hijacked"
    made._runner.classes["Probe"] = Probe
    made.warm_up(SIZE, SIZE)
    yield made
    made.close()


def test_every_frame_is_its_own(processor):
    processor.update({"prompt": INVERT})
    for seq in range(5):
        assert torch.equal(run(processor, picture(seq), seq).image, 1 - picture(seq))


def test_the_callers_buffer_may_be_overwritten(processor):
    processor.update({"prompt": {"1": node("LoadImage"), "3": node("PreviewImage", images=["1", 0])}})
    buffer = picture(1)
    made = run(processor, buffer).image
    buffer.zero_()
    assert torch.equal(made, picture(1))


def test_another_size_is_another_picture(processor):
    processor.update({"prompt": INVERT})
    assert run(processor, picture(1, 64)).image.shape == (1, 64, 64, 3)
    assert run(processor, picture(1, 32)).image.shape == (1, 32, 32, 3)


def test_only_what_depends_on_the_frame_runs_for_each(processor):
    still, moving = node("Probe", name="still"), node("Probe", name="moving", image=["1", 0])
    blend = node("ImageBlend", image1=["2", 0], image2=["4", 0], blend_factor=0.5, blend_mode="normal")
    processor.update(
        {"prompt": {**INVERT, "2": still, "4": moving, "5": blend, "3": node("PreviewImage", images=["5", 0])}}
    )
    for seq in range(3):
        run(processor, picture(seq), seq)
    assert sorted(Probe.runs) == ["moving"] * 3 + ["still"]


def test_a_changed_input_is_in_the_next_frame_and_in_what_is_in_force(processor):
    processor.update({"prompt": BLEND})
    assert torch.allclose(run(processor, picture(1)).image, torch.lerp(picture(1), 1 - picture(1), 0.25))

    in_force = processor.update({"nodes": {"3": {"inputs": {"blend_factor": 0.75}}}})

    assert torch.allclose(run(processor, picture(1)).image, torch.lerp(picture(1), 1 - picture(1), 0.75))
    processor.update({"prompt": INVERT})
    assert processor.update(in_force) == in_force
    assert torch.allclose(run(processor, picture(1)).image, torch.lerp(picture(1), 1 - picture(1), 0.75))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"3": node("ImageBlnd")}, r"node 3: no class 'ImageBlnd'; near it: ImageBlend"),
        (
            {"3": {**BLEND["3"], "inputs": {**BLEND["3"]["inputs"], "blend_factor": 5.0}}},
            r"node 3 \(ImageBlend\): input blend_factor: Value 5.0 bigger than max.*; allowed: FLOAT, min 0.0, max 1.0",
        ),
        (
            {"3": {**BLEND["3"], "inputs": {**BLEND["3"]["inputs"], "blend_mode": "nix"}}},
            r"node 3 \(ImageBlend\): input blend_mode: .*nix.*; allowed: normal, multiply",
        ),
        ({"3": node("ImageInvert", image=["2", 0]), "2": node("ImageInvert")}, r"node 2 .*: input image: .*missing"),
        ({"3": node("ImageInvert", image=["1", 1])}, r"node 3 \(ImageInvert\): input image: .*MASK.*"),
        ({"1": node("EmptyImage", width=32, height=32, batch_size=1, color=0)}, "`comfyui` runs it"),
    ],
)
def test_a_workflow_with_a_mistake_is_refused_by_node_and_input_and_the_old_one_goes_on(processor, changed, said):
    processor.update({"prompt": INVERT})
    with pytest.raises(WorkflowError, match=said):
        processor.update({"prompt": {**BLEND, **changed}})
    assert torch.equal(run(processor, picture(1)).image, 1 - picture(1))


def test_a_node_that_raises_is_named_and_nothing_passes_through_in_its_place(processor):
    processor.update({"prompt": FRAGILE})
    Probe.failure = ValueError("too dark")
    for _ in range(2):
        with pytest.raises(NodeError, match=r"node 2 \(Probe\): ValueError: too dark"):
            run(processor, picture(1))
    Probe.failure = None
    assert torch.equal(run(processor, picture(2)).image, picture(2))
    assert Probe.runs == ["a"] * 3


def test_a_node_that_raises_before_it_is_the_frames_turn_is_named_too(processor):
    blend = node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.5, blend_mode="normal")
    broken = {**INVERT, "2": node("Probe", name="still"), "4": blend, "3": node("PreviewImage", images=["4", 0])}
    Probe.failure = ValueError("no model")
    processor.update({"prompt": broken})
    for _ in range(2):
        with pytest.raises(NodeError, match=r"node 2 \(Probe\): ValueError: no model"):
            run(processor, picture(1))
    Probe.failure = None
    assert torch.allclose(run(processor, picture(2)).image, torch.lerp(picture(2), torch.tensor(0.5), 0.5))


def test_a_change_mends_a_workflow_that_fails(processor):
    processor.update({"prompt": FRAGILE})
    Probe.failure = ValueError("too dark")
    with pytest.raises(NodeError):
        run(processor, picture(1))
    processor.update({"prompt": INVERT})
    assert torch.equal(run(processor, picture(1)).image, 1 - picture(1))


def test_out_of_memory_is_told_apart(processor):
    processor.update({"prompt": FRAGILE})
    Probe.failure = torch.OutOfMemoryError("wanted 2 GiB")
    with pytest.raises(torch.OutOfMemoryError, match=r"node 2 .*wanted 2 GiB"):
        run(processor, picture(1))


def run_twice(processor):
    for _ in range(2):
        run(processor, picture(1))


def test_a_fall_back_of_the_clients_is_noticed_and_taken_back(processor):
    """As it would be by a ComfyStream whose failures go another way than those of 0.1.8."""
    processor.update({"prompt": INVERT})
    runner = processor._runner
    base = type(runner._client).__mro__[1]
    runner._call(base._fallback_to_passthrough(runner._client))
    # The run that waits began before the fall-back; the one behind it would be the pass-through.
    processor._junction.nudge()
    with pytest.raises(NodeError, match="ComfyStream replaced it by pass-through"):
        run_twice(processor)
    assert torch.equal(run(processor, picture(2)).image, 1 - picture(2))


def test_text_comes_out_beside_the_picture(processor):
    text = {**INVERT, "2": node("Probe", name="mean", image=["1", 0]), "4": node("SaveTextTensor", data=["2", 1])}
    processor.update({"prompt": text})
    result = run(processor, torch.full((1, SIZE, SIZE, 3), 0.25))
    assert result.texts == ("mean: 0.25",)
    assert torch.equal(run(processor, picture(3)).image, picture(3))


def test_what_the_client_notes_of_every_run_does_not_pile_up(processor):
    processor.update({"prompt": INVERT})
    for seq in range(20):
        run(processor, picture(seq), seq)
    assert len(processor._runner._client.comfy_client.history.history) <= 2


def test_what_is_no_workspace_is_one_line(tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(ProcessorError, match=f"workspace {missing}: no such folder"):
        ComfyStreamProcessor(ComfyStream(workspace=missing, workflow=""), {"prompt": INVERT}).load(CPU)
