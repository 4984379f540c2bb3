"""Audio access units of one codec to those of another, for players that cannot play the source's; and sound that a
processor has made to those of the codec that the output has."""

from collections.abc import Iterator

from pipeline.media.access_unit import AccessUnit, Codec
from pipeline.media.audio_decoder import AudioDecoder
from pipeline.media.audio_encoder import AudioEncoder
from pipeline.media.pcm import Pcm


class AudioReencoder:
    """Tell it what comes, then give it the units. Sound keeps its time; see AudioDecoder and AudioEncoder."""

    def __init__(self, codec: Codec, bitrate: int) -> None:
        """`codec` and `bitrate` (bit/s) are those of the result. Raises EncoderError if they are refused."""
        self.codec = codec
        self._encoder = AudioEncoder(codec, bitrate)
        self._decoder: AudioDecoder | None = None
        self._source: tuple[Codec, int] | None = None
        self._errors_before = 0

    @property
    def errors(self) -> int:
        """Frames that could not be decoded."""
        return self._errors_before + (self._decoder.errors if self._decoder is not None else 0)

    def set_source(self, codec: Codec, channels: int) -> None:
        """What the units to come are; the same again changes nothing."""
        if (codec, channels) == self._source:
            return
        self._errors_before = self.errors
        self._source = codec, channels
        self._decoder = AudioDecoder(codec, channels)

    def reencode(self, payload: bytes, pts: int) -> Iterator[AccessUnit]:
        """What one unit at `pts` (90 kHz) completes; nothing before the source is known."""
        if self._decoder is not None:
            for pcm in self._decoder.decode(payload, pts):
                yield from self._encoder.encode(pcm)

    def encode(self, pcm: Pcm) -> Iterator[AccessUnit]:
        """What a piece of decoded sound completes."""
        yield from self._encoder.encode(pcm)

    def flush(self) -> Iterator[AccessUnit]:
        """What is left at the end."""
        yield from self._encoder.flush()
