"""The engine of a ComfyUI checkout, run inside this process: imported, asked to validate, asked to execute.

It knows two generations of the engine's API: synchronous functions (2024), and coroutines (2025 on). One engine a
process: ComfyUI keeps its state in modules.
"""

import asyncio
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.processors.comfyui.answers import NodeError, check_classes, check_run, check_verdict
from pipeline.processors.comfyui.host import as_main_program, device_arguments, import_torchvision
from pipeline.processors.comfyui.prestartup import run_prestartup_scripts
from pipeline.processors.comfyui.workflow import Prompt
from pipeline.processors.comfyui.workspace import find_workspace
from pipeline.processors.errors import ProcessorError

_MODEL_FOLDERS = ("checkpoints", "loras", "vae", "clip", "unet", "diffusion_models", "text_encoders", "controlnet")

_CACHE_SIZES = {"lru": 0, "ram": 0.0}
"""What the executors of late 2025 look up after every node, whatever kind of cache they have."""


class ComfyEngine:
    """Made once a process; `validate` and `execute` are for one thread."""

    def __init__(
        self, workspace: str, device: torch.device, arguments: Sequence[str] = (), models: str | None = None
    ) -> None:
        """Import the engine of the checkout `workspace`, with custom nodes. `arguments` are ComfyUI's own, such as
        --lowvram; `models` is one more folder with checkpoints/, loras/ and so on. Raises ProcessorError."""
        root = find_workspace(workspace)
        self._loop = asyncio.new_event_loop()
        self._server = _NoServer(self._loop)
        with as_main_program(device_arguments(device, arguments), root):
            import_torchvision()
            try:
                self._import(root, models)
            except ImportError as error:
                raise ProcessorError(
                    f"workspace {workspace}: cannot be imported: {error}; install its requirements.txt for the "
                    f"interpreter {sys.executable} (the stage's `python:`)"
                ) from error
        make = self._execution.PromptExecutor
        sized = "cache_args" in inspect.signature(make).parameters
        self._executor = make(self._server, cache_args=_CACHE_SIZES) if sized else make(self._server)
        self._number = 0

    @property
    def classes(self) -> dict[str, type]:
        """Every class of nodes, by name; ours may be added."""
        return self._nodes.NODE_CLASS_MAPPINGS  # type: ignore[no-any-return]

    def validate(self, prompt: Prompt) -> None:
        """Raises WorkflowError with every mistake: the node, the input, and what is allowed."""
        check_classes(prompt, self.classes)
        check_verdict(prompt, self._validate(prompt))

    def execute(self, prompt: Prompt, outputs: list[str]) -> None:
        """Run what is not cached of a validated prompt. Raises NodeError, or torch.OutOfMemoryError."""
        self._number += 1
        arguments: tuple[Any, ...] = (prompt, f"livepipe-{self._number}", {}, outputs)
        execute_async = getattr(self._executor, "execute_async", None)
        if execute_async is not None:
            self._loop.run_until_complete(execute_async(*arguments))
        else:
            self._executor.execute(*arguments)
        # Not `success`, which the executors of 2025 leave as it was when a node cannot even be started.
        check_run(prompt, self._executor.status_messages)
        if not self._executor.success:
            raise NodeError("the workflow failed, and the engine does not say where")

    def close(self) -> None:
        """Let go of the models."""
        self._executor.reset()
        management = importlib.import_module("comfy.model_management")
        management.unload_all_models()
        management.soft_empty_cache()
        self._loop.close()

    def _import(self, root: Path, models: str | None) -> None:
        importlib.import_module("comfy.options").enable_args_parsing()
        arguments = importlib.import_module("comfy.cli_args").args
        with contextlib.suppress(ImportError):  # Older engines have none.
            # First, as the main program does: `nodes` puts a folder before it in which `utils` is something else.
            importlib.import_module("utils.extra_config")
        folders = importlib.import_module("folder_paths")
        for folder in _MODEL_FOLDERS if models else ():
            with contextlib.suppress(KeyError):  # Older engines do not know all of them.
                folders.add_model_folder_path(folder, os.path.join(os.path.abspath(models or ""), folder))
        if (root / "extra_model_paths.yaml").is_file():
            _load_extra_paths(str(root / "extra_model_paths.yaml"))
        if not getattr(arguments, "disable_all_custom_nodes", False):
            run_prestartup_scripts(folders.get_folder_paths("custom_nodes"))
        self._execution = importlib.import_module("execution")
        self._nodes = importlib.import_module("nodes")
        self._server.stand_in()
        initialize = getattr(self._nodes, "init_extra_nodes", None) or self._nodes.init_custom_nodes
        self._wait_for(initialize(**_wanted_nodes(initialize, arguments)))

    def _validate(self, prompt: Prompt) -> Any:
        validate: Callable[..., Any] = self._execution.validate_prompt
        wanted = list(inspect.signature(validate).parameters)
        known: dict[str, Any] = {"prompt": prompt, "prompt_id": "livepipe", "partial_execution_list": None}
        return self._wait_for(validate(*[known[name] for name in wanted if name in known]))

    def _wait_for(self, value: Any) -> Any:
        return self._loop.run_until_complete(value) if inspect.isawaitable(value) else value


class _NoServer:
    """What the engine wants to tell its web page goes nowhere, and so do the pages that custom nodes add."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.last_prompt_id: str | None = None
        self.loop = loop
        self.sockets_metadata: dict[str, Any] = {}
        self.routes: Any = None

    def stand_in(self) -> None:
        """Be what custom nodes find as `PromptServer.instance`, for many look there while they are imported."""
        with contextlib.suppress(ImportError):  # Without what the web page needs, only the nodes that want it fail.
            self.routes = importlib.import_module("aiohttp.web").RouteTableDef()
            importlib.import_module("server").PromptServer.instance = self

    def send_sync(self, *_: Any) -> None:
        """Nobody listens."""

    def add_on_prompt_handler(self, _: Any) -> None:
        """Prompts come from the topology and its updates alone."""


def _wanted_nodes(initialize: Callable[..., Any], arguments: Any) -> dict[str, bool]:
    """Which nodes to load, as the engine's own main program decides it; older ones decide it themselves."""
    wanted = {
        "init_custom_nodes": not getattr(arguments, "disable_all_custom_nodes", False)
        or bool(getattr(arguments, "whitelist_custom_nodes", ())),
        "init_api_nodes": not getattr(arguments, "disable_api_nodes", False),
    }
    return {name: value for name, value in wanted.items() if name in inspect.signature(initialize).parameters}


def _load_extra_paths(path: str) -> None:
    try:
        module = importlib.import_module("utils.extra_config")
    except ImportError:
        return  # Older engines have this in their main program only.
    module.load_extra_path_config(path)
