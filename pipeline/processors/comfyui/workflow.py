"""A ComfyUI workflow in the API format, made to run on a stream: where pictures, sound and text come in and go out
become nodes of ours.

Pure dictionaries: no engine is needed to read, check or change one. The rules are those of ComfyStream's
`convert_prompt`, with errors that name the node.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pipeline.processors.comfyui.files import ALLOWED, problem_of
from pipeline.processors.errors import ProcessorError

INPUT, OUTPUT, TEXT_OUTPUT = "LivepipeInput", "LivepipeOutput", "LivepipeTextOutput"
AUDIO_INPUT, AUDIO_OUTPUT = "LivepipeAudioInput", "LivepipeAudioOutput"
"""The classes of our own nodes."""

FRAME_NUMBER = "{frame}"
"""As the value of an input: the number of the frame, an integer that rises with the stream."""

_PRIMARY_INPUT = "PrimaryInputLoadImage"
_TENSOR_INPUTS = ("LoadTensor", INPUT)
_PICTURE_OUTPUTS = ("PreviewImage", "SaveImage", "SaveTensor", OUTPUT)
_TEXT_OUTPUTS = ("SaveTextTensor", TEXT_OUTPUT)
_AUDIO_INPUTS = ("LoadAudioTensor", AUDIO_INPUT)
_AUDIO_OUTPUTS = ("SaveAudioTensor", AUDIO_OUTPUT)
_SAMPLERS = ("KSampler", "KSamplerAdvanced")
_CHECKPOINT, _CHECKPOINT_VAE = "CheckpointLoaderSimple", 2

DEFAULT_BUFFER_MS = 500.0
"""That of ComfyStream's LoadAudioTensor."""
MIN_BUFFER_MS, MAX_BUFFER_MS = 10.0, 10_000.0

Prompt = dict[str, dict[str, Any]]
"""By id: {"class_type": str, "inputs": {name: value or [id, output]}}."""


class WorkflowError(ProcessorError):
    """A mistake in a workflow, or in a change of one: which node, which input, what is allowed."""


class LiveWorkflow(msgspec.Struct, frozen=True):
    """A workflow that runs on a stream. `prompt` is the converted one; `source` what it was made of. `input` is the
    node that gives the stream's picture, None for one that makes pictures of nothing; `output` the node that takes the
    result, None: frames go on as they came. `text_outputs` are those that depend on a frame. `audio_input` gives
    `buffer_ms` of the stream's sound at a time; `audio_output` takes the result, None: the sound goes on as it came;
    `audio_text_outputs` depend on the sound alone. `counted` are the inputs (node, name) that get the frame's number.
    """

    source: Prompt
    prompt: Prompt
    input: str | None
    output: str | None
    text_outputs: tuple[str, ...]
    audio_input: str | None
    audio_output: str | None
    audio_text_outputs: tuple[str, ...]
    buffer_ms: float
    counted: tuple[tuple[str, str], ...]

    @property
    def outputs(self) -> list[str]:
        """The nodes to be executed for a frame."""
        return [*([self.output] if self.output else []), *self.text_outputs]

    @property
    def audio_outputs(self) -> list[str]:
        """The nodes to be executed for a piece of sound."""
        return [*([self.audio_output] if self.audio_output else []), *self.audio_text_outputs]

    def at(self, seq: int) -> Prompt:
        """The prompt for frame `seq`. The engine notes things in the nodes, so each run gets nodes of its own."""
        prompt = {key: {**node} for key, node in self.prompt.items()}
        for key, name in self.counted:
            prompt[key]["inputs"] = {**prompt[key]["inputs"], name: seq}
        return prompt


def read_workflow(path: str | Path) -> Prompt:
    """The workflow in a JSON file. Raises WorkflowError."""
    try:
        data = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise WorkflowError(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise WorkflowError(f"{path}: no JSON: {error}") from error
    return check_shape(data, str(path))


def check_shape(data: Any, what: str = "workflow") -> Prompt:
    """`data` itself, if it is a workflow in the API format. Raises WorkflowError."""
    if isinstance(data, dict) and isinstance(data.get("nodes"), list):
        raise WorkflowError(
            f"{what}: this is ComfyUI's editor format; needed is the API format: "
            "in ComfyUI use Workflow > Export (API), in older ones Save (API Format)"
        )
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]
    if not isinstance(data, dict) or not data:
        raise WorkflowError(f"{what}: needed is a map of node ids to nodes")
    for key, node in data.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise WorkflowError(f"{what}: node {key}: needed is a map with class_type and inputs")
        if not isinstance(node.setdefault("inputs", {}), dict):
            raise WorkflowError(
                f"{what}: node {key} ({node['class_type']}): inputs: needed is a map of names to values"
            )
    return data


