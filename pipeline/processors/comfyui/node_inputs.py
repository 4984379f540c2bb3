"""The inputs of a workflow's nodes as parameters of a form, with what the classes of the nodes declare of each: type,
range, choices. Links between nodes are none, nor is what joins the workflow to the stream."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pipeline.processors.comfyui.workflow import Prompt, is_link
from pipeline.processors.parameters import MAX_CHOICES, Kind, kind_of
from pipeline.status import Parameter

_KINDS: dict[str, Kind] = {"INT": "int", "FLOAT": "float", "BOOLEAN": "bool", "STRING": "text", "COMBO": "choice"}
_FITTING: dict[Kind, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def node_inputs(prompt: Prompt, classes: Mapping[str, type], without: Collection[str]) -> list[Parameter]:
    """In the order of the workflow; `without` are nodes that are left out."""
    return [parameter for key in prompt if key not in without for parameter in _of_node(prompt, key, classes)]


def _of_node(prompt: Prompt, key: str, classes: Mapping[str, type]) -> Iterator[Parameter]:
    node = prompt[key]
    kind = node["class_type"]
    title = str(node.get("_meta", {}).get("title") or kind)
    configs = _configs(classes.get(kind))
    for name, value in node["inputs"].items():
        if not is_link(value):
            yield _parameter(name, value, configs.get(name), key, title)


def _configs(kind: type | None) -> dict[str, Any]:
    """What the class declares, by input; nothing where it cannot say."""
    try:
        declared: Any = kind.INPUT_TYPES()  # type: ignore[union-attr]
    except Exception:  # noqa: BLE001 - a custom node's own code; its values tell enough for a form
        return {}
    return {**declared.get("optional", {}), **declared.get("required", {})}


def _parameter(name: str, value: Any, config: Any, node: str, title: str) -> Parameter:
    wanted = config[0] if config else None
    options = config[1] if config and len(config) > 1 and isinstance(config[1], dict) else {}
    choices = wanted if isinstance(wanted, list | tuple) else options.get("options") or ()
    kind: Kind = "choice" if choices else _KINDS.get(str(wanted), kind_of(value))
    if kind in _FITTING and type(value) not in _FITTING[kind]:
        kind = kind_of(value)  # Such as the frame's number, which stands in the place of an integer.
    return Parameter(
        name,
        kind,
        value,
        node=node,
        title=title,
        min=_number(options.get("min")),
        max=_number(options.get("max")),
        step=_number(options.get("step")),
        choices=[str(choice) for choice in choices[:MAX_CHOICES]],
        multiline=bool(options.get("multiline")),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
