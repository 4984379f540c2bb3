"""The engine of a ComfyUI checkout, run inside this process: imported, asked to validate, asked to execute.

It knows two generations of the engine's API: synchronous functions (2024), and coroutines (2025 on). One engine a
process: ComfyUI keeps its state in modules.
"""

import asyncio
import contextlib
import difflib
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.processors.comfyui.workflow import OUTPUT, Prompt, WorkflowError
from pipeline.processors.comfyui.workspace import find_workspace
from pipeline.processors.errors import ProcessorError

_MODEL_FOLDERS = ("checkpoints", "loras", "vae", "clip", "unet", "diffusion_models", "text_encoders", "controlnet")
_SHOWN_CHOICES = 20


class NodeError(Exception):
    """A node raised. The text names it, its class and what it said."""


class ComfyEngine:
    """Made once a process; `validate` and `execute` are for one thread."""

    def __init__(
        self, workspace: str, device: torch.device, arguments: Sequence[str] = (), models: str | None = None
    ) -> None:
        """Import the engine of the checkout `workspace`, with custom nodes. `arguments` are ComfyUI's own, such as
        --lowvram; `models` is one more folder with checkpoints/, loras/ and so on. Raises ProcessorError."""
        root = find_workspace(workspace)
        self._loop = asyncio.new_event_loop()
        with _as_main_program(root, _arguments(device, arguments)):
            import_torchvision()
            try:
                self._import(root, models)
            except ImportError as error:
                raise ProcessorError(
                    f"workspace {workspace}: cannot be imported: {error}; install its requirements.txt for the "
                    f"interpreter {sys.executable} (the stage's `python:`)"
                ) from error
        self._executor = self._nodes_executor()
        self._number = 0

    @property
    def classes(self) -> dict[str, type]:
        """Every class of nodes, by name; ours may be added."""
        return self._nodes.NODE_CLASS_MAPPINGS  # type: ignore[no-any-return]

    def validate(self, prompt: Prompt) -> None:
        """Raises WorkflowError with every mistake: the node, the input, and what is allowed."""
        problems = self._unknown_classes(prompt) or self._bad_links(prompt)
        if not problems:
            valid, error, _, node_errors = self._validate(prompt)[:4]
            problems = list(_problems(prompt, node_errors or {}))
            if not valid and not problems:
                problems = [f"{error['message']}: {error['details']}" if error else "not valid"]
        if problems:
            raise WorkflowError("; ".join(problems))

    def execute(self, prompt: Prompt, outputs: list[str]) -> None:
        """Run what is not cached of a validated prompt. Raises NodeError, or torch.OutOfMemoryError."""
        self._number += 1
        arguments: tuple[Any, ...] = (prompt, f"livepipe-{self._number}", {}, outputs)
        execute_async = getattr(self._executor, "execute_async", None)
        if execute_async is not None:
            self._loop.run_until_complete(execute_async(*arguments))
        else:
            self._executor.execute(*arguments)
        if not self._executor.success:
            _raise_failure(prompt, self._executor.status_messages)

    def close(self) -> None:
        """Let go of the models."""
        self._executor.reset()
        management = importlib.import_module("comfy.model_management")
        management.unload_all_models()
        management.soft_empty_cache()
        self._loop.close()

    def _import(self, root: Path, models: str | None) -> None:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
        folders = importlib.import_module("folder_paths")
        for folder in _MODEL_FOLDERS if models else ():
            with contextlib.suppress(KeyError):  # Older engines do not know all of them.
                folders.add_model_folder_path(folder, os.path.join(os.path.abspath(models or ""), folder))
        self._execution = importlib.import_module("execution")
        self._nodes = importlib.import_module("nodes")
        if (root / "extra_model_paths.yaml").is_file():
            _load_extra_paths(str(root / "extra_model_paths.yaml"))
        initialize = getattr(self._nodes, "init_extra_nodes", None) or self._nodes.init_custom_nodes
        self._wait_for(initialize())

    def _nodes_executor(self) -> Any:
        server = _NoServer(self._loop)
        return self._execution.PromptExecutor(server)

    def _validate(self, prompt: Prompt) -> Any:
        validate: Callable[..., Any] = self._execution.validate_prompt
        wanted = list(inspect.signature(validate).parameters)
        known: dict[str, Any] = {"prompt": prompt, "prompt_id": "livepipe", "partial_execution_list": None}
        return self._wait_for(validate(*[known[name] for name in wanted if name in known]))

    def _wait_for(self, value: Any) -> Any:
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def _unknown_classes(self, prompt: Prompt) -> list[str]:
        problems = []
        for key, node in prompt.items():
            name = node["class_type"]
            if name not in self.classes:
                near = difflib.get_close_matches(name, self.classes, n=3)
                hint = f"; near it: {', '.join(near)}" if near else "; is its custom node installed?"
                problems.append(f"node {key}: no class {name!r}{hint}")
        return problems

    def _bad_links(self, prompt: Prompt) -> list[str]:
        """The old engine raises IndexError for them."""
        problems = []
        for key, node in prompt.items():
            for name, value in node["inputs"].items():
                if not (isinstance(value, list) and len(value) == 2):
                    continue
                source = str(value[0])
                given = getattr(self.classes[prompt[source]["class_type"]], "RETURN_TYPES", ())
                if not isinstance(value[1], int) or not 0 <= value[1] < len(given):
                    problems.append(
                        f"node {key} ({node['class_type']}): input {name}: node {source} "
                        f"({prompt[source]['class_type']}) has outputs 0 to {len(given) - 1}, not {value[1]}"
                    )
        return problems


