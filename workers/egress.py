"""Egress: frames in, H.264 and the audio out, as MPEG-TS segments over trickle and/or into a file."""

import contextlib
import time

from pipeline.audio_link import AudioReader
from pipeline.channel_address import ChannelAddress, channel_address
from pipeline.link import open_reader
from pipeline.media.access_unit import Codec
from pipeline.media.audio_reencoder import AudioReencoder
from pipeline.media.container_file import ContainerFile
from pipeline.media.encoder import EncodedUnit, VideoEncoder
from pipeline.media.errors import EncoderError, MediaFileError
from pipeline.media.keep_alive import KeepAlive
from pipeline.media.pace import Pace
from pipeline.media.segmenter import Segmenter, SegmentSink
from pipeline.media.ts_mux import TsMuxer
from pipeline.media.ts_tail import TsTail
from pipeline.memory.slot_pixels import open_source
from pipeline.memory.slot_table import Outcome, Slot
from pipeline.memory.stage_stats import Span, StageStats, Word
from pipeline.messages import TextLine
from pipeline.outgoing_sound import OutgoingSound
from pipeline.recording.format import Frame, OutputEnd
from pipeline.text_channel import CONTENT_TYPE, TextChannel
from pipeline.topology import Egress as EgressSpec
from pipeline.topology_sections import AudioEncoder as AudioEncoderSpec
from pipeline.trickle.errors import AccessDenied
from pipeline.trickle.sink import TrickleSink
from pipeline.worker import Worker, WorkerRefused, run

POLL_SECONDS = 0.1
IDLE_POLL_SECONDS, IDLE_AFTER_SECONDS = 0.5, 2.0
"""Nobody wakes this process for sound, text and refusals; without frames they are looked for less often."""

NOMINAL_FPS = 30
"""Guides the rate control only; frames are encoded when they come, at the times they carry."""


