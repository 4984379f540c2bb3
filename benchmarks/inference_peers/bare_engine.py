"""The floor of the comfyui processor: a checkout's PromptExecutor in a loop, with the two nodes that it needs at the
ends, and nothing of ours between."""

import sys

import torch

from benchmarks.inference_peers.rounds import WORKFLOW, serve
from pipeline.processors.comfyui.engine import ComfyEngine
from pipeline.processors.comfyui.nodes import Junction, make_nodes
from pipeline.processors.comfyui.workflow import convert


def main(workspace: str) -> None:
    engine = ComfyEngine(workspace, torch.device("cpu"))
    junction = Junction()
    engine.classes.update(make_nodes(junction))
    workflow = convert(WORKFLOW)

    def frame(image: torch.Tensor) -> torch.Tensor:
        junction.offer(image)
        engine.execute({key: {**node} for key, node in workflow.prompt.items()}, workflow.outputs)
        assert junction.result is not None
        return junction.result

    serve(frame, None)


if __name__ == "__main__":
    main(sys.argv[1])