class _NoServer:
    """What the engine wants to tell its web page goes nowhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.last_prompt_id: str | None = None
        self.loop = loop
        self.sockets_metadata: dict[str, Any] = {}

    def send_sync(self, *_: Any) -> None:
        """Nobody listens."""


def _arguments(device: torch.device, arguments: Sequence[str]) -> list[str]:
    chosen = ["--cpu"] if device.type == "cpu" else []
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return [*chosen, *(argument for argument in arguments if argument not in chosen)]


@contextlib.contextmanager
def _as_main_program(root: Path, arguments: list[str]) -> Iterator[None]:
    """ComfyUI reads the program's arguments as its own, finds its modules in the program's folder, and sets up logging
    for everybody: let it, and put everything back."""
    argv, logger = sys.argv, logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    out, err = sys.stdout, sys.stderr
    sys.argv = [str(root / "main.py"), *arguments]
    sys.path.insert(0, str(root))
    try:
        yield
    except SystemExit as error:
        raise ProcessorError(f"ComfyUI does not take the arguments {' '.join(arguments)}") from error
    finally:
        sys.argv = argv
        sys.stdout, sys.stderr = out, err
        logger.handlers[:] = handlers
        logger.setLevel(level)


def import_torchvision() -> None:
    """Beside a torch that was built for CPUs only, PyPI's torchvision fails over operators of its own that it does not
    have there. ComfyUI uses none of them: with their names declared it can be imported."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return  # Newer engines do without in many nodes; what needs it says so.
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        declared = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(declared)
        importlib.import_module("torchvision")


_KEPT: list[Any] = []
"""Operators are declared for as long as their library is alive."""


def _load_extra_paths(path: str) -> None:
    try:
        module = importlib.import_module("utils.extra_config")
    except ImportError:
        return  # Older engines have this in their main program only.
    module.load_extra_path_config(path)


def _problems(prompt: Prompt, node_errors: dict[str, Any]) -> Iterator[str]:
    for key, found in node_errors.items():
        for error in found["errors"]:
            yield f"node {key} ({prompt[key]['class_type']}): {_explain(error)}"


def _explain(error: dict[str, Any]) -> str:
    extra = error.get("extra_info") or {}
    name, config = extra.get("input_name", ""), extra.get("input_config")
    allowed = ""
    if config and isinstance(config[0], list | tuple):
        choices = [str(choice) for choice in config[0]]
        shown = ", ".join(choices[:_SHOWN_CHOICES]) + (", ..." if len(choices) > _SHOWN_CHOICES else "")
        allowed = f"; allowed: {shown or 'nothing, there is no such file'}"
    elif config and len(config) > 1 and isinstance(config[1], dict):
        limits = [f"{limit} {config[1][limit]}" for limit in ("min", "max") if limit in config[1]]
        allowed = f"; allowed: {config[0]}{', ' if limits else ''}{', '.join(limits)}"
    details = str(error.get("details") or "").split(" not in ")[0]
    where = f"input {name}: " if name else ""
    return f"{where}{error['message']}{f': {details}' if details and details != name else ''}{allowed}"


def _raise_failure(prompt: Prompt, messages: list[tuple[str, dict[str, Any]]]) -> None:
    for event, data in reversed(messages):
        if event == "execution_error":
            key, kind = str(data["node_id"]), data.get("exception_type", "")
            shown = "the output" if data.get("node_type") == OUTPUT else data.get("node_type", "")
            text = f"node {key} ({shown}): {kind.rpartition('.')[2]}: {str(data.get('exception_message', '')).strip()}"
            if kind.endswith("OutOfMemoryError"):
                raise torch.OutOfMemoryError(text)
            raise NodeError(text)
    raise NodeError("the workflow was interrupted")
