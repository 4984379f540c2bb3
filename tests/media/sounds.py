"""Real tones, coded by FFmpeg alone or by our encoder, and what is to be measured of them."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ, AccessUnit
from pipeline.media.audio_decoder import AudioDecoder
from pipeline.media.pcm import SAMPLE_RATE, Pcm, ticks_of
from pipeline.media.ts_demux import TsDemuxer

DELAY_SAMPLES = {"aac": 1024, "opus": 312}
"""By how much FFmpeg's encoders delay the sound."""

ODD_BLOCK = 1234
"""Samples of a block that fits no codec's frame."""

Samples = NDArray[np.float32]


def sine(hertz: float, seconds: float, level: float = 0.5, rate: int = SAMPLE_RATE) -> Samples:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def bursts(at_seconds: Iterable[float], seconds: float, rate: int = SAMPLE_RATE, hertz: float = 1000) -> Samples:
    """Silence with 50 ms of a tone at each of the times."""
    samples = np.zeros(round(seconds * rate), np.float32)
    burst = sine(hertz, 0.05, rate=rate)
    for at in at_seconds:
        first = round(at * rate)
        samples[first : first + len(burst)] += burst
    return samples


def blocks(samples: Samples, start: int = 0, size: int = ODD_BLOCK) -> Iterator[Pcm]:
    """[channels, n] cut into PCM; the first sample at `start`, 90 kHz."""
    for at in range(0, samples.shape[1], size):
        yield Pcm(start + ticks_of(at), samples[:, at : at + size])


def coded_by_ffmpeg(codec: str, samples: Samples, rate: int = SAMPLE_RATE) -> list[AccessUnit]:
    """Access units of [channels, n], coded and muxed by libavformat; the first sample is heard at 0.

    The muxer moves all times so that none is below 0, the first packet's by the delay of the codec; that is undone."""
    target = io.BytesIO()
    with av.open(target, "w", format="mpegts") as output:
        stream = output.add_stream({"aac": "aac", "opus": "libopus"}[codec], rate=rate)
        layouts = {1: "mono", 2: "stereo", 6: "5.1"}
        stream.codec_context.layout = layouts[samples.shape[0]]
        stream.codec_context.format = "fltp" if codec == "aac" else "flt"
        stream.codec_context.bit_rate = 160_000
        size = stream.codec_context.frame_size or 1024
        for at in range(0, samples.shape[1] // size * size, size):
            block = np.ascontiguousarray(samples[:, at : at + size])
            if codec == "opus":
                block = np.ascontiguousarray(block.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(
                block, format="fltp" if codec == "aac" else "flt", layout=layouts[samples.shape[0]]
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    demuxer = TsDemuxer()
    units = [unit for unit in demuxer.feed(target.getvalue()) + demuxer.flush() if not unit.is_video]
    moved = units[0].pts + ticks_of(DELAY_SAMPLES[codec], rate)
    return [msgspec.structs.replace(unit, pts=unit.pts - moved) for unit in units]


def decoded(units: Iterable[AccessUnit], decoder: AudioDecoder) -> list[Pcm]:
    return [pcm for unit in units for pcm in decoder.decode(unit.data, unit.pts)]


def onsets(pcm: Iterable[Pcm], channel: int = 0, level: float = 0.1, silence: float = 0.03) -> list[float]:
    """Seconds, by each block's own time, at which the channel becomes loud after having been silent for a while."""
    found: list[float] = []
    loud_until = -1.0
    for block in pcm:
        loud = np.flatnonzero(np.abs(block.samples[channel]) > level)
        for index in loud:
            at = block.pts / CLOCK_HZ + index / SAMPLE_RATE
            if at - loud_until > silence:
                found.append(at)
            loud_until = at
    return found


def joined(pcm: list[Pcm]) -> Samples:
    return np.concatenate([block.samples for block in pcm], axis=1)


def level(samples: Samples) -> float:
    """Amplitude of a sine of the same energy, of [n]."""
    return float(np.sqrt(2 * np.mean(np.square(samples, dtype=np.float64))))


def pitch(samples: Samples) -> float:
    """Hertz of the strongest tone in [n]."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE / len(samples))
