"""What a form is told of a processor's parameters."""

from typing import Annotated, Literal

import msgspec
import pytest

from pipeline.processors.comfyui.node_inputs import node_inputs
from pipeline.processors.parameters import MAX_CHOICES, declared, inferred
from pipeline.processors.torch_callable import TorchCallable
from pipeline.status import Parameter
from tests.comfyui.probe import node


def test_values_alone_tell_a_kind() -> None:
    params = {"a": 1, "b": 1.5, "c": True, "d": "x", "e": [1], "f": None}
    assert [each.kind for each in inferred(params)] == ["int", "float", "bool", "text", "json", "json"]


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, Parameter("p", "float", 1)),
        (None, int | None, Parameter("p", "int", None)),
        (2, Annotated[int, msgspec.Meta(ge=1, lt=9)], Parameter("p", "int", 2, min=1, max=9)),
        ("a", Literal["a", "b"], Parameter("p", "choice", "a", choices=["a", "b"])),
        (3, Literal[3, 4], Parameter("p", "int", 3)),
        ("x", object, Parameter("p", "text", "x")),
    ],
)
def test_a_signature_tells_more(value: object, hint: object, expected: Parameter) -> None:
    assert declared("p", value, hint) == expected


def test_a_callable_describes_its_arguments_with_what_is_in_force() -> None:
    processor = TorchCallable("pipeline.processors.torch_ops:edges", {"strength": 3})
    shown = {each.name: (each.kind, each.value) for each in processor.parameters()}
    assert shown == {"strength": ("float", 3), "mix": ("float", 0.5)}


class Blend:
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, object]:
        return {
            "required": {
                "image": ("IMAGE",),
                "factor": ("FLOAT", {"default": 0.5, "min": 0, "max": 1.0, "step": 0.01}),
                "mode": (["normal", "screen"],),
                "seed": ("INT", {"min": 0, "max": 0xFFFF_FFFF_FFFF_FFFF}),
            },
            "optional": {"text": ("STRING", {"multiline": True}), "size": ("COMBO", {"options": [1, 2]})},
        }


class Broken:
    @classmethod
    def INPUT_TYPES(cls) -> dict[str, object]:
        raise RuntimeError("of its author's")


def test_the_inputs_of_nodes_have_what_their_classes_declare() -> None:
    blend = node("Blend", image=["1", 0], factor=0.5, mode="screen", seed="{frame}", text="x", size="1")
    blend["_meta"] = {"title": "My blend"}
    prompt = {"1": node("LoadImage", image="x"), "2": blend, "3": node("Broken", gain=2), "4": node("Unknown", on=True)}
    shown = node_inputs(prompt, {"Blend": Blend, "Broken": Broken}, {"1"})

    assert [(each.node, each.title, each.name, each.kind) for each in shown] == [
        ("2", "My blend", "factor", "float"),
        ("2", "My blend", "mode", "choice"),
        ("2", "My blend", "seed", "text"),
        ("2", "My blend", "text", "text"),
        ("2", "My blend", "size", "choice"),
        ("3", "Broken", "gain", "int"),
        ("4", "Unknown", "on", "bool"),
    ]
    assert (shown[0].min, shown[0].max, shown[0].step) == (0, 1, 0.01)
    assert shown[1].choices == ["normal", "screen"]
    assert shown[3].multiline
    assert shown[4].choices == ["1", "2"]


def test_a_folder_of_very_many_models_is_cut() -> None:
    class Loader:
        INPUT_TYPES = classmethod(lambda cls: {"required": {"name": ([str(n) for n in range(2 * MAX_CHOICES)],)}})

    (shown,) = node_inputs({"1": node("Loader", name="1")}, {"Loader": Loader}, ())
    assert len(shown.choices) == MAX_CHOICES
