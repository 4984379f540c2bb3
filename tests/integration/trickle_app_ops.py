"""A processor written for pytrickle, as its users write one."""

from typing import Any

from pytrickle.decorators import model_loader, param_updater, video_handler
from pytrickle.frames import VideoFrame


class Negative:
    def __init__(self) -> None:
        self.strength = 0.0

    @model_loader
    async def load(self, **kwargs: Any) -> None:
        self.strength = kwargs["strength"]

    @video_handler
    async def process(self, frame: VideoFrame) -> VideoFrame:
        return frame.replace_tensor(frame.tensor + self.strength * (1 - 2 * frame.tensor))

    @param_updater
    async def update(self, params: dict[str, Any]) -> None:
        self.strength = params["strength"]
