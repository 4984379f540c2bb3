"""What comes to egress beside the frames: sound, as it came or to be encoded, and lines of text."""

import time
from collections.abc import Callable, Iterable

from pipeline.audio_link import AudioReader, pcm_of
from pipeline.media.access_unit import AccessUnit, Codec
from pipeline.media.audio_reencoder import AudioReencoder
from pipeline.media.pcm import Pcm, ticks_of
from pipeline.media.segmenter import Segmenter
from pipeline.media.ts_mux import TsMuxer
from pipeline.media.ts_tail import TsTail
from pipeline.messages import AudioEnd, AudioFormat, AudioMessage, AudioPacket, AudioSamples, TextLine

END_SECONDS = 2.0
"""How long the end of the sound is waited for once the frames are over."""


class OutgoingSound:
    """Puts what comes into the segments. Sound that was written before (`before`) is left out."""

    def __init__(
        self,
        reader: AudioReader,
        segmenter: Segmenter,
        muxer: TsMuxer,
        before: TsTail,
        reencoder: AudioReencoder | None,
        write_text: Callable[[TextLine], None],
    ) -> None:
        """`reencoder` None: access units go out as they came, and no samples will come."""
        self._reader = reader
        self._segmenter = segmenter
        self._muxer = muxer
        self._before = before
        self._reencoder = reencoder
        self._write_text = write_text
        self._open: set[str] = set()  # of what more may come
        self._heard_to: int | None = None

    @property
    def dropped(self) -> int:
        """Units that could not be written, or not be decoded."""
        return self._segmenter.audio_dropped + (self._reencoder.errors if self._reencoder is not None else 0)

    def take(self) -> None:
        """Everything that has come."""
        for message in self._reader.read():
            self._take(message)

    def finish(self) -> None:
        """Wait for the end of sound and text, if there were any, and write what is left."""
        deadline = time.monotonic() + END_SECONDS
        self.take()
        while self._open and self._reader.wait(max(0.0, deadline - time.monotonic())):
            self.take()
        if self._reencoder is not None:
            self._write(self._reencoder.flush())

    def close(self) -> None:
        self._reader.close()

    def _take(self, message: AudioMessage) -> None:
        match message:
            case AudioEnd():
                self._open.discard(message.of)
                return
            case TextLine():
                self._open.add("text")
                self._write_text(message)
                return
        self._open.add("audio")
        match message:
            case AudioFormat():
                self._announce(message)
            case AudioPacket() if self._reencoder is not None:
                self._write(self._reencoder.reencode(message.data, message.pts))
            case AudioPacket():
                if not self._before.has_sound(message.pts):
                    self._segmenter.audio(message.data, message.pts)
            case AudioSamples():
                self._encode(pcm_of(message))

    def _announce(self, form: AudioFormat) -> None:
        if self._reencoder is None:
            self._muxer.set_audio(Codec(form.codec), form.channels)
        else:
            self._reencoder.set_source(Codec(form.codec), form.channels)
            self._muxer.set_audio(self._reencoder.codec, min(form.channels, 2))

    def _encode(self, pcm: Pcm) -> None:
        """What a restarted stage repeats was heard already."""
        assert self._reencoder is not None
        end = pcm.pts + ticks_of(pcm.samples.shape[1])
        if self._heard_to is not None and end <= self._heard_to:
            return
        self._heard_to = end
        self._muxer.set_audio(self._reencoder.codec, pcm.channels)
        self._write(self._reencoder.encode(pcm))

    def _write(self, units: Iterable[AccessUnit]) -> None:
        for unit in units:
            if not self._before.has_sound(unit.pts):
                self._segmenter.audio(unit.data, unit.pts)
