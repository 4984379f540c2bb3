"""Between PCM and ComfyUI's AUDIO: {"waveform": float32 (1, channels, n), "sample_rate": Hz}."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.media.pcm import SAMPLE_RATE, Pcm, samples_of, ticks_of
from pipeline.processors.errors import ProcessorError

TOLERANCE_SAMPLES = SAMPLE_RATE // 100
"""A piece that begins so much later or earlier than the one before ends is a gap, or a jump."""


class SoundBuffer:
    """Gathers pieces to the length that a workflow wants, mixed to mono as ComfyStream's LoadAudioTensor gives them."""

    def __init__(self, milliseconds: float) -> None:
        self._pts = 0
        self._held: NDArray[np.float32] = np.empty(0, np.float32)
        self.set_length(milliseconds)

    def set_length(self, milliseconds: float) -> None:
        """What is held already counts."""
        self._wanted = max(1, round(SAMPLE_RATE * milliseconds / 1000))

    def add(self, pcm: Pcm) -> Iterator[Pcm]:
        """What the piece completes; before a gap what there is."""
        end = self._pts + ticks_of(len(self._held))
        if len(self._held) and abs(samples_of(pcm.pts - end)) > TOLERANCE_SAMPLES:
            yield from self.rest()
        if not len(self._held):
            self._pts = pcm.pts
        self._held = np.concatenate((self._held, pcm.samples.mean(axis=0, dtype=np.float32)))
        while len(self._held) >= self._wanted:
            yield self._cut(self._wanted)

    def rest(self) -> Iterator[Pcm]:
        """What is left."""
        if len(self._held):
            yield self._cut(len(self._held))

    def _cut(self, samples: int) -> Pcm:
        piece = Pcm(self._pts, self._held[None, :samples])
        self._pts += ticks_of(samples)
        self._held = self._held[samples:]
        return piece


def audio_of(pcm: Pcm, device: torch.device) -> dict[str, Any]:
    """AUDIO on the device."""
    return {"waveform": torch.from_numpy(np.array(pcm.samples))[None].to(device), "sample_rate": SAMPLE_RATE}


def pcm_of(audio: Any, pts: int) -> Pcm:
    """What a workflow gave, as sound that begins at `pts` (90 kHz)."""
    waveform = audio.get("waveform") if isinstance(audio, dict) else None
    if not isinstance(waveform, torch.Tensor) or waveform.ndim != 3 or waveform.shape[1] not in (1, 2):
        shape = tuple(waveform.shape) if isinstance(waveform, torch.Tensor) else type(audio).__name__
        raise ProcessorError(f"the workflow gave {shape} as sound; needed: AUDIO with a waveform (1, 1 or 2, samples)")
    if audio.get("sample_rate") != SAMPLE_RATE:
        raise ProcessorError(f"the workflow gave sound of {audio.get('sample_rate')} Hz; needed: {SAMPLE_RATE} Hz")
    return Pcm(pts, np.ascontiguousarray(waveform[0].to("cpu", torch.float32).numpy()))
