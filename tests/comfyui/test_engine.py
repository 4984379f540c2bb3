"""A real ComfyUI engine behind the processor protocol: pictures, changes, mistakes, failures."""

import logging
import sys
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.media.pcm import Pcm
from pipeline.messages import StreamBegin, Update
from pipeline.processors.comfyui.answers import NodeError
from pipeline.processors.comfyui.processor import ComfyUIProcessor
from pipeline.processors.comfyui.workflow import WorkflowError
from pipeline.processors.errors import ProcessorError
from pipeline.processors.param_sets import ParamSets
from pipeline.topology_sections import ComfyUI
from tests.comfyui.probe import BLEND, CPU, INVERT, SIZE, Gain, Probe, node, picture, run
from tests.processors.lanes_alone import Worker

PAINT = {
    "3": node(
        "KSampler",
        seed=42,
        steps=1,
        cfg=1.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
    "5": node("EmptyLatentImage", width=64, height=64, batch_size=1),
    "6": node("CLIPTextEncode", text="beautiful landscape, high quality", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="low quality, blurry", clip=["4", 1]),
}


@pytest.fixture(scope="module")
def processor(workspace, models, tmp_path_factory):
    """One for all: the engine is a process's own. Each test sets its workflow."""
    spec = ComfyUI(workspace=workspace, workflow="", models=str(models))
    made = ComfyUIProcessor(spec, {"prompt": INVERT}, audio=True)
    arguments, level, out = list(sys.argv), logging.getLogger().level, sys.stdout
    made.load(CPU)
    assert (sys.argv, logging.getLogger().level, sys.stdout) == (arguments, level, out), "nothing is left hijacked"
    made._engine.classes.update(Probe=Probe, Gain=Gain)
    made.warm_up(SIZE, SIZE)
    yield made
    made.close()


def test_every_frame_is_its_own_and_the_first_one_is_not_the_warm_ups(processor):
    processor.update({"prompt": INVERT})
    processor.warm_up(SIZE, SIZE)
    for seq in range(5):
        assert torch.equal(run(processor, picture(seq), seq).image, 1 - picture(seq))


def test_the_same_frame_number_twice_is_two_pictures(processor):
    """A frame that is tried again, or a stream that starts over."""
    processor.update({"prompt": INVERT})
    run(processor, picture(1), 7)
    assert torch.equal(run(processor, picture(2), 7).image, 1 - picture(2))


def test_the_callers_buffer_may_be_overwritten(processor):
    processor.update({"prompt": INVERT})
    buffer = picture(1)
    made = run(processor, buffer).image
    buffer.zero_()
    assert torch.equal(made, 1 - picture(1))


def test_another_size_is_another_picture(processor):
    processor.update({"prompt": INVERT})
    assert run(processor, picture(1, 64)).image.shape == (1, 64, 64, 3)
    scale = node("ImageScale", image=["1", 0], upscale_method="bilinear", width=50, height=31, crop="disabled")
    processor.update({"prompt": {**INVERT, "2": scale}})
    assert run(processor, picture(1)).image.shape == (1, 30, 50, 3), "an odd line is cut, as video needs even sides"


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


def test_a_stream_on_request_has_the_workflow_that_it_brings_and_the_next_one_the_topologys(processor):
    processor.update({"prompt": INVERT})
    worker: Any = Worker(1)
    (lane,) = worker.lanes
    sets = ParamSets(worker, processor, "comfyui", {"prompt": INVERT})

    sets.apply(Update(1, {"prompts": [BLEND]}, lane=0))
    _, own, problem = worker.answers[-1]
    assert problem == ""
    for params, expected in (
        (own, torch.lerp(picture(1), 1 - picture(1), 0.25)),
        (None, 1 - picture(1)),
        (own, torch.lerp(picture(1), 1 - picture(1), 0.25)),
    ):
        lane.hear(StreamBegin(0, "s", lane.epoch + 1, params))
        assert lane.take_up()
        sets.begin(lane)
        sets.use(lane)
        assert torch.allclose(run(processor, picture(1)).image, expected)

    for name, value in (("blend_factor", 0.75), ("blend_mode", "multiply")):
        sets.apply(Update(2, {"nodes": {"3": {"inputs": {name: value}}}}, lane=0, epoch=lane.epoch))
    assert worker.answers[-1][1]["prompt"]["3"]["inputs"] == {
        **BLEND["3"]["inputs"],
        "blend_factor": 0.75,
        "blend_mode": "multiply",
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"3": node("ImageBlnd")}, r"node 3: no class 'ImageBlnd'; near it: ImageBlend"),
        ({"3": node("Entirely")}, r"node 3: no class 'Entirely'; is its custom node installed\?"),
        (
            {"3": {**BLEND["3"], "inputs": {**BLEND["3"]["inputs"], "blend_factor": 5.0}}},
            r"node 3 \(ImageBlend\): input blend_factor: Value 5.0 bigger than max.*; allowed: FLOAT, min 0.0, max 1.0",
        ),
        (
            {"3": {**BLEND["3"], "inputs": {**BLEND["3"]["inputs"], "blend_mode": "nix"}}},
            r"node 3 \(ImageBlend\): input blend_mode: .*nix.*; allowed: normal, multiply",
        ),
        ({"3": node("ImageInvert", image=["2", 0]), "2": node("ImageInvert")}, r"node 2 .*: input image: .*missing"),
        (
            {"3": node("ImageInvert", image=["2", 3])},
            r"node 3 \(ImageInvert\): input image: node 2 .*outputs 0 to 0, not 3",
        ),
        ({"3": node("ImageInvert", image=["1", 1])}, r"node 3 \(ImageInvert\): input image: .*MASK.*"),
        (
            {"5": node("CheckpointLoaderSimple", ckpt_name="sd_xl.safetensors"), "3": node("VAEDecode", vae=["5", 2])},
            r"node 5 .*: input ckpt_name: .*sd_xl.safetensors'; allowed: tiny.safetensors; node 3 .*: input samples",
        ),
    ],
)
def test_a_workflow_with_a_mistake_is_refused_by_node_and_input_and_the_old_one_goes_on(processor, changed, said):
    processor.update({"prompt": INVERT})
    with pytest.raises(WorkflowError, match=said):
        processor.update({"prompt": {**BLEND, **changed}})
    assert torch.equal(run(processor, picture(1)).image, 1 - picture(1))


