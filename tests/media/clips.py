"""Clips of a second in the formats of the world, made by FFmpeg: numbered pictures at 30 a second, and a tone."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from pipeline.media.pattern import Picture

FPS = 30
WIDTH, HEIGHT = 192, 108
_RATE = 48_000
_PIXELS = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p", "gif": "rgb8"}
_OPTIONS = {
    "libx265": {"x265-params": "log-level=error"},
    "libsvtav1": {"preset": "10"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def write_clip(
    path: Path,
    codec: str = "libx264",
    sounds: tuple[str, ...] = ("aac",),
    *,
    container: str | None = None,
    bframes: int = 0,
    degrees: int = 0,
    times: list[int] | None = None,
    fps: int = FPS,
    options: dict[str, str] | None = None,
) -> None:
    """`times` are the pictures' in 1/1000 s, else they are even; `degrees` is how the file says to turn them; the last
    of several `sounds` is marked as the default."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        video: Any = output.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, _PIXELS.get(codec, "yuv420p")
        context = video.codec_context
        context.gop_size, context.max_b_frames = fps // 2, bframes
        context.options = {"bf": str(bframes)} if codec == "libx264" else _OPTIONS.get(codec, {})
        if times is not None:
            context.time_base = Fraction(1, 1000)
        if codec in ("mpeg2video", "mpeg4", "mjpeg"):
            context.bit_rate = 3_000_000
        if degrees:
            video.set_display_rotation(degrees)
        streams = [_add_sound(output, name) for name in sounds]
        if len(streams) > 1:
            for stream in streams:
                stream.disposition = 0
            streams[-1].disposition = av.stream.Disposition.default
        picture = Picture(WIDTH, HEIGHT)
        for index in range(len(times) if times is not None else fps):
            frame = av.VideoFrame.from_ndarray(picture.frame(index)).reformat(format=video.pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for number, stream in enumerate(streams):
            _write_tone(output, stream, 440 * (number + 1))


def _add_sound(output: Any, codec: str) -> Any:
    stream = output.add_stream(codec, rate=_RATE)
    stream.codec_context.layout = "stereo"
    return stream


def _write_tone(output: Any, stream: Any, hertz: int) -> None:
    context = stream.codec_context
    wave = (np.sin(np.arange(_RATE) / _RATE * 2 * np.pi * hertz) * 8000).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = _RATE, 0, Fraction(1, _RATE)
    resampler = AudioResampler(context.format.name, "stereo", _RATE, context.frame_size or 1024)
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(piece))
    output.mux(stream.encode(None))
