"""PCM to audio access units as a muxer takes them, each at the time of its sound, whatever the encoder's own delay.

Gaps in what comes in become silence, long ones a jump of the times; the times never drift from those that came in.
"""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from pipeline.media.access_unit import AccessUnit, Codec
from pipeline.media.adts import AacConfig, parse_audio_specific_config, wrap_adts
from pipeline.media.errors import EncoderError
from pipeline.media.opus_ts import wrap_opus
from pipeline.media.pcm import LAYOUTS, SAMPLE_RATE, Pcm, samples_of, ticks_of

# Times that deviate by less are jitter: those of RTMP sources are whole milliseconds.
TOLERANCE_SAMPLES = 144  # 3 ms
# A longer gap or overlap is a new beginning: an encoder fed with minutes of silence would stand still for it.
MAX_REPAIR_SAMPLES = SAMPLE_RATE

_ENCODERS = {Codec.AAC: "aac", Codec.OPUS: "libopus"}
# The sample formats that the two take. Opus is in one block for all channels.
_FORMATS = {Codec.AAC: "fltp", Codec.OPUS: "flt"}


class AudioEncoder:
    """Encodes mono and stereo at 48 kHz; a change of the number of channels begins anew."""

    def __init__(self, codec: Codec, bitrate: int) -> None:
        """`codec` is AAC or OPUS, `bitrate` in bit/s for all channels. Raises EncoderError for one that is refused."""
        if codec not in _ENCODERS:
            raise EncoderError(f"{codec} is no audio codec; allowed: aac, opus")
        self.codec = codec
        self._bitrate = bitrate
        self._run = _Run(codec, bitrate, channels=2, start=0)  # A bitrate that is refused is refused now.
        self._started = False

    def encode(self, pcm: Pcm) -> Iterator[AccessUnit]:
        """The units that are complete: AAC frames in ADTS, Opus packets with their control headers."""
        if not self._started or pcm.channels != self._run.channels:
            yield from self._begin(pcm)
        samples = pcm.samples
        late = samples_of(pcm.pts - self._run.end)
        if abs(late) > MAX_REPAIR_SAMPLES:
            yield from self._begin(pcm)
        elif late > TOLERANCE_SAMPLES:
            samples = np.concatenate((np.zeros((pcm.channels, late), np.float32), samples), axis=1)
        elif late < -TOLERANCE_SAMPLES:
            samples = samples[:, -late:]
        yield from self._run.encode(samples)

    def flush(self) -> Iterator[AccessUnit]:
        """What is left. The next PCM begins anew."""
        if self._started:
            self._started = False
            yield from self._run.finish()

    def _begin(self, pcm: Pcm) -> Iterator[AccessUnit]:
        yield from self.flush()
        self._run = _Run(self.codec, self._bitrate, pcm.channels, pcm.pts)
        self._started = True


class _Run:
    """One codec from its first sample to its last, without a gap: the number of a sample is its time."""

    def __init__(self, codec: Codec, bitrate: int, channels: int, start: int) -> None:
        self.channels = channels
        self._codec = codec
        self._start = start
        self._fed = 0
        self._context = _open(codec, bitrate, LAYOUTS[channels])
        self._config = _aac_config(self._context) if codec is Codec.AAC else None
        self._pending: NDArray[np.float32] = np.empty((channels, 0), np.float32)

    @property
    def end(self) -> int:
        """The time, in 90 kHz ticks, at which the next sample is expected."""
        return self._start + ticks_of(self._fed + self._pending.shape[1])

    def encode(self, samples: NDArray[np.float32]) -> Iterator[AccessUnit]:
        pending = np.concatenate((self._pending, samples), axis=1)
        size = self._context.frame_size
        whole = pending.shape[1] // size * size
        for at in range(0, whole, size):
            yield from self._encode(pending[:, at : at + size])
        self._pending = pending[:, whole:]

    def finish(self) -> Iterator[AccessUnit]:
        if self._pending.shape[1]:
            rest = self._context.frame_size - self._pending.shape[1]
            yield from self.encode(np.zeros((self.channels, rest), np.float32))
        yield from self._units(self._context.encode(None))

    def _encode(self, block: NDArray[np.float32]) -> Iterator[AccessUnit]:
        form = _FORMATS[self._codec]
        planes = block if form == "fltp" else block.T.reshape(1, -1)
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(planes), format=form, layout=LAYOUTS[self.channels])
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE, Fraction(1, SAMPLE_RATE), self._fed
        self._fed += block.shape[1]
        yield from self._units(self._context.encode(frame))

    def _units(self, packets: list[av.Packet]) -> Iterator[AccessUnit]:
        """FFmpeg's encoders stamp each packet so much before its sound as they delay it: the first below 0."""
        for packet in packets:
            assert packet.pts is not None
            pts = self._start + ticks_of(packet.pts)
            data = bytes(packet)
            data = wrap_opus(data) if self._config is None else wrap_adts(self._config, data)
            yield AccessUnit(self._codec, pts, pts, data, True)


def _open(codec: Codec, bitrate: int, layout: str) -> AudioCodecContext:
    context = av.CodecContext.create(_ENCODERS[codec], "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = SAMPLE_RATE, layout, _FORMATS[codec]
    context.time_base = Fraction(1, SAMPLE_RATE)
    context.bit_rate = bitrate
    try:
        context.open()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise EncoderError(f"encoder {codec.value!r} refused {layout} at {bitrate} bit/s: {error}") from error
    return context


def _aac_config(context: AudioCodecContext) -> AacConfig:
    config = parse_audio_specific_config(context.extradata or b"")
    assert config is not None
    return config
