"""Audio access units, as a demuxer gives them, to PCM of one kind: float32 at 48 kHz, mono or stereo.

It keeps every unit's own time: a gap in the units is a gap in the PCM, for whoever comes after to fill.
"""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.adts import split_adts
from pipeline.media.opus_ts import split_opus
from pipeline.media.pcm import LAYOUTS, SAMPLE_RATE, Pcm, ticks_of

# libopus rather than FFmpeg's own decoder, which holds samples back in some modes without saying so.
_DECODERS = {Codec.AAC: "aac", Codec.OPUS: "libopus"}
_TIME_BASE = Fraction(1, CLOCK_HZ)


class AudioDecoder:
    """Decodes one stream, AAC in ADTS frames or Opus with its control headers. More than two channels become two."""

    def __init__(self, codec: Codec, channels: int = 2) -> None:
        """`channels` are those that the programme map announces, of Opus: AAC frames say their own. Raises ValueError
        for a codec that is no sound."""
        if codec not in _DECODERS:
            raise ValueError(f"{codec} is no audio codec")
        self.errors = 0
        """Frames that could not be decoded. Damage is counted, and never raised."""
        self._split = split_adts if codec is Codec.AAC else split_opus
        context = av.CodecContext.create(_DECODERS[codec], "r")
        assert isinstance(context, AudioCodecContext)
        if codec is Codec.OPUS:
            context.sample_rate = SAMPLE_RATE
            context.layout = LAYOUTS.get(channels, "stereo")
            context.options = {"request_sample_fmt": "flt"}
        self._context = context
        self._converter: _Converter | None = None

    def decode(self, payload: bytes, pts: int) -> Iterator[Pcm]:
        """The sound of one access unit, the payload of a PES, whose first frame is at `pts` (90 kHz).

        Encoders let the time of a packet precede that of its sound by their own delay, and decoders give the sound with
        that delay: so `pts` holds for what comes out, with nothing to be added.
        """
        for data in self._split(payload):
            packet = av.Packet(data)
            packet.pts, packet.time_base = pts, _TIME_BASE
            try:
                frames = self._context.decode(packet)
            except av.FFmpegError:
                self.errors += 1
                self._context.flush_buffers()
                continue
            for frame in frames:
                yield from self._convert(frame, pts)
                pts += ticks_of(frame.samples, frame.sample_rate)

    def _convert(self, frame: AudioFrame, pts: int) -> Iterator[Pcm]:
        if self._converter is None or not self._converter.takes(frame):
            self._converter = _Converter(frame)
        yield from self._converter.convert(frame, pts)


class _Converter:
    """From one rate and layout to ours."""

    def __init__(self, frame: AudioFrame) -> None:
        self._rate = frame.sample_rate
        self._layout = frame.layout.name
        self._channels = min(frame.layout.nb_channels, 2)
        self._resampler = AudioResampler(format="fltp", layout=LAYOUTS[self._channels], rate=SAMPLE_RATE)
        self._samples_in = 0
        self._samples_out = 0

    def takes(self, frame: AudioFrame) -> bool:
        return frame.sample_rate == self._rate and frame.layout.name == self._layout

    def convert(self, frame: AudioFrame, pts: int) -> Iterator[Pcm]:
        frame.pts = None  # The resampler's own idea of time would stumble over gaps.
        self._samples_in += frame.samples
        end = pts + ticks_of(frame.samples, self._rate)
        blocks = [np.asarray(part.to_ndarray(), np.float32) for part in self._resampler.resample(frame)]
        self._samples_out += sum(block.shape[1] for block in blocks)
        # A resampler of rates holds a few samples back: what it gave ends so much before what it was given.
        held = self._samples_in * SAMPLE_RATE - self._samples_out * self._rate
        end -= round(held * CLOCK_HZ / (SAMPLE_RATE * self._rate))
        left = sum(block.shape[1] for block in blocks)
        for block in blocks:
            yield Pcm(end - ticks_of(left), block)
            left -= block.shape[1]
