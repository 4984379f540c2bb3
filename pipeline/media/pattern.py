"""A source that can be checked: a moving picture with its number burnt in, and a beep at each whole second.

Written by libavformat's muxer, not by ours, so that it also tests ours.
"""

from fractions import Fraction
from os import PathLike
from typing import Any, Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.blockcode import IndexReading, draw_index, read_index
from pipeline.media.tone import SAMPLE_RATE, Beep, find_beeps, tone

__all__ = ["Beep", "IndexReading", "Picture", "draw_index", "find_beeps", "read_index", "tone", "write_pattern"]

_AUDIO_ENCODERS = {"aac": ("aac", "fltp", 1024), "opus": ("libopus", "flt", 960)}
_AUDIO_BIT_RATE = 96_000
_TIME_BASE = Fraction(1, CLOCK_HZ)
_AVCOL_SPC_BT709 = 1


class Picture:
    """A cheap moving picture with natural detail: scrolling texture over a gradient, and a square in motion."""

    def __init__(self, width: int, height: int, seed: int = 1) -> None:
        self.width = width
        self.height = height
        noise = np.random.default_rng(seed).normal(0, 30, (height // 4 + 2, width // 4 + 2, 3))
        texture = np.repeat(np.repeat(noise, 4, 0), 4, 1)[:height, :width]
        for _ in range(2):
            texture = (texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1) + np.roll(texture, 2, 1)) / 4
        ys, xs = np.mgrid[0:height, 0:width]
        gradient = np.stack([xs * 160 // width, ys * 160 // height, (xs + ys) * 160 // (width + height)], -1)
        base = np.clip(gradient + 48 + texture, 0, 255).astype(np.uint8)
        self._twice = np.concatenate([base, base], 1)

    def frame(self, index: int, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Picture `index`, uint8 [height, width, 3], with its number burnt in; into `out` if given."""
        shift = index * 3 % self.width
        rgb = np.empty((self.height, self.width, 3), np.uint8) if out is None else out
        np.copyto(rgb, self._twice[:, shift : shift + self.width])
        radius = self.height // 10
        x = int(self.width / 2 + self.width / 3 * np.sin(index / 17))
        y = int(self.height / 3 + self.height / 5 * np.cos(index / 23))
        rgb[max(0, y - radius) : y + radius, max(0, x - radius) : x + radius] = (index * 5 % 255, 200, 40)
        draw_index(rgb, index)
        return rgb


def write_pattern(
    dst: str | PathLike[str] | Any,
    width: int = 640,
    height: int = 360,
    fps: int | Fraction = 30,
    seconds: float = 4,
    audio: Literal["aac", "opus"] | None = "aac",
    gop_seconds: float = 1.0,
    start_index: int = 0,
    ts_offset: float = 0.0,
    bframes: int = 0,
    bitrate: int | None = None,
    preset: str = "superfast",
    codec: str = "libx264",
    container: str = "mpegts",
) -> int:
    """Write the pattern to a path or a binary file object, and return the number of pictures.

    Picture i, from `start_index` on, is at i / fps seconds of the source, the beep of second k at k seconds; the first
    picture is written at `ts_offset` seconds. `bitrate` in bit/s, else CRF 23.
    """
    target = str(dst) if isinstance(dst, PathLike) else dst
    rate = Fraction(fps)
    count = int(seconds * rate)
    with av.open(target, "w", format=container) as output:
        video = _add_video(output, codec, width, height, rate, gop_seconds, bframes, bitrate, preset)
        sound = _Sound(output, audio, int(start_index * SAMPLE_RATE / rate), ts_offset) if audio else None
        picture = Picture(width, height)
        reformatter = VideoReformatter()
        rgb = np.empty((height, width, 3), np.uint8)
        for i in range(count):
            picture.frame(start_index + i, rgb)
            frame = reformatter.reformat(
                av.VideoFrame.from_numpy_buffer(rgb, "rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts = round(ts_offset * CLOCK_HZ) + round(i * CLOCK_HZ / rate)
            frame.time_base = _TIME_BASE
            output.mux(video.encode(frame))
            if sound:
                sound.write_until(int((i + 1) * SAMPLE_RATE / rate))
        output.mux(video.encode(None))
        if sound:
            sound.close()
    return count


def _add_video(
    output: av.container.OutputContainer,
    codec: str,
    width: int,
    height: int,
    rate: Fraction,
    gop_seconds: float,
    bframes: int,
    bitrate: int | None,
    preset: str,
) -> VideoStream:
    options = {}
    if codec == "libx264":
        options = {"preset": preset, "sc_threshold": "0"}
    elif codec == "libx265":
        settings = f"scenecut=0:bframes={bframes}:log-level=error:open-gop=0"
        options = {"preset": preset, "x265-params": settings}
    video = output.add_stream(codec, rate=rate, options=options)
    assert isinstance(video, VideoStream)
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    context = video.codec_context
    context.time_base = _TIME_BASE
    context.gop_size = max(1, round(gop_seconds * rate))
    context.max_b_frames = bframes
    context.colorspace, context.color_range = _AVCOL_SPC_BT709, ColorRange.MPEG
    if bitrate:
        context.bit_rate = bitrate
    return video


class _Sound:
    """The audio stream of a pattern, written in step with the pictures."""

    def __init__(self, output: av.container.OutputContainer, codec: str, first: int, ts_offset: float) -> None:
        encoder, self._format, self._frame_size = _AUDIO_ENCODERS[codec]
        stream = output.add_stream(encoder, rate=SAMPLE_RATE)
        assert isinstance(stream, AudioStream)
        stream.codec_context.layout = "mono"
        stream.codec_context.bit_rate = _AUDIO_BIT_RATE
        self._output = output
        self._stream = stream
        self._first = first
        self._offset = round(ts_offset * SAMPLE_RATE)
        self._sent = 0

    def write_until(self, sample: int) -> None:
        while self._sent + self._frame_size <= sample:
            samples = tone(self._first + self._sent, self._frame_size)
            frame = av.AudioFrame.from_ndarray(samples[None], format=self._format, layout="mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = self._offset + self._sent
            frame.time_base = Fraction(1, SAMPLE_RATE)
            self._output.mux(self._stream.encode(frame))
            self._sent += self._frame_size

    def close(self) -> None:
        self._output.mux(self._stream.encode(None))
