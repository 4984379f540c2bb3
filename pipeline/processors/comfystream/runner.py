"""ComfyStream's client in a thread of its own: imported, given a workflow, told apart from its silent fall-backs.

Written against ComfyStream 0.1.8 over the ComfyUI that it pins. One a process: both keep their state in modules.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.processors.comfystream.nodes import Junction, make_nodes
from pipeline.processors.comfyui.answers import NodeError, check_classes, check_run, check_verdict
from pipeline.processors.comfyui.host import as_main_program, device_arguments, import_torchvision
from pipeline.processors.comfyui.workflow import Prompt, WorkflowError
from pipeline.processors.errors import ProcessorError

_CALL_SECONDS = 30.0
"""Longest that the client's thread may take for one call; it only waits for short work."""

_OWN_PACKAGES = ("comfystream", "ComfyStream", "comfystream_inside")
"""Custom node folders that are never loaded: ComfyStream's own package throws the engine's modules out of the process,
and with them its configuration. The nodes that it is loaded for are ours here."""

_REPORTED_ELSEWHERE = ("comfy.cmd.execution", "comfystream.client")
"""Loggers that print a traceback for every failed frame; the failure itself is raised here."""


class ComfyStreamRunner:
    """For one thread; the engine's runs are in another one, and hand over through `junction`."""

    def __init__(self, junction: Junction, workspace: str, device: torch.device, arguments: Sequence[str] = ()) -> None:
        """Import ComfyStream and the nodes of `workspace`, a folder with models/ and custom_nodes/. `arguments` are
        ComfyUI's own. Raises ProcessorError."""
        root = Path(workspace).expanduser().resolve()
        if not root.is_dir():
            raise ProcessorError(f"workspace {workspace}: no such folder; needed: one with models/ and custom_nodes/")
        self.paused = False
        self._junction = junction
        self._prompt: Prompt = {}
        self._applied: Any = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="comfystream", daemon=True)
        os.environ.setdefault("OTEL_SDK_DISABLED", "true")
        own = ["--cwd", str(root), "--disable-known-models"]  # A known name would be downloaded while frames wait.
        # ComfyUI takes a config.yaml of the current folder for its own, so it is imported in its workspace.
        with as_main_program([*own, *device_arguments(device, arguments)]), contextlib.chdir(root):
            import_torchvision()
            try:
                client, configuration = self._import()
            except ImportError as error:
                raise ProcessorError(
                    f"comfystream: cannot be imported: {error}; it is not on PyPI: install it for the interpreter "
                    f"{sys.executable} (the stage's `python:`) as docs/comfyui.md says"
                ) from error
            self._thread.start()
            self._client = self._call(self._make(client, configuration))

    @property
    def classes(self) -> dict[str, type]:
        """Every class of nodes, by name; ours may be added."""
        return self._nodes.NODE_CLASS_MAPPINGS  # type: ignore[no-any-return]

    @property
    def fell_back(self) -> bool:
        """Whether the client runs something else than it was given: it replaces what fails by pass-through."""
        return self._client.current_prompts is not self._applied

    @property
    def alive(self) -> bool:
        task = self._client._runner_task
        return task is not None and not task.done()

    def validate(self, prompt: Prompt) -> None:
        """Raises WorkflowError with every mistake: the node, the input, and what is allowed."""
        check_classes(prompt, self.classes)
        check_verdict(prompt, self._call(self._validate(prompt)))

    def run(self, prompt: Prompt) -> None:
        """Run a validated prompt from the next frame on. Raises WorkflowError when ComfyStream refuses it; what ran
        before goes on."""
        try:
            self._call(self._apply(prompt))
        except (ProcessorError, TimeoutError):
            raise
        except Exception as error:  # ComfyStream raises bare Exceptions, and those of a schema library.
            raise WorkflowError(f"ComfyStream refuses it: {str(error).partition(chr(10))[0]}") from error
        self._prompt = prompt

    def resume(self) -> None:
        """Go on after a failure."""
        self._junction.forget()
        self.paused = False
        self._call(self._client.resume_prompts())

    def restore(self) -> None:
        """Put the workflow back that the client replaced."""
        self.run(self._prompt)

    def close(self) -> None:
        """End the run and the thread, and let go of the models."""
        if self._thread.is_alive():
            self._junction.nudge()
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def forget_history(self) -> None:
        """The client notes every run, and never trims its notes."""
        self._client.comfy_client.history.clear()

    def _import(self) -> tuple[type, dict[str, Any]]:
        importlib.import_module("comfy.cmd.main_pre")
        logging.setLoggerClass(logging.Logger)  # It has just set one that prints the stack with every error.
        client: type = importlib.import_module("comfystream.client").ComfyStreamClient
        arguments = importlib.import_module("comfy.cli_args").args
        arguments["blacklist_custom_nodes"] = [*(arguments["blacklist_custom_nodes"] or ()), *_OWN_PACKAGES]
        folders = importlib.import_module("comfy.cmd.folder_paths")
        context = importlib.import_module("comfy.execution_context").current_execution_context()
        folders.init_default_paths(context.folder_names_and_paths, arguments, replace_existing=True)
        self._execution = importlib.import_module("comfy.cmd.execution")
        self._embedded = importlib.import_module("comfy.client.embedded_comfy_client")
        self._mutable = importlib.import_module("comfy.component_model.make_mutable").make_mutable
        self._convert = importlib.import_module("comfystream.utils").convert_prompt
        self._nodes = importlib.import_module("comfy.nodes_context").get_nodes()
        blocker = importlib.import_module("comfy_execution.graph").ExecutionBlocker
        self._nodes.NODE_CLASS_MAPPINGS.update(make_nodes(self._junction, blocker))
        for name in _REPORTED_ELSEWHERE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        # The client takes a configuration of its own for one that replaces the engine's arguments: give it all of them.
        return client, dict(arguments)

    async def _make(self, base: Any, configuration: dict[str, Any]) -> Any:
        runner = self

        class Client(base):
            async def _fallback_to_passthrough(self) -> None:
                """Called on every failure of a run: here the runs stop, and the frame is told why."""
                cause = sys.exc_info()[1]
                self.pause_prompts()
                runner.paused = True
                runner._junction.fail(await runner._failure(self, cause))

        made = Client(**configuration)
        # With a configuration the engine copies it and lists all model folders anew for every frame, 0.8 ms at 512x512;
        # without one it goes on with what it was imported with, which is the same.
        made.comfy_client._configuration = None
        return made

    async def _validate(self, prompt: Prompt) -> Any:
        return await self._execution.validate_prompt("livepipe", self._mutable(self._convert(prompt)))

    async def _apply(self, prompt: Prompt) -> None:
        before = self._client.current_prompts
        try:
            await self._client.set_prompts([prompt])
        finally:  # It stays paused after an error.
            if self._client.current_prompts is not before or before:
                self._applied = self._client.current_prompts
                await self._client.resume_prompts()
        self.paused = False

    async def _failure(self, client: Any, cause: BaseException | None) -> Exception:
        """What failed, by node, as the engine's thread knows it."""
        messages = await self._loop.run_in_executor(client.comfy_client._executor, self._messages)
        try:
            check_run(self._prompt, messages)
        except Exception as error:  # noqa: BLE001 - NodeError, or torch.OutOfMemoryError
            return error
        return NodeError(f"the workflow failed: {type(cause).__name__}: {cause}")

    def _messages(self) -> list[tuple[str, dict[str, Any]]]:
        """What the executor of the calling thread said of its last run."""
        executor = getattr(self._embedded._prompt_executor, "executor", None)
        return list(executor.status_messages) if executor is not None else []

    async def _close(self) -> None:
        await self._client.cleanup()
        # Its cleanup leaves the engine alone unless it was entered as a context, which it never is.
        await self._client.comfy_client.__aexit__(None, None, None)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)