def convert(source: Prompt, *, audio: bool = False) -> LiveWorkflow:
    """Make a workflow run on a stream. Raises WorkflowError. `audio`: the stream's sound may go through it.

    The picture comes in where PrimaryInputLoadImage is, or the only LoadImage, or LoadTensor; other LoadImage nodes
    load their files. It goes out where PreviewImage, SaveImage or SaveTensor is, sound from LoadAudioTensor to
    SaveAudioTensor, text where SaveTextTensor is. One that ends in a sampler is completed: its latent is decoded with
    the VAE of its checkpoint, and that goes out.
    """
    _check_links(source)
    check_files(source)
    source = _complete(source)
    given = _picture_input(source)
    output = _only(source, _PICTURE_OUTPUTS, "a picture output (PreviewImage, SaveImage or SaveTensor)")
    heard = _only(source, _AUDIO_INPUTS, "a sound input (LoadAudioTensor)")
    said = _only(source, _AUDIO_OUTPUTS, "a sound output (SaveAudioTensor)")
    texts = _of_class(source, _TEXT_OUTPUTS)
    _check_sound(source, heard, said, allowed=audio)
    if output is None and said is None and not texts:
        raise WorkflowError(
            f"no node takes the result; needed: one of {', '.join(_PICTURE_OUTPUTS[:3])}; there are: {_classes(source)}"
        )
    prompt = copy.deepcopy(source)
    if given is not None:
        prompt[given] = {"class_type": INPUT, "inputs": {}}
    if output is not None:
        prompt[output] = {"class_type": OUTPUT, "inputs": {"images": _taken(source, output, ("images", "image"))}}
    if heard is not None:
        prompt[heard] = {"class_type": AUDIO_INPUT, "inputs": {}}
    if said is not None:
        prompt[said] = {"class_type": AUDIO_OUTPUT, "inputs": {"audio": _taken(source, said, ("audio",))}}
    for key in texts:
        prompt[key] = {"class_type": TEXT_OUTPUT, "inputs": {"text": _taken(source, key, ("data", "text"))}}
    of_sound = [key for key in texts if heard in (behind := _ancestors(source, key)) and given not in behind]
    return LiveWorkflow(
        source=source,
        prompt=prompt,
        input=given,
        output=output,
        text_outputs=tuple(key for key in texts if key not in of_sound),
        audio_input=heard,
        audio_output=said,
        audio_text_outputs=tuple(of_sound),
        buffer_ms=_buffer_ms(source, heard),
        counted=_counted(prompt),
    )


