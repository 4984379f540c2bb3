"""Runs a processor that was written for trickle-app (published as pytrickle), unchanged, named as `module:name`.

It may be a function of a VideoFrame, a FrameProcessor, or an object with decorated handlers.
"""

import inspect
from collections.abc import Callable
from concurrent.futures import Future
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from pipeline.media.pcm import Pcm
from pipeline.processors import trickle_frames
from pipeline.processors.coroutines import CoroutineThread
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import Answer, FrameIdentity, Heard, Result
from pipeline.processors.torch_callable import resolve
from pipeline.processors.trickle_sound import audio_frame, pcm_of

TIME_BASE = Fraction(1, 90_000)

_METHODS = {
    "video": "process_video_async",
    "audio": "process_audio_async",
    "model_loader": "load_model",
    "param_updater": "update_params",
    "stream_start": "on_stream_start",
    "stream_stop": "on_stream_stop",
}
"""The method of a FrameProcessor that does what a decorated handler of this kind does."""

Handler = Callable[..., Any]


class TrickleAppProcessor:
    """See `protocol.Processor`. The user's coroutines run in an event loop of their own, which lives as long as the
    processor: background tasks that they start there go on between frames. Sound goes to the audio handler, if it has
    one; else it goes on as it came."""

    def __init__(self, target: str, params: dict[str, Any]) -> None:
        self._target = target
        self._params = dict(params)
        self._device = torch.device("cpu")
        self._handlers: dict[str, Handler] = {}
        self._frame_class: type[Any] = trickle_frames.VideoFrame
        self._audio_class: type[Any] = trickle_frames.AudioFrame
        self._coroutines = CoroutineThread("trickle-app")

    def load(self, device: torch.device) -> None:
        self._device = device
        trickle_frames.install()
        found = resolve(self._target)
        self._frame_class = trickle_frames.frame_class("VideoFrame")
        self._audio_class = trickle_frames.frame_class("AudioFrame")
        self._handlers = _handlers(self._target, found)
        try:
            self._call("model_loader", **self._params)
            if self._params:
                self._call("param_updater", self._params)
        except Exception as error:  # Whatever the user's own code raises.
            raise ProcessorError(f"{self._target}: cannot be loaded: {type(error).__name__}: {error}") from error

    def begin_stream(self) -> None:
        """See `protocol.StreamAware`."""
        self._call("stream_start", self._params)

    def end_stream(self) -> None:
        self._call("stream_stop")

    def warm_up(self, height: int, width: int) -> None:
        self.process(torch.zeros((1, height, width, 3), device=self._device), FrameIdentity("warm-up", 0, 0, 0))

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Answer:
        return self.begin(image, frame).result()

    def begin(self, image: torch.Tensor, frame: FrameIdentity) -> Future[Answer]:
        """See `protocol.Concurrent`."""
        return self._coroutines.begin(self._process(self._frame_class(image, frame.pts, TIME_BASE)))

    def hear(self, pcm: Pcm) -> Heard:
        """See `protocol.Listener`."""
        if "audio" not in self._handlers:
            return Heard((pcm,))
        answer = self._call("audio", audio_frame(self._audio_class, pcm))
        frames = answer if isinstance(answer, list | tuple) else getattr(answer, "frames", [answer])
        return Heard(tuple(pcm_of(frame) for frame in frames if frame is not None))

    def end_of_sound(self) -> Heard:
        return Heard()

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        if "param_updater" not in self._handlers:
            raise ProcessorError(f"{self._target}: takes no parameters: it has no update_params or @param_updater")
        self._call("param_updater", params)
        self._params = {**self._params, **params}
        return dict(self._params)

    def close(self) -> None:
        self._coroutines.close()

    async def _process(self, frame: Any) -> Answer:
        """A handler that is no coroutine holds the loop up, as it would have held up the caller."""
        answer = self._handlers["video"](frame)
        if inspect.isawaitable(answer):
            answer = await answer
        return Result(None if answer is None else _picture(answer, self._device))

    def _call(self, kind: str, *args: Any, **kwargs: Any) -> Any:
        """What the handler of this kind gives; None where there is none."""
        handler = self._handlers.get(kind)
        if handler is None:
            return None
        answer = handler(*args, **kwargs)
        if inspect.isawaitable(answer):
            answer = self._coroutines.run(answer)
        return answer


def _handlers(target: str, found: Any) -> dict[str, Handler]:
    """By kind: what `found` does. Raises ProcessorError when it does nothing with pictures."""
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:  # Whatever the user's own code raises.
            raise ProcessorError(f"{target}: cannot be made: {type(error).__name__}: {error}") from error
    handlers = {kind: getattr(found, method) for kind, method in _METHODS.items() if hasattr(found, method)}
    for name in dir(found):
        handler = getattr(found, name, None)
        kind = _kind_of(handler)
        if kind is not None and not name.startswith("__"):
            handlers[kind] = handler
    if "video" not in handlers and callable(found):
        handlers["video"] = found
    if "video" not in handlers:
        raise ProcessorError(
            f"{target}: nothing here processes pictures; needed: a function of a VideoFrame, a FrameProcessor with "
            "process_video_async, or an object with a method decorated as @video_handler"
        )
    return handlers


def _kind_of(handler: Any) -> str | None:
    function = inspect.unwrap(getattr(handler, "__func__", handler)) if callable(handler) else None
    for each in (handler, function):
        kind = getattr(each, "_trickle_handler_type", None)
        if isinstance(kind, str):
            return kind
    return None


def _picture(answer: Any, device: torch.device) -> torch.Tensor:
    """A VideoOutput, a VideoFrame, a tensor or an array, with or without a batch of one, of 1, 3 or 4 channels, uint8
    or float up to 1 or up to 255, as float (1, height, width, 3) in [0, 1]: what pytrickle's encoder takes."""
    tensor = getattr(answer, "tensor", answer)
    if isinstance(tensor, np.ndarray):
        tensor = torch.from_numpy(tensor)
    if not isinstance(tensor, torch.Tensor):
        raise ProcessorError(f"gave a {type(answer).__name__}; needed: a VideoFrame, a VideoOutput, a tensor or None")
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(0)
    if tensor.ndim != 4 or tensor.shape[0] != 1 or tensor.shape[3] not in (1, 3, 4):
        raise ProcessorError(f"gave a tensor of {tuple(tensor.shape)}; needed: (1, height, width, 1, 3 or 4)")
    if not tensor.is_floating_point() or bool(tensor.max() > 1):
        tensor = tensor.float() / 255
    tensor = tensor.expand(-1, -1, -1, 3) if tensor.shape[3] == 1 else tensor[..., :3]
    return tensor.to(device)
