"""What the tests of both engines share: small workflows, and a node that counts and does as it is told."""

from typing import ClassVar

import torch

from pipeline.processors.protocol import FrameIdentity

CPU = torch.device("cpu")
SIZE = 32


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


INVERT = {"1": node("LoadImage"), "2": node("ImageInvert", image=["1", 0]), "3": node("PreviewImage", images=["2", 0])}
BLEND = {
    "1": node("LoadImage"),
    "2": node("ImageInvert", image=["1", 0]),
    "3": node("ImageBlend", image1=["1", 0], image2=["2", 0], blend_factor=0.25, blend_mode="normal"),
    "4": node("SaveImage", images=["3", 0], filename_prefix="x"),
}


class Probe:
    """A node of the tests': passes a picture on, counts, and does as it is told."""

    RETURN_TYPES = ("IMAGE", "STRING")
    FUNCTION = "run"
    CATEGORY = "tests"
    runs: ClassVar[list[str]] = []
    failure: ClassVar[Exception | None] = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"name": ("STRING", {})}, "optional": {"image": ("IMAGE",)}}

    def run(self, name, image=None):
        Probe.runs.append(name)
        if Probe.failure is not None:
            raise Probe.failure
        picture = image if image is not None else torch.full((1, SIZE, SIZE, 3), 0.5)
        return picture, f"{name}: {float(picture.mean()):.2f}"


def picture(seed, size=SIZE):
    return torch.rand((1, size, size, 3), generator=torch.Generator().manual_seed(seed))


def run(processor, image, seq=0):
    with torch.inference_mode():
        return processor.process(image, FrameIdentity("main", 0, seq, 3000 * seq))


class Gain:
    """A node of the tests': sound times `gain`, and how loud it was."""

    RETURN_TYPES = ("AUDIO", "STRING")
    FUNCTION = "run"
    CATEGORY = "tests"
    runs: ClassVar[list[int]] = []

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"audio": ("AUDIO",), "gain": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 8.0})}}

    def run(self, audio, gain):
        waveform = audio["waveform"]
        Gain.runs.append(waveform.shape[-1])
        return {**audio, "waveform": waveform * gain}, f"peak {float(waveform.abs().max()):.2f}"