def test_a_node_that_raises_is_named_and_the_next_frame_is_tried(processor):
    processor.update({"prompt": {**INVERT, "2": node("Probe", name="a", image=["1", 0])}})
    Probe.failure = ValueError("too dark")
    with pytest.raises(NodeError, match=r"node 2 \(Probe\): ValueError: too dark"):
        run(processor, picture(1))
    Probe.failure = None
    assert torch.equal(run(processor, picture(2)).image, picture(2))


def test_a_failed_frame_does_not_give_the_picture_of_another(processor):
    processor.update({"prompt": {**INVERT, "2": node("Probe", name="a", image=["1", 0])}})
    run(processor, picture(1))
    Probe.failure = ValueError()
    for _ in range(2):
        with pytest.raises(NodeError):
            run(processor, picture(2))


def test_out_of_memory_is_told_apart(processor):
    processor.update({"prompt": {**INVERT, "2": node("Probe", name="a", image=["1", 0])}})
    Probe.failure = torch.OutOfMemoryError("wanted 2 GiB")
    with pytest.raises(torch.OutOfMemoryError, match=r"node 2 .*wanted 2 GiB"):
        run(processor, picture(1))


def test_text_comes_out_beside_the_picture(processor):
    text = {**INVERT, "2": node("Probe", name="mean", image=["1", 0]), "4": node("SaveTextTensor", data=["2", 1])}
    processor.update({"prompt": text})
    result = run(processor, torch.full((1, SIZE, SIZE, 3), 0.25))
    assert result.texts == ("mean: 0.25",)
    assert torch.equal(run(processor, picture(3)).image, picture(3))


def test_a_workflow_without_an_input_gives_its_picture_to_every_frame_and_runs_when_something_changes(processor):
    processor.update({"prompt": {"1": node("Probe", name="still"), "2": node("PreviewImage", images=["1", 0])}})
    assert [float(run(processor, picture(seq), seq).image.mean()) for seq in range(3)] == [0.5] * 3
    assert Probe.runs == ["still"]
    processor.update({"nodes": {"1": {"inputs": {"name": "changed"}}}})
    run(processor, picture(4), 4)
    assert Probe.runs == ["still", "changed"]


def test_an_input_may_follow_the_frames_number(processor):
    image = node("EmptyImage", width=SIZE, height=SIZE, batch_size=1, color="{frame}")
    processor.update({"prompt": {"1": image, "2": node("PreviewImage", images=["1", 0])}})
    blues = [round(float(run(processor, picture(0), seq).image[0, 0, 0, 2]) * 255) for seq in (3, 200, 4)]
    assert blues == [3, 200, 4]


