"""Between PCM and the AudioFrame of trickle-app (pytrickle)."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipeline.media.pcm import CLOCK_HZ, LAYOUTS, SAMPLE_RATE, Pcm
from pipeline.processors.errors import ProcessorError

_PLANAR = "fltp"
_CHANNELS = {layout: channels for channels, layout in LAYOUTS.items()}


def audio_frame(kind: type[Any], pcm: Pcm) -> Any:
    """`pcm` as an AudioFrame of the class that the user's code knows: float32 (channels, n) at 48 kHz."""
    samples = np.array(pcm.samples)
    return kind(
        SimpleNamespace(
            pts=pcm.pts,
            time_base=Fraction(1, CLOCK_HZ),
            samples=samples.shape[1],
            sample_rate=SAMPLE_RATE,
            format=SimpleNamespace(name=_PLANAR),
            layout=SimpleNamespace(name=LAYOUTS[pcm.channels]),
            to_ndarray=lambda: samples,
        )
    )


def pcm_of(frame: Any) -> Pcm:
    """What a handler gave. Raises ProcessorError for what is no sound, of another rate, or of too many channels."""
    samples = getattr(frame, "samples", None)
    if not isinstance(samples, np.ndarray) or samples.ndim not in (1, 2):
        raise ProcessorError(f"gave a {type(frame).__name__} as sound; needed: AudioFrames, or None")
    channels = _CHANNELS.get(frame.layout)
    if frame.rate != SAMPLE_RATE or channels is None:
        raise ProcessorError(f"gave sound of {frame.rate} Hz, {frame.layout}; needed: {SAMPLE_RATE} Hz, mono or stereo")
    if samples.dtype.kind == "i":
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min))
    planes = samples.reshape(-1, channels).T if _is_packed(samples, channels) else samples.reshape(channels, -1)
    pts = round(frame.timestamp * frame.time_base * CLOCK_HZ)
    return Pcm(pts, np.ascontiguousarray(planes, np.float32))


def _is_packed(samples: Any, channels: int) -> bool:
    """By shape: users change the samples and leave the name of the format as it is."""
    return channels > 1 and (samples.ndim == 1 or samples.shape[0] == 1)
