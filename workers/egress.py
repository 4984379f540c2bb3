"""Egress: frames in, H.264 and the audio out, as MPEG-TS segments over trickle and/or into a file."""

import contextlib
import time

from pipeline.audio_link import AudioReader
from pipeline.channel_url import channel_url
from pipeline.link import open_reader
from pipeline.media.access_unit import Codec
from pipeline.media.encoder import EncodedUnit, VideoEncoder
from pipeline.media.keep_alive import KeepAlive
from pipeline.media.segmenter import Segmenter, SegmentSink
from pipeline.media.ts_file import TsFile
from pipeline.media.ts_mux import TsMuxer
from pipeline.memory.slot_pixels import open_source
from pipeline.memory.slot_table import Outcome, Slot
from pipeline.memory.stage_stats import Span, Word
from pipeline.messages import AudioFormat
from pipeline.topology import Egress as EgressSpec
from pipeline.trickle.sink import TrickleSink
from pipeline.worker import Worker, WorkerRefused, run

POLL_SECONDS = 0.1
NOMINAL_FPS = 30
"""Guides the rate control only; frames are encoded when they come, at the times they carry."""


class Egress:
    def __init__(self, worker: Worker, spec: EgressSpec, sinks: list[SegmentSink]) -> None:
        boot = worker.boot
        assert boot.input is not None
        form, encoder = boot.input.format, spec.encoder
        self._worker = worker
        self._stats = worker.stats
        self._keep_alive = KeepAlive(boot.keep_alive)
        self._shown = False
        self._trickle = next((sink for sink in sinks if isinstance(sink, TrickleSink)), None)
        self._reader = open_reader(boot.input, owner=boot.incarnation)
        self._source = open_source(boot.input, self._reader.table)
        self._audio = AudioReader(boot.audio_endpoint, worker.zmq) if boot.audio_endpoint else None
        self._muxer = TsMuxer()
        self._segmenter = Segmenter(self._muxer, _Tee(sinks))
        self._encoder = VideoEncoder(
            form.width,
            form.height,
            NOMINAL_FPS,
            codec=encoder.codec,
            preset=encoder.preset,
            bitrate=encoder.bits_per_second if encoder.crf is None else None,
            crf=encoder.crf,
            gop_seconds=encoder.gop_seconds,
            threads=encoder.threads,
        )

    def run_forever(self) -> None:
        """Until inference has ended and every frame was written."""
        while not self._reader.drained:
            slot = self._reader.take(self._patience())
            self._take_audio()
            if "inference" in self._worker.restarted_peers():
                self._keep_alive.inference_is_away()
            if slot is not None:
                self._serve(slot)
            elif self._keep_alive.seconds_left(time.monotonic_ns()) == 0:
                self._repeat()
        self._take_audio()
        self._segmenter.close()

    def close(self) -> None:
        self._source.close()
        self._reader.close()
        if self._audio is not None:
            self._audio.close()

    def _serve(self, slot: Slot) -> None:
        self._stats.add(Word.UNITS_IN)
        accepted = self._keep_alive.accepts(slot.pts)
        if self._is_congested() or not accepted:
            self._reader.release(slot, Outcome.LATE)  # Better here than in a queue behind the encoder.
            return
        self._stats.busy()
        self._begin_anew_after_a_loss()
        units = self._encode(slot)
        self._reader.commit(slot)
        self._write(units)
        now = time.monotonic_ns()
        self._keep_alive.shown(slot.pts, now)
        if not self._shown:
            self._shown = True
            self._worker.info("first_frame", seq=slot.seq, ms=round((now - slot.arrived_ns) / 1e6, 1))
        if slot.verdict is Outcome.DELIVERED:
            self._stats.record(Span.STAGE, now - slot.ready_ns)
            self._stats.record(Span.END_TO_END, now - slot.arrived_ns)
            self._stats.out()
        self._reader.release(slot, slot.verdict)
        self._stats.idle()
        if self._trickle is not None:
            self._stats.total(Word.SEGMENTS_LOST, self._trickle.segments_lost)

    def _encode(self, slot: Slot) -> list[EncodedUnit]:
        """A frame without a picture is one that could not be processed: the one before is shown in its place."""
        if slot.width:
            return self._encoder.encode(self._source.picture(slot), slot.pts)
        self._stats.add(Word.REPEATED)
        return self._encoder.repeat(slot.pts) if self._encoder.has_picture else []

    def _repeat(self) -> None:
        """No new frame has come in time: show the last one again."""
        pts = self._keep_alive.repeat(time.monotonic_ns())
        if not self._is_congested():
            self._begin_anew_after_a_loss()
            self._write(self._encoder.repeat(pts))
            self._stats.add(Word.REPEATED)

    def _write(self, units: list[EncodedUnit]) -> None:
        for unit in units:
            self._segmenter.video(unit.data, unit.pts, unit.dts, unit.key)
            self._stats.add(Word.BYTES_OUT, len(unit.data))

    def _patience(self) -> float:
        """Seconds for which a frame may be waited for."""
        left = self._keep_alive.seconds_left(time.monotonic_ns())
        return POLL_SECONDS if left is None else min(left, POLL_SECONDS)

    def _is_congested(self) -> bool:
        return self._trickle is not None and self._trickle.congested

    def _begin_anew_after_a_loss(self) -> None:
        """What follows in a segment that is lost is lost too: do not wait for the keyframe that is due."""
        if self._trickle is not None and self._trickle.lost_segment:
            self._encoder.request_keyframe()

    def _take_audio(self) -> None:
        if self._audio is None:
            return
        for message in self._audio.read():
            if isinstance(message, AudioFormat):
                self._muxer.set_audio(Codec(message.codec), message.channels)
            else:
                self._segmenter.audio(message.data, message.pts)


class _Tee:
    """Several sinks as one."""

    def __init__(self, sinks: list[SegmentSink]) -> None:
        self._sinks = sinks

    def begin_segment(self) -> None:
        for sink in self._sinks:
            sink.begin_segment()

    def write(self, data: bytes) -> None:
        for sink in self._sinks:
            sink.write(data)

    def end_segment(self) -> None:
        for sink in self._sinks:
            sink.end_segment()


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, EgressSpec)
    where = []
    with contextlib.ExitStack() as stack:
        sinks: list[SegmentSink] = []
        if spec.sink.file is not None:
            try:
                sinks.append(stack.enter_context(TsFile(spec.sink.file, append=worker.boot.incarnation > 1)))
            except OSError as error:
                key = f"stages.{worker.boot.stage}.sink.file"
                raise WorkerRefused(f"{key}: cannot write {spec.sink.file}: {error.strerror}") from error
            where.append(spec.sink.file)
        if spec.sink.trickle is not None:
            url = channel_url(spec.sink.trickle, worker.boot.relay_url)
            sinks.append(stack.enter_context(TrickleSink(url)))
            where.append(url)
        egress = Egress(worker, spec, sinks)
        worker.ready(" and ".join(where))
        egress.run_forever()
        egress.close()


if __name__ == "__main__":
    run(main)
