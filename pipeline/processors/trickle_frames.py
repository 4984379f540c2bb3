"""The frame classes, base class and decorators of trickle-app (pytrickle), of the same shape, for processors written
against it where the package is not installed.

`install` makes them importable under the package's own names. Only what a processor needs is here.
"""

import asyncio
import copy
import functools
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable
from fractions import Fraction
from types import ModuleType
from typing import Any, NoReturn, Self

import torch

from pipeline.processors.trickle_channels import TricklePublisher, TrickleSubscriber

PACKAGES = ("trickle_app", "pytrickle")

INSTALL_HINT = "pip install git+https://github.com/eliteprox/py-trickle.git"


class SideData:
    """What a processor may attach to a frame."""

    skipped: bool = True
    input: Any = None


class VideoFrame:
    """A picture, float32 (1, height, width, 3) in [0, 1], and its time: `timestamp` in units of `time_base` seconds."""

    def __init__(
        self,
        tensor: torch.Tensor,
        timestamp: int,
        time_base: Fraction,
        log_timestamps: dict[str, float] | None = None,
    ) -> None:
        self.tensor = tensor
        self.timestamp = timestamp
        self.time_base = time_base
        self.log_timestamps = log_timestamps or {}
        self.side_data = SideData()

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor, timestamp: int = 0) -> Self:
        return cls(tensor, timestamp, Fraction(1, 1))

    @classmethod
    def from_av_video(cls, tensor: torch.Tensor, timestamp: int, time_base: Fraction) -> Self:
        return cls(tensor, timestamp, time_base)

    def replace_tensor(self, new_tensor: torch.Tensor) -> "VideoFrame":
        """The same frame with another picture."""
        frame = VideoFrame(new_tensor, self.timestamp, self.time_base, self.log_timestamps.copy())
        frame.side_data = self.side_data
        return frame


class AudioFrame:
    """A piece of sound and its time: `samples` as a decoder gives them, (channels, n) of a planar `format` such as
    fltp, (1, channels * n) of a packed one such as s16."""

    def __init__(self, frame: Any) -> None:
        """`frame` is like a decoder's. Raises ValueError for one without a time."""
        if frame.pts is None:
            raise ValueError("Audio frame has no timestamp")
        self.samples = frame.to_ndarray()
        self.nb_samples = frame.samples
        self.format = frame.format.name
        self.rate = frame.sample_rate
        self.layout = frame.layout.name
        self.timestamp = frame.pts
        self.time_base = frame.time_base
        self.log_timestamps: dict[str, float] = {}
        self.side_data = SideData()

    def replace_samples(self, samples: Any) -> Self:
        """The same piece with other samples, (channels, n) or (n,)."""
        other = copy.copy(self)
        other.samples = samples
        other.nb_samples = samples.shape[-1] if samples.ndim > 1 else len(samples)
        other.log_timestamps = self.log_timestamps.copy()
        return other


class AudioOutput:
    """Processed sound."""

    def __init__(self, frames: list[AudioFrame], request_id: str = "") -> None:
        self.frames = frames
        self.request_id = request_id


class VideoOutput:
    """A processed frame."""

    def __init__(self, frame: VideoFrame, request_id: str = "") -> None:
        self.frame = frame
        self.request_id = request_id

    @property
    def tensor(self) -> torch.Tensor:
        return self.frame.tensor

    @property
    def timestamp(self) -> int:
        return self.frame.timestamp

    @property
    def time_base(self) -> Fraction:
        return self.frame.time_base

    def replace_tensor(self, tensor: torch.Tensor) -> "VideoOutput":
        return VideoOutput(self.frame.replace_tensor(tensor), self.request_id)


class FrameProcessor:
    """The base class of processors that are classes. Each method may be overridden."""

    def __init__(self, error_callback: Callable[..., Any] | None = None, **init_kwargs: Any) -> None:
        self.error_callback = error_callback
        self.state: Any = None

    async def load_model(self, **kwargs: Any) -> None:
        """Called once, before the first frame, with the parameters."""

    async def process_video_async(self, frame: VideoFrame) -> VideoFrame | None:
        return frame

    async def process_audio_async(self, frame: Any) -> list[Any] | None:
        return [frame]

    async def update_params(self, params: dict[str, Any]) -> None:
        """Called when parameters change."""

    async def on_stream_start(self, params: dict[str, Any]) -> None:
        """Called before the first frame."""

    async def on_stream_stop(self) -> None:
        """Called after the last frame."""


Handler = Callable[..., Any]


def _decorator(kind: str) -> Callable[[Handler], Callable[..., Awaitable[Any]]]:
    def decorate(function: Handler) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(function)
        async def handler(*args: Any, **kwargs: Any) -> Any:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            return await asyncio.to_thread(function, *args, **kwargs)

        handler._trickle_handler_type = kind  # type: ignore[attr-defined]
        return handler

    return decorate


video_handler = _decorator("video")
audio_handler = _decorator("audio")
model_loader = _decorator("model_loader")
param_updater = _decorator("param_updater")
on_stream_start = _decorator("stream_start")
on_stream_stop = _decorator("stream_stop")

_FRAMES: dict[str, object] = {
    "VideoFrame": VideoFrame,
    "VideoOutput": VideoOutput,
    "AudioFrame": AudioFrame,
    "AudioOutput": AudioOutput,
    "SideData": SideData,
}
_PROCESSOR: dict[str, object] = {"FrameProcessor": FrameProcessor}
_PUBLISHER: dict[str, object] = {"TricklePublisher": TricklePublisher}
_SUBSCRIBER: dict[str, object] = {"TrickleSubscriber": TrickleSubscriber}
_DECORATORS: dict[str, object] = {
    "video_handler": video_handler,
    "audio_handler": audio_handler,
    "model_loader": model_loader,
    "param_updater": param_updater,
    "on_stream_start": on_stream_start,
    "on_stream_stop": on_stream_stop,
}


def install() -> None:
    """Let `import trickle_app` and `import pytrickle` give these classes, where the package is not there."""
    for package in PACKAGES:
        if package in sys.modules or importlib.util.find_spec(package) is not None:
            continue
        parts = {
            "": _FRAMES | _PROCESSOR | _PUBLISHER | _SUBSCRIBER,
            "frames": _FRAMES,
            "frame_processor": _PROCESSOR,
            "decorators": _DECORATORS,
            "publisher": _PUBLISHER,
            "subscriber": _SUBSCRIBER,
        }
        for part, names in parts.items():
            module = ModuleType(f"{package}.{part}".rstrip("."))
            vars(module).update(names)
            module.__getattr__ = functools.partial(_missing, module.__name__)  # type: ignore[method-assign]
            module.__path__ = []
            sys.modules[module.__name__] = module
            if part:
                setattr(sys.modules[package], part, module)


def _missing(module: str, name: str) -> NoReturn:
    """What Python asks for a name that a module has not (PEP 562)."""
    if name.startswith("_"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise ImportError(
        f"{module}.{name} is not among the names that livepipe stands in for; install the package: {INSTALL_HINT}"
    )


def frame_class(name: str) -> type[Any]:
    """The VideoFrame or AudioFrame that the user's code knows: the package's own, or ours."""
    for package in ("pytrickle", "trickle_app"):
        if package in sys.modules:
            return getattr(sys.modules[package], name)  # type: ignore[no-any-return]
    return _FRAMES[name]  # type: ignore[return-value]
