"""Parameters as clients of pytrickle and ComfyStream send them, sorted: a workflow, a size, the processor's own."""

from typing import Any, NamedTuple

import msgspec

from pipeline.api.problems import ApiError
from pipeline.processors.comfyui.workflow import WorkflowError, check_files, check_shape

FOREIGN = ("max_framerate", "detect_out_resolution", "show_loading", "warmup")
"""What pytrickle's server and ComfyStream do with these is not done here, or done always: they are named in the answer,
and the processor is not asked."""

MAX_SIDE = 1 << 20


class Params(NamedTuple):
    """`processor` is what the processor is told; `ignored` are names of what nobody is told."""

    processor: dict[str, Any]
    size: tuple[int, int] | None
    ignored: list[str]


def sort_params(given: dict[str, Any], path: str = "") -> Params:
    """`path` leads to `given`, for messages. Raises ApiError."""
    at = f"{path}." if path else ""
    own = {name: value for name, value in given.items() if name not in ("width", "height", *FOREIGN)}
    # pytrickle sends every field of its models, None where nothing was said.
    prompts, prompt = own.pop("prompts", None), own.get("prompt")
    if prompts is None and _is_workflow(prompt):
        prompts = own.pop("prompt")
        own["prompts"] = [workflow_of(prompts, f"{at}prompt")]
    elif prompts is not None:
        own["prompts"] = [workflow_of(prompts, f"{at}prompts")]
    if own.get("prompt", "") is None:
        del own["prompt"]
    return Params(own, size_of(given.get("width"), given.get("height"), at), [n for n in FOREIGN if n in given])


def workflow_of(value: Any, path: str) -> dict[str, Any]:
    """The one workflow that `value` is or holds. Raises ApiError for what can be known to be wrong with it without the
    processor, which judges the rest."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ApiError(400, "is a string that is no JSON", path=path, allowed="a workflow") from error
    if isinstance(value, list):
        if len(value) != 1:
            raise ApiError(400, f"is a list of {len(value)}", path=path, allowed="one workflow, or a list with one")
        value = value[0]
    try:
        workflow = check_shape(value, "workflow")
        check_files(workflow)
    except WorkflowError as error:
        raise ApiError(400, str(error), path=path, allowed="a workflow in ComfyUI's API format") from error
    return workflow


def size_of(width: Any, height: Any, at: str = "") -> tuple[int, int] | None:
    """Both, or None if neither is given. Raises ApiError."""
    if width is None and height is None:
        return None
    for name, value in (("width", width), ("height", height)):
        if value is None:
            raise ApiError(400, "is missing", path=f"{at}{name}", allowed="width and height together, or neither")
    return _pixels(width, f"{at}width"), _pixels(height, f"{at}height")


def _pixels(value: Any, path: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MAX_SIDE)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIDE:
        raise ApiError(400, "is no number of pixels", path=path, allowed="an integer from 1 on")
    return value


def _is_workflow(value: Any) -> bool:
    """Whether a `prompt` is a workflow; many processors have a parameter of that name that is words."""
    if isinstance(value, str):
        return value.lstrip().startswith("{")
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(each, dict) for each in value))
