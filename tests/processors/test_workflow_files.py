"""Which files a workflow may name, however the name is written."""

from typing import Any

import pytest

from pipeline.processors.comfyui.files import problem_of
from pipeline.processors.comfyui.workflow import WorkflowError, change, convert


def with_second_picture(image: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "PrimaryInputLoadImage", "inputs": {"image": "any.png"}},
        "2": {"class_type": "LoadImage", "inputs": {"image": image}},
        "3": {"class_type": "ImageBlend", "inputs": {"image1": ["1", 0], "image2": ["2", 0], "blend_factor": 0.5}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("../../etc/passwd", "leads out"),
        ("styles/../../secret.png", "leads out"),
        ("..\\..\\secret.png", "leads out"),
        ("..", "leads out"),
        ("../x.png [input]", "leads out"),
        (".. /x.png", "leads out"),
        ("/etc/passwd", "absolute"),
        ("  /etc/passwd", "absolute"),
        ("//server/share/x.png", "absolute"),
        ("\\\\server\\share", "absolute"),
        ("C:\\Windows\\win.ini", "absolute"),
        ("c:/Windows/win.ini", "absolute"),
        ("~/.ssh/id_rsa", "absolute"),
        ("file:///etc/passwd", "absolute"),
        ("FILE:/etc/passwd", "absolute"),
        ("ComfyUI_00001_.png [output]", "folder output"),
        ("preview.png [temp] ", "folder temp"),
        ("a.png\0.txt", "NUL"),
        (["a.png", "b.png", "../c.png"], "leads out"),
        ({"file": {"name": "/etc/passwd"}}, "absolute"),
    ],
)
def test_a_workflow_cannot_name_a_file_outside(value: Any, problem: str) -> None:
    assert problem in problem_of("image", value)
    with pytest.raises(WorkflowError, match=rf"node 2 \(LoadImage\): input image: .*{problem}.*; allowed: a name"):
        convert(with_second_picture(value))


@pytest.mark.parametrize("name", ["ckpt_name", "lora_name", "vae_name", "text", "filename_prefix"])
def test_no_input_of_any_name_may_climb_out(name: str) -> None:
    assert "leads out" in problem_of(name, "../../model.safetensors")
    assert "absolute" in problem_of(name, "/models/model.safetensors")


@pytest.mark.parametrize(
    "value",
    ["picture.png", "styles/picture.png", "picture.png [input]", "sd15\\model.safetensors", "a..b.png", "...", 3, None],
)
def test_names_within_the_folder_are_taken(value: Any) -> None:
    assert problem_of("image", value) == ""


@pytest.mark.parametrize(
    "text", ["/imagine a cat", "a cat and/or a dog ...", "~ soft light ~", "[output] of a printer"]
)
def test_what_people_write_is_no_path(text: str) -> None:
    assert problem_of("text", text) == ""


def test_the_picture_that_the_stream_replaces_may_be_called_anything() -> None:
    prompt = with_second_picture("picture.png")
    prompt["1"]["inputs"]["image"] = "ComfyUI_00001_.png [output]"

    assert convert(prompt).input == "1"


def test_a_change_of_one_input_is_held_to_the_same() -> None:
    changed = change(with_second_picture("picture.png"), {"nodes": {"2": {"inputs": {"image": "/etc/passwd"}}}})

    with pytest.raises(WorkflowError, match="absolute path"):
        convert(changed)
