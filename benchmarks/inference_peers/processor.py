"""Ours: a processor of the kind `comfyui` or `comfystream`, called as inference calls it."""

import sys
from typing import Any

import torch

from benchmarks.inference_peers.rounds import WORKFLOW, serve
from pipeline.processors.kinds import make_processor
from pipeline.processors.protocol import FrameIdentity, Result
from pipeline.topology_sections import ComfyStream, ComfyUI, Processor


def main(kind: str, workspace: str) -> None:
    section: dict[str, Any] = (
        {"comfyui": ComfyUI(workspace=workspace, workflow="")}
        if kind == "comfyui"
        else {"comfystream": ComfyStream(workspace=workspace, workflow="")}
    )
    processor = make_processor(Processor(**section, params={"prompt": WORKFLOW}))
    processor.load(torch.device("cpu"))
    identity = FrameIdentity("bench", 0, 0, 0)

    def frame(image: torch.Tensor) -> torch.Tensor:
        result = processor.process(image, identity)
        assert isinstance(result, Result)
        assert result.image is not None
        return result.image

    serve(frame, processor.update)
    processor.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
