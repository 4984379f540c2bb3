"""Runs a function, a class or a module of the user's own, named in the topology as `module:name`."""

import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, get_type_hints

import msgspec
import numpy as np
import torch

from pipeline.media.pcm import Pcm
from pipeline.processors.coroutines import CoroutineThread
from pipeline.processors.errors import ProcessorError
from pipeline.processors.parameters import declared
from pipeline.processors.protocol import Answer, FrameIdentity, Heard, Result
from pipeline.status import Parameter

WARM_UP = FrameIdentity("warm-up", 0, 0, 0)
_PLAIN = (bool, int, float, str, type(None))
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class TorchCallable:
    """A Processor around `module:name`.

    A function is called as `function(image, **params)`. A class is made as `cls(**params)` and its instance called as
    `instance(image)`; an `nn.Module` is put on the device and into evaluation mode. New parameters go to the instance's
    own `update(**params)` if it has one; else a new instance is made. Either may be a coroutine function, and either
    gets the FrameIdentity if it has a parameter of the name `frame`.

    Sound goes to the instance's `audio(samples)`, float32 (channels, n) at 48 kHz on the device, which gives other
    samples, or None for silence; a text, and the sound goes on as it came; or a Heard.
    """

    def __init__(
        self,
        target: str,
        params: dict[str, Any],
        compile_mode: str | None = None,
        in_flight: int = 1,
        *,
        batched: bool = False,
    ) -> None:
        """`compile_mode`: have torch compile it, in this mode. `in_flight`: so many frames will be under way.
        `batched`: it takes several frames at a time, and one as a batch of one."""
        self._target = target
        self._params = dict(params)
        self._compile_mode = compile_mode
        self._instance: Any = None
        self._function: Callable[..., Answer | Awaitable[Answer]] | None = None
        self._in_flight = in_flight
        self._batched = batched
        self._coroutines = CoroutineThread("callable")
        self._is_class = self._wants_frame = False
        self._device = torch.device("cpu")

    def load(self, device: torch.device) -> None:
        """Import the target. Raises ProcessorError when there is none, or when it does not take these parameters."""
        self._device = device
        found = resolve(self._target)
        self._is_class = inspect.isclass(found)
        self._check(found, self._params)
        made = self._make(found, self._params)
        if self._in_flight > 1 and not _is_coroutine(made):
            raise ProcessorError(f"{self._target}: in_flight {self._in_flight} needs a coroutine function: async def")
        self._adopt(made)

    def warm_up(self, height: int, width: int) -> None:
        """Raises ProcessorError when torch cannot compile it."""
        try:
            self.process(torch.zeros((1, height, width, 3), device=self._device), WARM_UP)
        except Exception as error:  # Whatever the compiler raises.
            if self._compile_mode is None:
                raise
            first = str(error).strip().partition("\n")[0]
            raise ProcessorError(f"{self._target}: cannot be compiled: {type(error).__name__}: {first}") from error

    def process(self, image: torch.Tensor, frame: FrameIdentity) -> Answer:
        if self._batched:
            return self.process_together(image, [frame])[0]
        answer = self._call(image, frame)
        return self._coroutines.run(answer) if inspect.isawaitable(answer) else answer

    def process_together(self, images: torch.Tensor, frames: Sequence[FrameIdentity]) -> Sequence[Answer]:
        """See `protocol.Batching`. A parameter of the name `frame` gets the list of them."""
        answer = self._call(images, frames)
        if inspect.isawaitable(answer):
            answer = self._coroutines.run(answer)
        if isinstance(answer, torch.Tensor) and len(answer) == len(frames):
            return list(torch.split(answer, 1))
        if isinstance(answer, list | tuple) and not isinstance(answer, Result) and len(answer) == len(frames):
            return list(answer)
        given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ProcessorError(f"gave {given} for {len(frames)} pictures; needed: as many, in one tensor or in a list")

    def begin(self, image: torch.Tensor, frame: FrameIdentity) -> Future[Answer]:
        """See `protocol.Concurrent`."""
        answer = self._call(image, frame)
        assert inspect.isawaitable(answer)
        return self._coroutines.begin(answer)

    def hear(self, pcm: Pcm) -> Heard:
        """See `protocol.Listener`."""
        audio = getattr(self._instance, "audio", None)
        if not callable(audio):
            raise ProcessorError(f"{self._target}: takes no sound: needed is a class with a method audio(samples)")
        answer = audio(torch.from_numpy(np.array(pcm.samples)).to(self._device))
        if isinstance(answer, Heard):
            return answer
        if answer is None or isinstance(answer, str):
            return Heard() if answer is None else Heard((pcm,), (answer,))
        return Heard((self._sound(answer, pcm.pts),))

    def end_of_sound(self) -> Heard:
        return Heard()

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        found = resolve(self._target)
        merged = {**self._params, **params}
        if not params:
            return self._defaults(found) | merged
        self._check(found, merged)
        # Made before anything changes: a class that refuses its new parameters leaves the old instance at work.
        if callable(own := getattr(self._instance, "update", None)):
            own(**params)
        elif self._is_class:
            self._adopt(self._make(found, merged))
        self._params = merged
        return self._defaults(found) | merged

    def parameters(self) -> list[Parameter]:
        """See `protocol.Described`: the keyword arguments."""
        found = resolve(self._target)
        hints = _types(found)
        in_force = self._defaults(found) | self._params
        return [declared(name, value, hints.get(name)) for name, value in in_force.items() if name != "frame"]

    @property
    def is_made_anew(self) -> bool:
        """Whether each change of parameters makes another instance."""
        return self._is_class and not callable(getattr(self._instance, "update", None))

    def close(self) -> None:
        self._instance = self._function = None
        self._coroutines.close()

    def _call(self, image: torch.Tensor, frame: FrameIdentity | Sequence[FrameIdentity]) -> Answer | Awaitable[Answer]:
        assert self._function is not None, "load comes first"
        arguments = {} if self._is_class else self._params
        if self._wants_frame:
            return self._function(image, frame=frame, **arguments)
        return self._function(image, **arguments)

    def _sound(self, samples: Any, pts: int) -> Pcm:
        if not isinstance(samples, torch.Tensor) or samples.ndim != 2 or samples.shape[0] not in (1, 2):
            shape = tuple(samples.shape) if isinstance(samples, torch.Tensor) else type(samples).__name__
            raise ProcessorError(f"audio gave {shape}; needed: float (1 or 2 channels, samples), a text, or None")
        return Pcm(pts, samples.to("cpu", torch.float32).numpy())

    def _adopt(self, made: Any) -> None:
        self._instance = made if self._is_class else None
        self._wants_frame = "frame" in _parameters(made.__call__ if self._is_class else made)
        self._function = made if self._compile_mode is None else torch.compile(made, mode=self._compile_mode)

    def _make(self, found: Any, params: dict[str, Any]) -> Any:
        """What is called with each picture."""
        if not self._is_class:
            return found
        try:
            instance = found(**params)
        except Exception as error:  # Whatever the user's own code raises.
            raise ProcessorError(f"{self._target}: cannot be made: {type(error).__name__}: {error}") from error
        if isinstance(instance, torch.nn.Module):
            instance.to(self._device).eval()
        return instance

    def _defaults(self, found: Any) -> dict[str, Any]:
        """What is in force where nothing was given: the target's own defaults, of those kinds that YAML has."""
        try:
            parameters = list(inspect.signature(found).parameters.values())
        except (TypeError, ValueError):
            return {}
        named = (each for each in parameters[0 if self._is_class else 1 :] if each.kind in _NAMED)
        return {each.name: each.default for each in named if isinstance(each.default, _PLAIN)}

    def _check(self, found: Any, params: dict[str, Any]) -> None:
        """Whether the target takes `params`, of the types that it names, and at least an image."""
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):
            return  # Written in C; only calling it will tell.
        image = () if self._is_class else (None,)
        given = {"frame": None} if not self._is_class and "frame" in signature.parameters else {}
        try:
            signature.bind(*image, **given, **params)
        except TypeError as error:
            names = ", ".join(name for name in list(signature.parameters)[len(image) :] if name not in given) or "none"
            raise ProcessorError(f"{self._target}: {error}; parameters that it takes: {names}") from error
        for name, kind in _types(found).items():
            if name in params:
                self._check_type(name, params[name], kind)

    def _check_type(self, name: str, value: Any, kind: Any) -> None:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise ProcessorError(f"{self._target}: {name}: {error}") from error
        except TypeError:
            pass  # A type of the user's own, of which YAML knows nothing.


def _is_coroutine(made: Any) -> bool:
    return inspect.iscoroutinefunction(made) or inspect.iscoroutinefunction(type(made).__call__)


def _parameters(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []  # Written in C.


def _types(found: Any) -> dict[str, Any]:
    """The types that a function, or a class to be made, names for its parameters."""
    try:
        return get_type_hints(found.__init__ if inspect.isclass(found) else found, include_extras=True)
    except Exception:  # noqa: BLE001 - names that only exist for a type checker
        return {}


def resolve(target: str) -> Any:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # Importing runs the user's own code.
        raise ProcessorError(f"{target}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    found: Any = module
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        names = ", ".join(name for name in vars(module) if not name.startswith("_"))
        raise ProcessorError(f"{target}: {module_name} has no {attribute}; it has {names}") from error
    if not callable(found):
        raise ProcessorError(f"{target}: this is a {type(found).__name__}, not something that can be called")
    return found
