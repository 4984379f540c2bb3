"""ComfyUI workflows as dictionaries: what becomes of them on a stream, and what is said of the wrong ones."""

import copy
import json

import pytest

from pipeline.processors.comfyui.workflow import WorkflowError, change, check_shape, convert, read_workflow

INVERT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}
TEXT_TO_IMAGE = {
    "3": {
        "inputs": {
            "seed": 42,
            "steps": 20,
            "cfg": 8.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
        "class_type": "KSampler",
        "_meta": {"title": "KSampler"},
    },
    "4": {"inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}, "class_type": "CheckpointLoaderSimple"},
    "5": {"inputs": {"width": 512, "height": 512, "batch_size": 1}, "class_type": "EmptyLatentImage"},
    "6": {"inputs": {"text": "beautiful landscape, high quality", "clip": ["4", 1]}, "class_type": "CLIPTextEncode"},
    "7": {"inputs": {"text": "low quality, blurry", "clip": ["4", 1]}, "class_type": "CLIPTextEncode"},
}
"""As ComfyUI's users write it, without an output."""


def with_nodes(**nodes):
    """INVERT with other nodes; None takes one away."""
    changed = {**copy.deepcopy(INVERT), **nodes}
    return {key: node for key, node in changed.items() if node is not None}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.mark.parametrize("given", ["LoadImage", "PrimaryInputLoadImage", "LoadTensor"])
@pytest.mark.parametrize("taken", ["PreviewImage", "SaveImage", "SaveTensor"])
def test_the_picture_comes_in_and_goes_out_through_nodes_of_ours(given, taken):
    source = with_nodes(**{"1": node(given), "3": node(taken, images=["2", 0])})
    live = convert(source)
    assert (live.input, live.output, live.outputs) == ("1", "3", ["3"])
    assert live.prompt["1"] == node("LivepipeInput")
    assert live.prompt["2"] == source["2"]
    assert live.prompt["3"] == node("LivepipeOutput", images=["2", 0])


def test_the_workflow_that_was_given_stays_as_it_is():
    before = copy.deepcopy(INVERT)
    live = convert(INVERT)
    live.prompt["2"]["inputs"]["image"] = ["9", 0]
    assert before == INVERT


def test_beside_a_primary_input_other_pictures_are_files():
    live = convert(with_nodes(**{"8": node("PrimaryInputLoadImage"), "2": node("ImageBlend", image1=["1", 0])}))
    assert live.input == "8"
    assert live.prompt["1"]["class_type"] == "LoadImage"


def test_text_goes_out_too():
    live = convert(with_nodes(**{"4": node("SaveTextTensor", data=["2", 1], remove_linebreaks=True)}))
    assert live.text_outputs == ("4",)
    assert live.prompt["4"] == node("LivepipeTextOutput", text=["2", 1])
    assert live.outputs == ["3", "4"]


def test_a_workflow_that_ends_in_a_sampler_is_decoded_and_shown():
    live = convert(TEXT_TO_IMAGE)
    assert live.input is None
    assert live.prompt["decoded"] == node("VAEDecode", samples=["3", 0], vae=["4", 2])
    assert live.prompt[live.output] == node("LivepipeOutput", images=["decoded", 0])


def test_the_checkpoint_is_found_behind_a_chain_of_models():
    chained = copy.deepcopy(TEXT_TO_IMAGE) | {"8": node("LoraLoader", model=["4", 0], clip=["4", 1])}
    chained["3"]["inputs"]["model"] = ["8", 0]
    assert convert(chained).prompt["decoded"]["inputs"]["vae"] == ["4", 2]


def test_an_input_may_follow_the_frames_number():
    live = convert(with_nodes(**{"2": node("Noise", image=["1", 0], seed="{frame}")}))
    assert live.prompt["2"]["inputs"]["seed"] == 0
    assert [live.at(seq)["2"]["inputs"]["seed"] for seq in (5, 6)] == [5, 6]


def test_what_the_engine_notes_in_one_run_is_gone_in_the_next():
    live = convert(INVERT)
    live.at(1)["2"]["is_changed"] = [1]
    assert "is_changed" not in live.at(2)["2"]


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        (with_nodes(**{"3": None}), "no node takes the result; needed: one of PreviewImage, SaveImage, SaveTensor"),
        (
            with_nodes(**{"4": node("SaveImage", images=["2", 0])}),
            r"nodes 3 \(PreviewImage\), 4 \(SaveImage\) are each a picture output .*; allowed: one",
        ),
        (
            with_nodes(**{"4": node("LoadImage")}),
            r"2 nodes load a picture: 1 \(LoadImage\), 4 \(LoadImage\); make the one .* a PrimaryInputLoadImage",
        ),
        (
            with_nodes(**{"4": node("PrimaryInputLoadImage"), "5": node("PrimaryInputLoadImage")}),
            "are each a primary input",
        ),
        (
            with_nodes(**{"4": node("PrimaryInputLoadImage"), "5": node("LoadTensor")}),
            r"4 \(PrimaryInputLoadImage\) and 5 \(LoadTensor\) both take the stream's picture",
        ),
        (
            with_nodes(**{"2": node("ImageInvert", image=["7", 0])}),
            r"node 2 \(ImageInvert\): input image: there is no node 7",
        ),
        (with_nodes(**{"3": node("PreviewImage")}), r"node 3 \(PreviewImage\): input images is missing"),
        (with_nodes(**{"4": node("LoadAudioTensor")}), r"node 4 \(LoadAudioTensor\): .* processor.audio: true"),
    ],
)
def test_a_mistake_names_the_node_and_what_is_allowed(workflow, said):
    with pytest.raises(WorkflowError, match=said):
        convert(workflow)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"nodes": [], "links": [], "version": 0.4},
            "editor format; needed is the API format: in ComfyUI use Workflow",
        ),
        ([], "needed is a map of node ids to nodes"),
        ({}, "needed is a map of node ids to nodes"),
        ({"1": "LoadImage"}, "node 1: needed is a map with class_type and inputs"),
        ({"1": {"inputs": {}}}, "node 1: needed is a map with class_type"),
        ({"1": {"class_type": "LoadImage", "inputs": []}}, r"node 1 \(LoadImage\): inputs: needed is a map"),
    ],
)
def test_what_is_no_workflow_is_refused(data, said):
    with pytest.raises(WorkflowError, match=said):
        check_shape(data, "workflow.json")