def test_a_sampler_paints_with_a_checkpoint_and_follows_seed_and_text(processor):
    processor.update({"prompt": PAINT})
    first = run(processor, picture(0), 0).image
    assert first.shape == (1, 64, 64, 3)
    assert float(first.std()) > 0.01
    assert torch.equal(run(processor, picture(1), 1).image, first), "nothing has changed"

    processor.update({"nodes": {"3": {"inputs": {"seed": 7}}}})
    second = run(processor, picture(2), 2).image
    processor.update({"nodes": {"6": {"inputs": {"text": "a dark forest"}}}})
    third = run(processor, picture(3), 3).image

    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_what_is_no_workspace_is_one_line(tmp_path):
    with pytest.raises(ProcessorError, match=f"{tmp_path}: no ComfyUI checkout, it has no execution.py"):
        ComfyUIProcessor(ComfyUI(workspace=str(tmp_path), workflow=""), {"prompt": INVERT}).load(CPU)


# Sound

LOUDER = {
    "1": node("LoadAudioTensor", buffer_size=20.0),
    "2": node("Gain", audio=["1", 0], gain=2.0),
    "3": node("SaveAudioTensor", audio=["2", 0]),
    "4": node("SaveTextTensor", data=["2", 1]),
}
PIECE = Pcm(90_000, np.full((2, 960), 0.25, np.float32))


def test_sound_goes_through_the_workflow_and_frames_past_it(processor):
    Gain.runs.clear()
    processor.update({"prompt": LOUDER})
    heard = processor.hear(PIECE)
    assert heard.texts == ("peak 0.25",)
    (louder,) = heard.sound
    assert (louder.pts, louder.samples.shape) == (90_000, (1, 960))
    assert np.allclose(louder.samples, 0.5)
    assert torch.equal(run(processor, picture(1)).image, picture(1))
    assert Gain.runs == [960], "once for the piece, never for the frame"


def test_each_piece_of_sound_runs_anew_and_what_is_left_at_the_end_too(processor):
    processor.update({"prompt": LOUDER})
    list(processor.end_of_sound().sound)
    Gain.runs.clear()
    for number in range(3):
        processor.hear(Pcm(90_000 + 1800 * number, PIECE.samples))
    assert processor.hear(Pcm(90_000 + 5400, PIECE.samples[:, :480])).sound == ()
    (rest,) = processor.end_of_sound().sound
    assert (rest.pts, rest.samples.shape) == (90_000 + 5400, (1, 480))
    assert Gain.runs == [960, 960, 960, 480]


def test_pictures_and_sound_go_through_one_workflow_side_by_side(processor):
    listening = {key: value for key, value in LOUDER.items() if key != "3"}
    both = {f"1{key}": _moved(value) for key, value in listening.items()} | INVERT
    processor.update({"prompt": both})
    Gain.runs.clear()
    for seq in range(3):
        assert torch.equal(run(processor, picture(seq), seq).image, 1 - picture(seq))
    heard = processor.hear(PIECE)
    assert heard.sound == (PIECE,), "no node takes it, so it goes on as it came"
    assert heard.texts == ("peak 0.25",)
    assert len(Gain.runs) == 1


def test_a_change_takes_effect_with_the_next_piece_of_sound(processor):
    processor.update({"prompt": LOUDER})
    processor.update({"nodes": {"2": {"inputs": {"gain": 4.0}}}})
    (louder,) = processor.hear(PIECE).sound
    assert np.allclose(louder.samples, 1.0)


def _moved(each):
    """The same node with its links to nodes of ids one digit longer."""
    links = {name: [f"1{value[0]}", value[1]] for name, value in each["inputs"].items() if isinstance(value, list)}
    return {**each, "inputs": {**each["inputs"], **links}}


def test_the_inputs_of_nodes_are_described_for_forms(processor):
    processor.update({"prompt": BLEND})
    shown = {(each.node, each.name): each for each in processor.parameters()}
    assert set(shown) == {("3", "blend_factor"), ("3", "blend_mode")}, "what joins it to the stream is left out"
    factor, mode = shown["3", "blend_factor"], shown["3", "blend_mode"]
    assert (factor.kind, factor.value, factor.min, factor.max, factor.step) == ("float", 0.25, 0, 1, 0.01)
    assert (mode.kind, mode.value, "screen" in mode.choices) == ("choice", "normal", True)
    processor.update({"nodes": {"3": {"inputs": {"blend_factor": 0.75}}}})
    assert {each.name: each.value for each in processor.parameters()}["blend_factor"] == 0.75
