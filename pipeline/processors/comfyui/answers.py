"""What an engine says of a workflow, in words for whoever wrote it: mistakes in it, and nodes that raised."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from pipeline.processors.comfyui.workflow import AUDIO_OUTPUT, OUTPUT, Prompt, WorkflowError, is_link

_SHOWN_CHOICES = 20


class NodeError(Exception):
    """A node raised. The text names it, its class and what it said."""


def check_classes(prompt: Prompt, classes: Mapping[str, type]) -> None:
    """Raises WorkflowError for what engines themselves do not find, raise at, or stop at: classes that there are not,
    links to outputs that there are not, and what is no choice of a list in a node of 2025's kind."""
    problems = list(_unknown_classes(prompt, classes)) or [*_bad_links(prompt, classes), *_bad_choices(prompt, classes)]
    if problems:
        raise WorkflowError("; ".join(problems))


def check_verdict(prompt: Prompt, verdict: Sequence[Any]) -> None:
    """Raises WorkflowError with every mistake that `validate_prompt` found: the node, the input, what is allowed."""
    valid, error, _, node_errors = verdict[:4]
    problems = list(_problems(prompt, node_errors or {}))
    if not valid and not problems:
        problems = [f"{error['message']}: {error['details']}" if error else "not valid"]
    if problems:
        raise WorkflowError("; ".join(problems))


def check_run(prompt: Prompt, messages: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Raises NodeError, or torch.OutOfMemoryError, when the executor's messages tell of a run that failed."""
    for event, data in reversed(messages):
        if event == "execution_error":
            key, kind = str(data["node_id"]), data.get("exception_type", "")
            shown = "the output" if data.get("node_type") in (OUTPUT, AUDIO_OUTPUT) else data.get("node_type", "")
            text = f"node {key} ({shown}): {kind.rpartition('.')[2]}: {str(data.get('exception_message', '')).strip()}"
            if kind.endswith("OutOfMemoryError"):
                raise torch.OutOfMemoryError(text)
            raise NodeError(text)
        if event == "execution_interrupted":
            raise NodeError("the workflow was interrupted")


def _unknown_classes(prompt: Prompt, classes: Mapping[str, type]) -> Iterator[str]:
    for key, node in prompt.items():
        name = node["class_type"]
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=3)
            hint = f"; near it: {', '.join(near)}" if near else "; is its custom node installed?"
            yield f"node {key}: no class {name!r}{hint}"


def _bad_links(prompt: Prompt, classes: Mapping[str, type]) -> Iterator[str]:
    for key, node in prompt.items():
        for name, value in node["inputs"].items():
            if not is_link(value):
                continue
            source = str(value[0])
            given = getattr(classes[prompt[source]["class_type"]], "RETURN_TYPES", ())
            if not isinstance(value[1], int) or not 0 <= value[1] < len(given):
                yield (
                    f"node {key} ({node['class_type']}): input {name}: node {source} "
                    f"({prompt[source]['class_type']}) has outputs 0 to {len(given) - 1}, not {value[1]}"
                )


def _bad_choices(prompt: Prompt, classes: Mapping[str, type]) -> Iterator[str]:
    for key, node in prompt.items():
        kind = classes[node["class_type"]]
        if hasattr(kind, "VALIDATE_INPUTS") or not hasattr(kind, "INPUT_TYPES"):
            continue  # It says itself what is allowed.
        declared = kind.INPUT_TYPES()
        for name, config in {**declared.get("optional", {}), **declared.get("required", {})}.items():
            choices = None if isinstance(config[0], list | tuple) else _choices(config)
            value = node["inputs"].get(name)
            if choices and value is not None and not isinstance(value, list) and str(value) not in choices:
                where = {"input_name": name, "input_config": config}
                mistake = {"message": "Value not in list", "details": f"'{value}'", "extra_info": where}
                yield f"node {key} ({node['class_type']}): {_explain(mistake)}"


def _problems(prompt: Prompt, node_errors: dict[str, Any]) -> Iterator[str]:
    for key, found in node_errors.items():
        for error in found["errors"]:
            yield f"node {key} ({prompt[key]['class_type']}): {_explain(error)}"


def _choices(config: Any) -> list[str] | None:
    """What a list input lets one choose, None for other inputs. Nodes of 2025 on say it in their options."""
    if not config:
        return None
    if isinstance(config[0], list | tuple):
        return [str(choice) for choice in config[0]]
    options = config[1].get("options") if len(config) > 1 and isinstance(config[1], dict) else None
    return [str(choice) for choice in options] if isinstance(options, list | tuple) else None


def _explain(error: dict[str, Any]) -> str:
    extra = error.get("extra_info") or {}
    name, config = extra.get("input_name", ""), extra.get("input_config")
    allowed = ""
    choices = _choices(config)
    if choices is not None:
        shown = ", ".join(choices[:_SHOWN_CHOICES]) + (", ..." if len(choices) > _SHOWN_CHOICES else "")
        allowed = f"; allowed: {shown or 'nothing, there is no such file'}"
    elif config and len(config) > 1 and isinstance(config[1], dict):
        limits = [f"{limit} {config[1][limit]}" for limit in ("min", "max") if limit in config[1]]
        allowed = f"; allowed: {config[0]}{', ' if limits else ''}{', '.join(limits)}"
    details = str(error.get("details") or "").split(" not in ")[0]
    where = f"input {name}: " if name else ""
    return f"{where}{error['message']}{f': {details}' if details and details != name else ''}{allowed}"
