"""A processor written for pytrickle, as its users write one."""

from typing import Any

from pytrickle.decorators import audio_handler, model_loader, param_updater, video_handler
from pytrickle.frames import AudioFrame, VideoFrame


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


class QuieterApp:
    @video_handler
    async def process(self, frame: VideoFrame) -> VideoFrame:
        return frame.replace_tensor(1 - frame.tensor)

    @audio_handler
    async def hear(self, frame: AudioFrame) -> list[AudioFrame]:
        return [frame.replace_samples(frame.samples * 0.75)]
