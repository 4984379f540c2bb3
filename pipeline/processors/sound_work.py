"""The sound's way through inference: what comes is heard by the processor between frames, and what it makes of it goes
on to egress."""

import contextlib
import queue
import time
from collections.abc import Callable

from pipeline.audio_link import MAX_QUEUED_PACKETS, AudioListener, AudioWriter, Context, pcm_of
from pipeline.messages import AudioEnd, AudioMessage, AudioSamples
from pipeline.processors.protocol import Heard, Listener

END_SECONDS = 2.0
"""How long the end of the sound is waited for once the frames are over."""

REPORT_SECONDS = 1.0
"""A processor that fails on every piece is reported once in this time, with the count."""


class SoundWork:
    def __init__(
        self,
        endpoint: str,
        context: Context,
        writer: AudioWriter,
        processor: Listener,
        write_text: Callable[[int, str], None],
        report: Callable[..., None],
        wake: Callable[[], None],
        is_paused: Callable[[], bool],
        *,
        passes_through: bool,
    ) -> None:
        """`write_text` takes the time, in 1/90000 s, and a line. `wake` is called, in another thread, when something
        has come: then `serve` is to be called. A piece on which the processor fails `passes_through`, or is left out,
        and `report` is told. While it `is_paused` the sound goes on as it came."""
        self.dropped = 0
        """Pieces that nobody had time for."""
        self.errors = 0
        self._writer = writer
        self._processor = processor
        self._write_text = write_text
        self._report = report
        self._wake = wake
        self._is_paused = is_paused
        self._passes_through = passes_through
        self._reported = 0.0
        self._open = False
        self._waiting: queue.Queue[AudioMessage] = queue.Queue()
        self._listener = AudioListener(endpoint, context, self._heard)

    def begin(self, epoch: int) -> None:
        """A stream of this number begins."""
        self._listener.forget_before(epoch)

    @property
    def waits(self) -> bool:
        """Whether something has come."""
        return not self._waiting.empty()

    def serve(self) -> None:
        """Have the processor hear everything that has come."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._serve(self._waiting.get_nowait())

    def finish(self) -> None:
        """Wait for the end of the sound, if there was any, and see to all of it."""
        self.serve()
        deadline = time.monotonic() + END_SECONDS
        with contextlib.suppress(queue.Empty):
            while self._open:
                self._serve(self._waiting.get(timeout=max(0.0, deadline - time.monotonic())))
        self._open = False
        self._hand_on(self._guarded(self._processor.end_of_sound, Heard()), 0)
        self._writer.end("audio")

    def close(self) -> None:
        self._listener.close()

    def _heard(self, message: AudioMessage) -> None:
        """In the listener's thread."""
        if self._waiting.qsize() >= MAX_QUEUED_PACKETS:
            with contextlib.suppress(queue.Empty):
                self._waiting.get_nowait()
                self.dropped += 1
        self._waiting.put(message)
        self._wake()

    def _serve(self, message: AudioMessage) -> None:
        self._open = not isinstance(message, AudioEnd)
        if isinstance(message, AudioSamples):
            pcm = pcm_of(message)
            if self._is_paused():
                self._writer.write_samples(pcm)
                return
            instead = Heard((pcm,)) if self._passes_through else Heard()
            self._hand_on(self._guarded(lambda: self._processor.hear(pcm), instead), pcm.pts)

    def _hand_on(self, heard: Heard, pts: int) -> None:
        for pcm in heard.sound:
            self._writer.write_samples(pcm)
        for text in heard.texts:
            self._write_text(pts, text)

    def _guarded(self, hear: Callable[[], Heard], instead: Heard) -> Heard:
        try:
            return hear()
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises costs one piece of sound
            self.errors += 1
            now = time.monotonic()
            if now - self._reported > REPORT_SECONDS:
                self._reported = now
                self._report("audio_error", problem=f"{type(error).__name__}: {error}", count=self.errors)
            return instead