def test_a_workflow_is_read_from_a_file_bare_or_as_a_prompt(tmp_path):
    for number, data in enumerate((INVERT, {"prompt": INVERT, "client_id": "x"})):
        (tmp_path / f"{number}.json").write_text(json.dumps(data))
        assert read_workflow(tmp_path / f"{number}.json") == INVERT


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("{,}", "no JSON"), ("3", "needed is a map")])
def test_a_file_that_holds_none_is_one_line(tmp_path, content, said):
    path = tmp_path / "w.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(WorkflowError, match=f"w.json: .*{said}"):
        read_workflow(path)


def test_inputs_change_one_by_one():
    changed = change(TEXT_TO_IMAGE, {"nodes": {"3": {"inputs": {"seed": 7}}, "6": {"inputs": {"text": "a cat"}}}})
    assert (changed["3"]["inputs"]["seed"], changed["3"]["inputs"]["steps"]) == (7, 20)
    assert changed["6"]["inputs"] == {"text": "a cat", "clip": ["4", 1]}
    assert TEXT_TO_IMAGE["3"]["inputs"]["seed"] == 42


@pytest.mark.parametrize("params", [{"prompt": INVERT}, {"prompts": [INVERT]}])
def test_a_whole_workflow_takes_the_others_place(params):
    assert change(TEXT_TO_IMAGE, params) == INVERT