def _counted(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """The inputs that get the frame's number; until there is one, 0."""
    counted = tuple(
        (key, name) for key, node in prompt.items() for name, value in node["inputs"].items() if value == FRAME_NUMBER
    )
    for key, name in counted:
        prompt[key]["inputs"][name] = 0
    return counted


def _check_sound(prompt: Prompt, heard: str | None, said: str | None, *, allowed: bool) -> None:
    found = heard or said
    if found is not None and not allowed:
        raise WorkflowError(
            f"node {_name(prompt, found)}: the sound goes past the workflow; set the stage's processor.audio: true"
        )
    if said is not None and (heard is None or heard not in _ancestors(prompt, said)):
        raise WorkflowError(f"node {_name(prompt, said)}: gets no sound of the stream's; needed: a LoadAudioTensor")


def _buffer_ms(prompt: Prompt, heard: str | None) -> float:
    value = prompt[heard]["inputs"].get("buffer_size", DEFAULT_BUFFER_MS) if heard is not None else DEFAULT_BUFFER_MS
    if isinstance(value, bool) or not isinstance(value, int | float) or not MIN_BUFFER_MS <= value <= MAX_BUFFER_MS:
        raise WorkflowError(
            f"node {_name(prompt, str(heard))}: input buffer_size: {value!r}; allowed: FLOAT, min {MIN_BUFFER_MS:g}, "
            f"max {MAX_BUFFER_MS:g}, milliseconds"
        )
    return float(value)


def _ancestors(prompt: Prompt, key: str) -> set[str | None]:
    """The nodes that this one depends on."""
    found: set[str | None] = set()
    left = [key]
    while left:
        for value in prompt[left.pop()]["inputs"].values():
            if is_link(value) and str(value[0]) not in found:
                found.add(str(value[0]))
                left.append(str(value[0]))
    return found


def change(source: Prompt, params: Mapping[str, Any]) -> Prompt:
    """The workflow after a change: {"nodes": {id: {"inputs": {name: value}}}} changes single inputs; {"prompt":
    {workflow}}, or {"prompts": [workflow]}, takes another one. Raises WorkflowError; `source` stays as it is."""
    unknown = set(params) - {"nodes", "prompt", "prompts"}
    if unknown:
        raise WorkflowError(f"{', '.join(sorted(unknown))}: not known here; allowed: nodes, prompt, prompts")
    result = copy.deepcopy(source)
    if "prompts" in params:
        prompts = params["prompts"]
        if not isinstance(prompts, list) or len(prompts) != 1:
            raise WorkflowError("prompts: needed is a list with one workflow")
        result = copy.deepcopy(check_shape(prompts[0], "prompts.0"))
    if "prompt" in params:
        result = copy.deepcopy(check_shape(params["prompt"], "prompt"))
    nodes = params.get("nodes", {})
    if not isinstance(nodes, dict):
        raise WorkflowError("nodes: needed is a map of node ids to {inputs: {name: value}}")
    for key, node in nodes.items():
        _change_node(result, str(key), node)
    return result


def check_files(prompt: Prompt) -> None:
    """Raises WorkflowError when a node names a file outside the engine's folders, and when it cannot be told which node
    gets the stream's picture; that one, and those that take the result, are replaced and read or write no file."""
    given = _picture_input(prompt)
    for key, node in prompt.items():
        if key == given or node["class_type"] in _PICTURE_OUTPUTS:
            continue
        for name, value in node["inputs"].items():
            if not is_link(value) and (problem := problem_of(name, value)):
                raise WorkflowError(
                    f"node {_name(prompt, key)}: input {name}: {str(value)[:80]!r} {problem}; allowed: {ALLOWED}"
                )


def _change_node(prompt: Prompt, key: str, node: Any) -> None:
    if key not in prompt:
        raise WorkflowError(f"nodes.{key}: no such node; there are: {', '.join(_name(prompt, k) for k in prompt)}")
    if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
        raise WorkflowError(f"nodes.{key}: needed is {{inputs: {{name: value}}}}")
    if set(node) - {"inputs", "class_type", "_meta"}:
        raise WorkflowError(f"nodes.{key}: allowed is inputs; not {', '.join(set(node) - {'inputs'})}")
    if node.get("class_type", prompt[key]["class_type"]) != prompt[key]["class_type"]:
        raise WorkflowError(f"nodes.{key}: is a {prompt[key]['class_type']}; another class needs a whole prompt")
    prompt[key]["inputs"].update(node["inputs"])


def _complete(prompt: Prompt) -> Prompt:
    """The same with an output, if it ends in one sampler of one checkpoint."""
    used = {str(value[0]) for node in prompt.values() for value in node["inputs"].values() if is_link(value)}
    last = [key for key in _of_class(prompt, _SAMPLERS) if key not in used]
    if len(last) != 1 or _of_class(prompt, _PICTURE_OUTPUTS):
        return prompt
    source: Any = last[0]
    for _ in prompt:  # No chain of models is longer than there are nodes.
        if prompt[source]["class_type"] == _CHECKPOINT:
            decode = {"class_type": "VAEDecode", "inputs": {"samples": [last[0], 0], "vae": [source, _CHECKPOINT_VAE]}}
            output = {"class_type": "PreviewImage", "inputs": {"images": ["decoded", 0]}}
            return {**prompt, "decoded": decode, "shown": output}
        link = prompt[source]["inputs"].get("model")
        if not is_link(link):
            break
        source = str(link[0])
    return prompt


def is_link(value: Any) -> bool:
    """Whether an input's value is another node's output: [id, number]."""
    return isinstance(value, list) and len(value) == 2


def _picture_input(prompt: Prompt) -> str | None:
    primary = _only(prompt, (_PRIMARY_INPUT,), f"a primary input ({_PRIMARY_INPUT})")
    tensor = _only(prompt, _TENSOR_INPUTS, "a stream input (LoadTensor)")
    if primary is not None and tensor is not None:
        raise WorkflowError(
            f"nodes {_name(prompt, primary)} and {_name(prompt, tensor)} both take the stream's picture; allowed: one"
        )
    files = _of_class(prompt, ("LoadImage",))
    if primary is None and tensor is None and len(files) > 1:
        raise WorkflowError(
            f"{len(files)} nodes load a picture: {', '.join(_name(prompt, key) for key in files)}; "
            f"make the one that is to get the stream's a {_PRIMARY_INPUT}"
        )
    return primary or tensor or (files[0] if files else None)


def _check_links(prompt: Prompt) -> None:
    for key, node in prompt.items():
        for name, value in node["inputs"].items():
            if is_link(value) and str(value[0]) not in prompt:
                raise WorkflowError(f"node {_name(prompt, key)}: input {name}: there is no node {value[0]}")


def _taken(prompt: Prompt, key: str, names: tuple[str, ...]) -> Any:
    inputs = prompt[key]["inputs"]
    for name in names:
        if name in inputs:
            return inputs[name]
    raise WorkflowError(f"node {_name(prompt, key)}: input {names[0]} is missing")


def _only(prompt: Prompt, classes: Iterable[str], what: str) -> str | None:
    found = _of_class(prompt, classes)
    if len(found) > 1:
        raise WorkflowError(f"nodes {', '.join(_name(prompt, key) for key in found)} are each {what}; allowed: one")
    return found[0] if found else None


def _of_class(prompt: Prompt, classes: Iterable[str]) -> list[str]:
    return [key for key, node in prompt.items() if node["class_type"] in classes]


def _classes(prompt: Prompt) -> str:
    return ", ".join(sorted({node["class_type"] for node in prompt.values()}))


def _name(prompt: Prompt, key: str) -> str:
    return f"{key} ({prompt[key]['class_type']})"