class Egress:
    def __init__(self, worker: Worker, spec: EgressSpec, sinks: list[SegmentSink], text: TextChannel | None) -> None:
        boot = worker.boot
        assert boot.input is not None
        self._worker = worker
        self._stats = worker.stats
        self._tracer = worker.tracer
        self._tap = worker.tap
        self._shown = False
        self._text = text
        self._trickle = next((sink for sink in sinks if isinstance(sink, TrickleSink)), None)
        # A picture that was repeated can be ahead of the new ones. Of a file it is known what is in it.
        shown_to = worker.stats[Word.MEDIA_TICKS] or None if self._trickle is not None else None
        self._keep_alive = KeepAlive(boot.keep_alive, shown_to)
        self._before = next((sink.tail for sink in sinks if isinstance(sink, ContainerFile)), TsTail())
        self._reader = open_reader(boot.input, owner=boot.incarnation, tracer=self._tracer)
        self._source = open_source(boot.input, self._reader.table)
        self._muxer = TsMuxer(Codec.H264, self._before.audio, self._before.audio_channels)
        self._segmenter = Segmenter(self._muxer, _Tee(sinks, worker.stats), gives_up_audio=self._trickle is not None)
        self._encoder = _open_encoder(worker, spec)
        self._pace = self._open_pace(spec) if self._trickle is not None and boot.live else None
        self._sound = self._open_sound(spec)
        self._last_frame_ns = 0
        self._told_codec = ""
        self._tell_codec()

    def run_forever(self) -> None:
        """Until inference has ended and every frame was written.

        Raises AccessDenied if the server does not let us write.
        """
        while not self._reader.drained:
            self._check_access()
            slot = self._reader.take(self._patience())
            self._take_sound()
            if "inference" in self._worker.restarted_peers():
                self._keep_alive.inference_is_away(time.monotonic_ns())
            if slot is not None:
                self._serve(slot)
            elif self._keep_alive.seconds_left(time.monotonic_ns()) == 0:
                self._repeat()
        self._sound.finish()
        if self._text is not None:
            self._text.send()
        self._segmenter.close()
        if self._tap.recording:
            self._tap.send(OutputEnd(time.monotonic_ns()), self._worker.boot.epoch)

    def close(self) -> None:
        self._source.close()
        self._reader.close()
        self._sound.close()

    def _serve(self, slot: Slot) -> None:
        self._last_frame_ns = time.monotonic_ns()
        self._stats.add(Word.UNITS_IN)
        if self._before.has_picture(slot.pts):  # A predecessor wrote it, and died before it could say so.
            self._reader.release(slot, slot.verdict)
            return
        accepted = self._keep_alive.accepts(slot.pts, slot.ready_ns)
        if not accepted or not self._has_room():
            self._tracer.end(slot, Outcome.LATE)
            self._reader.release(slot, Outcome.LATE)  # Better here than in a queue behind the encoder.
            return
        self._stats.busy()
        self._begin_anew_after_a_loss()
        units = self._encode(slot)
        encoded_ns = time.monotonic_ns()
        if self._trickle is not None:  # Viewers must not see it twice; of a file it is known what is in it.
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
        self._stats[Word.MEDIA_TICKS] = slot.pts
        if (note := self._tracer.ending(slot, slot.verdict, encoded_ns)) is not None:
            note() if self._trickle is None else self._trickle.when_sent(note)
        if self._tap.recording:
            self._tap.send(self._frame_record(slot, now), slot.epoch)
        self._reader.release(slot, slot.verdict)
        self._stats.idle()
        if self._trickle is not None:
            self._stats.total(Word.SEGMENTS_LOST, self._trickle.segments_lost)

    def _frame_record(self, slot: Slot, now: int) -> Frame:
        from pipeline.recording.picture_digest import digest_of, sketch_of  # OpenSSL, which few have a use for here.

        picture = self._source.picture(slot) if slot.width else None
        return Frame(
            slot.seq,
            slot.part,
            slot.pts,
            slot.verdict.name.lower(),
            now,
            slot.width,
            slot.height,
            digest_of(picture) if picture is not None else b"",
            sketch_of(picture) if picture is not None else b"",
        )

    def _encode(self, slot: Slot) -> list[EncodedUnit]:
        """A frame without a picture is one that could not be processed: the one before is shown in its place."""
        if slot.width:
            units = self._encoder.encode(self._source.picture(slot), slot.pts)
            self._tell_codec()
            return units
        self._stats.add(Word.REPEATED)
        return self._encoder.repeat(slot.pts) if self._encoder.has_picture else []

    def _repeat(self) -> None:
        """No new frame has come in time: show the last one again."""
        pts = self._keep_alive.repeat(time.monotonic_ns())
        if self._has_room():
            self._begin_anew_after_a_loss()
            self._stats[Word.MEDIA_TICKS] = pts
            self._write(self._encoder.repeat(pts))
            self._stats.add(Word.REPEATED)

    def _write(self, units: list[EncodedUnit]) -> None:
        for unit in units:
            self._segmenter.video(unit.data, unit.pts, unit.dts, unit.key)
            self._stats.add(Word.VIDEO_BYTES, len(unit.data))
        self._stats[Word.BITRATE] = self._encoder.bitrate or 0

    def _patience(self) -> float:
        """Seconds for which a frame may be waited for."""
        now_ns = time.monotonic_ns()
        left = self._keep_alive.seconds_left(now_ns)
        if left is not None:
            return min(left, POLL_SECONDS)
        return IDLE_POLL_SECONDS if now_ns - self._last_frame_ns > IDLE_AFTER_SECONDS * 1e9 else POLL_SECONDS

    def _check_access(self) -> None:
        if self._trickle is not None and self._trickle.access_denied is not None:
            raise self._trickle.access_denied

    def _has_room(self) -> bool:
        """Whether what is encoded now can be sent soon. An output that has to have every frame waits until it can."""
        if self._pace is not None:
            return self._pace.admits(time.monotonic())
        while self._trickle is not None and self._trickle.congested:
            self._check_access()
            self._worker.check_abandoned()
            self._trickle.wait_for_room(POLL_SECONDS)
        return True

    def _begin_anew_after_a_loss(self) -> None:
        """What follows in a segment that is lost is lost too: do not wait for the keyframe that is due."""
        if self._trickle is not None and self._trickle.lost_segment:
            self._encoder.request_keyframe()

    def _take_sound(self) -> None:
        self._sound.take()
        if self._text is not None:
            self._text.send_due()
        self._stats.total(Word.AUDIO_DROPPED, self._sound.dropped)

    def _write_text(self, line: TextLine) -> None:
        if self._text is not None:
            self._text.write(line)

    def _open_sound(self, spec: EgressSpec) -> OutgoingSound:
        assert self._worker.boot.audio_endpoint is not None
        reader = AudioReader(self._worker.boot.audio_endpoint, self._worker.zmq, self._worker.boot.epoch)
        reencoder = _open_reencoder(self._worker, spec)
        return OutgoingSound(reader, self._segmenter, self._muxer, self._before, reencoder, self._write_text)

    def _open_pace(self, spec: EgressSpec) -> Pace:
        assert self._trickle is not None
        wanted = spec.encoder.bits_per_second // 1000

        def report(bits_per_second: int) -> None:
            self._worker.info("bitrate", kbps=bits_per_second // 1000, wanted_kbps=wanted)

        return Pace(self._trickle, self._encoder, spec.encoder.floor_bits_per_second, report)

    def _tell_codec(self) -> None:
        """At the start, and when a picture of another size has made another one necessary."""
        if self._encoder.codec == self._told_codec:
            return
        self._told_codec = self._encoder.codec
        if self._encoder.refused:
            self._worker.warning("encoder", codec=self._encoder.codec, reason=self._encoder.refused)
        else:
            self._worker.info("encoder", codec=self._encoder.codec)


class _Tee:
    """Several sinks as one. What goes into them is counted once."""

    def __init__(self, sinks: list[SegmentSink], stats: StageStats) -> None:
        self._sinks = sinks
        self._stats = stats

    def begin_segment(self) -> None:
        for sink in self._sinks:
            sink.begin_segment()

    def write(self, data: bytes) -> None:
        self._stats.add(Word.BYTES_OUT, len(data))
        for sink in self._sinks:
            sink.write(data)

    def end_segment(self) -> None:
        for sink in self._sinks:
            sink.end_segment()


def _open_encoder(worker: Worker, spec: EgressSpec) -> VideoEncoder:
    """For pictures of the usual size: those that a processor makes larger or smaller have it opened again."""
    encoder, frame = spec.encoder, worker.boot.frame
    try:
        return VideoEncoder(
            frame.width,
            frame.height,
            NOMINAL_FPS,
            codec=encoder.codec,
            preset=encoder.preset,
            bitrate=encoder.bits_per_second if encoder.crf is None else None,
            crf=encoder.crf,
            gop_seconds=encoder.gop_seconds,
            threads=encoder.threads,
        )
    except EncoderError as error:
        raise WorkerRefused(f"{worker.boot.section}.encoder: {error}") from error


def _open_reencoder(worker: Worker, spec: EgressSpec) -> AudioReencoder | None:
    """What encodes the sound, if it does not go out as it came."""
    wanted = spec.audio or (AudioEncoderSpec(codec="aac") if worker.boot.samples_endpoint else None)
    if wanted is None:
        return None
    try:
        return AudioReencoder(Codec(wanted.codec), wanted.bits_per_second)
    except EncoderError as error:
        raise WorkerRefused(f"{worker.boot.section}.audio: {error}") from error


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, EgressSpec)
    assert spec.sink is not None
    where = []
    channel: ChannelAddress | None = None
    file: ContainerFile | None = None
    text: TextChannel | None = None
    refusal: WorkerRefused | None = None
    with contextlib.ExitStack() as stack:
        sinks: list[SegmentSink] = []
        if spec.sink.file is not None:
            file = stack.enter_context(_open_file(worker, spec))
            sinks.append(file)
            where.append(spec.sink.file)
        if spec.sink.trickle is not None:
            channel = channel_address(spec.sink.trickle, worker.boot)
            sinks.append(stack.enter_context(_open_sink(channel)))
            where.append(channel.url)
        if spec.sink.text is not None:
            written = _open_sink(channel_address(spec.sink.text, worker.boot), CONTENT_TYPE)
            text = TextChannel(stack.enter_context(written), worker.error)
        try:
            egress = Egress(worker, spec, sinks, text)
            worker.ready(" and ".join(where))
            egress.run_forever()
            egress.close()
            if file is not None:
                file.finish()
        except AccessDenied as denied:
            assert channel is not None
            refusal = channel.refusal(denied)
        except MediaFileError as error:
            refusal = WorkerRefused(f"{worker.boot.section}.sink.file: {error}")
        except WorkerRefused as problem:
            refusal = problem
    if refusal is not None:  # Viewers were told first: there will be no successor.
        raise refusal


def _open_sink(channel: ChannelAddress, content_type: str = "video/MP2T") -> TrickleSink:
    return TrickleSink(
        channel.url, content_type, token=channel.token, ssl_context=channel.ssl_context, judge=channel.judge
    )


def _open_file(worker: Worker, spec: EgressSpec) -> ContainerFile:
    """The file of the sink; behind what a predecessor of this process wrote, or an interrupted run if asked for."""
    assert spec.sink is not None
    assert spec.sink.file is not None
    whole = worker.stats[Word.FILE_BYTES]
    try:
        return ContainerFile(
            spec.sink.file,
            lambda size: worker.stats.__setitem__(Word.FILE_BYTES, size),
            append=spec.sink.resume or whole > 0,
            whole_bytes=whole or None,
        )
    except OSError as error:
        key = f"{worker.boot.section}.sink.file"
        raise WorkerRefused(f"{key}: cannot write {spec.sink.file}: {error.strerror}") from error


if __name__ == "__main__":
    run(main)