def test_a_new_workflow_may_be_changed_at_once():
    assert change(TEXT_TO_IMAGE, {"prompt": INVERT, "nodes": {"2": {"inputs": {"x": 1}}}})["2"]["inputs"]["x"] == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"seed": 7}, "seed: not known here; allowed: nodes, prompt, prompts"),
        ({"nodes": {"9": {"inputs": {}}}}, r"nodes.9: no such node; there are: 1 \(LoadImage\), 2 \(ImageInvert\)"),
        ({"nodes": {"2": {"seed": 7}}}, "nodes.2: needed is {inputs"),
        ({"nodes": {"2": {"inputs": {}, "seed": 7}}}, "nodes.2: allowed is inputs; not seed"),
        ({"nodes": [1]}, "nodes: needed is a map"),
        ({"nodes": {"2": {"class_type": "ImageBlur", "inputs": {}}}}, "nodes.2: is a ImageInvert; another class needs"),
        ({"prompts": [INVERT, INVERT]}, "prompts: needed is a list with one workflow"),
        ({"prompt": {"1": {}}}, "prompt: node 1: needed is a map with class_type"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(params, said):
    with pytest.raises(WorkflowError, match=said):
        change(INVERT, params)


# Sound and text

HEARD = {
    "1": node("LoadAudioTensor", buffer_size=200.0),
    "2": node("PitchShift", audio=["1", 0]),
    "3": node("SaveAudioTensor", audio=["2", 0]),
}
CAPTIONS = {
    **INVERT,
    "4": node("LoadAudioTensor"),
    "5": node("Transcribe", audio=["4", 0]),
    "6": node("SaveTextTensor", data=["5", 0]),
    "7": node("Describe", image=["1", 0]),
    "8": node("SaveTextTensor", data=["7", 0]),
    "9": node("Both", image=["1", 0], audio=["4", 0]),
    "10": node("SaveTextTensor", data=["9", 0]),
}


def test_sound_comes_in_and_goes_out_through_nodes_of_ours_and_frames_go_on_as_they_came():
    live = convert(HEARD, audio=True)
    assert (live.audio_input, live.audio_output, live.buffer_ms) == ("1", "3", 200.0)
    assert live.prompt["1"] == node("LivepipeAudioInput")
    assert live.prompt["3"] == node("LivepipeAudioOutput", audio=["2", 0])
    assert (live.outputs, live.audio_outputs) == ([], ["3"])


def test_text_of_the_sound_alone_is_made_for_pieces_of_it_and_all_other_for_frames():
    live = convert(CAPTIONS, audio=True)
    assert live.outputs == ["3", "8", "10"]
    assert live.audio_outputs == ["6"]
    assert live.buffer_ms == 500


def test_a_workflow_that_only_writes_needs_no_picture_output():
    text = node("SaveTextTensor", data=["2", 0])
    live = convert({"1": node("LoadImage"), "2": node("Describe", image=["1", 0]), "3": text})
    assert (live.output, live.outputs, live.audio_input) == (None, ["3"], None)


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ({**HEARD, "1": node("LoadTensor")}, r"node 3 \(SaveAudioTensor\): gets no sound of the stream's"),
        ({**HEARD, "9": node("LoadAudioTensor")}, "are each a sound input"),
        ({**HEARD, "3": node("SaveAudioTensor")}, "gets no sound of the stream's"),
        (
            {**HEARD, "1": node("LoadAudioTensor", buffer_size=1)},
            r"node 1 \(LoadAudioTensor\): input buffer_size: 1; allowed: FLOAT, min 10, max 10000, milliseconds",
        ),
        ({"1": HEARD["1"]}, "no node takes the result"),
    ],
)
def test_a_mistake_about_sound_names_the_node_and_what_is_allowed(workflow, said):
    with pytest.raises(WorkflowError, match=said):
        convert(workflow, audio=True)
