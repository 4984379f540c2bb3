"""The floor of the comfystream processor: ComfyStream's client in the loop that its documentation shows, with its own
nodes, one frame at a time, and nothing of ours."""

import asyncio
import importlib
import os
import sys
from typing import Any

import torch

from benchmarks.inference_peers.rounds import WORKFLOW, serve
from pipeline.processors.comfyui.host import as_main_program, import_torchvision


class _SideData:
    def __init__(self, image: torch.Tensor) -> None:
        self.input, self.skipped = image, True


class _Frame:
    def __init__(self, image: torch.Tensor) -> None:
        self.side_data = _SideData(image)


def main(workspace: str) -> None:
    os.environ.setdefault("OTEL_SDK_DISABLED", "true")
    with as_main_program(["--cpu", "--cwd", workspace]):
        import_torchvision()
        client_class = importlib.import_module("comfystream.client").ComfyStreamClient
        arguments = dict(importlib.import_module("comfy.cli_args").args)
        nodes = importlib.import_module("comfy.nodes_context").get_nodes()
        nodes.NODE_CLASS_MAPPINGS.update(importlib.import_module("tensor_utils").NODE_CLASS_MAPPINGS)
    loop = asyncio.new_event_loop()
    client = loop.run_until_complete(_made(client_class, arguments))

    async def one(image: torch.Tensor) -> torch.Tensor:
        client.put_video_input(_Frame(image))
        result: torch.Tensor = await client.get_video_output()
        return result

    def frame(image: torch.Tensor) -> torch.Tensor:
        made = loop.run_until_complete(one(image))
        client.comfy_client.history.clear()
        return made

    serve(frame, None)
    os._exit(0)  # Its runner waits for a frame for ever.


async def _made(client_class: Any, arguments: dict[str, Any]) -> Any:
    client = client_class(**arguments)
    await client.set_prompts([WORKFLOW])
    await client.resume_prompts()
    return client


if __name__ == "__main__":
    main(sys.argv[1])
