"""What of the comfystream processor needs no ComfyStream: the workflow in its classes, and the nodes at both ends."""

import threading

import pytest
import torch

from pipeline.processors.comfystream.nodes import Junction, make_nodes
from pipeline.processors.comfystream.prompt import stream_prompt
from pipeline.processors.comfyui.workflow import WorkflowError, convert

INVERT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}


class Blocker:
    def __init__(self, message):
        self.message = message


@pytest.fixture
def junction():
    made = Junction()
    made.workflow = 1
    return made


@pytest.fixture
def load(junction):
    return make_nodes(junction, Blocker)["LoadTensor"]()


def picture(value):
    return torch.full((1, 4, 6, 3), value)


def test_the_ends_of_a_workflow_get_the_names_that_comfystream_asks_for():
    prompt = stream_prompt(convert(INVERT), 7)
    assert prompt["1"] == {"class_type": "LoadTensor", "inputs": {"workflow": 7}}
    assert prompt["2"] == INVERT["2"]
    assert prompt["3"] == {"class_type": "SaveTensor", "inputs": {"images": ["2", 0]}}


def test_text_goes_out_under_comfystreams_name():
    text = {**INVERT, "4": {"class_type": "SaveTextTensor", "inputs": {"data": ["2", 0]}}}
    assert stream_prompt(convert(text), 1)["4"] == {"class_type": "SaveTextTensor", "inputs": {"text": ["2", 0]}}


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"1": {"class_type": "EmptyImage", "inputs": {}}}, "no node takes the stream's picture .*; `comfyui` runs it"),
        (
            {"2": {"class_type": "Blur", "inputs": {"image": ["1", 0], "seed": "{frame}"}}},
            r"node 2 \(Blur\): input seed: .* no frame number in it; `comfyui` puts it in",
        ),
    ],
)
def test_what_comfystream_cannot_do_is_refused_and_says_what_can(node, said):
    with pytest.raises(WorkflowError, match=said):
        stream_prompt(convert({**INVERT, **node}), 1)


def test_a_frame_comes_out_under_its_number(junction, load):
    junction.offer(5, picture(0.5))
    image, mask = load.give(workflow=1)
    junction.give(image=image)
    assert mask.shape == (1, 4, 6)
    event = junction.events.get(timeout=5)
    assert event.number == 5
    assert torch.equal(event.image, picture(0.5))


def test_a_run_that_gave_nothing_is_known_when_the_next_one_begins(junction, load):
    junction.offer(5, picture(0.5))
    load.give(workflow=1)
    junction.nudge()
    load.give(workflow=1)
    event = junction.events.get(timeout=5)
    assert (event.number, event.ended) == (5, True)


def test_a_run_that_waits_for_a_frame_ends_without_one_when_nudged(junction, load):
    given = []
    waiting = threading.Thread(target=lambda: given.append(load.give(workflow=1)))
    waiting.start()
    junction.nudge()
    waiting.join(5)
    assert [type(value) for value in given[0]] == [Blocker, Blocker], "what is behind the node rests"


@pytest.mark.parametrize("workflow", [0, 2], ids=["ComfyStream's pass-through", "one that is not in force yet"])
def test_another_workflow_gets_no_frame(junction, load, workflow):
    junction.offer(5, picture(0.5))
    assert isinstance(load.give(workflow=workflow)[0], Blocker)
    assert torch.equal(load.give(workflow=1)[0], picture(0.5)), "it is still there for the one in force"


def test_a_failure_is_that_of_the_frame_under_way(junction, load):
    junction.fail(ValueError("before any frame"))
    junction.offer(5, picture(0.5))
    load.give(workflow=1)
    junction.fail(ValueError("too dark"))
    before, failed = junction.events.get(timeout=5), junction.events.get(timeout=5)
    assert (before.number, failed.number, str(failed.error)) == (None, 5, "too dark")


def test_what_was_offered_and_reported_can_be_taken_back(junction, load):
    junction.offer(5, picture(0.5))
    junction.fail(ValueError())
    junction.forget()
    assert junction.events.empty()
    junction.offer(6, picture(0.25))
    assert torch.equal(load.give(workflow=1)[0], picture(0.25))
