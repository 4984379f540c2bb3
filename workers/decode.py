"""Decode: encoded bytes in, RGB frames in slots out, audio on the side."""

import time
from typing import Any

import msgspec
import zmq

from pipeline.audio_link import AudioWriter, Context
from pipeline.boot import WorkerBoot
from pipeline.encoded_link import EncodedReader
from pipeline.link import LinkWriter
from pipeline.media.access_unit import Codec, StreamInfo
from pipeline.media.audio_decoder import AudioDecoder
from pipeline.media.decoder import VideoDecoder
from pipeline.media.live_decoder import LiveDecoder, Picture, Sound
from pipeline.memory.slot_pixels import open_target
from pipeline.memory.slot_table import Outcome
from pipeline.memory.stage_stats import Span, Word
from pipeline.messages import AudioFormat, EncodedBytes, EncodedEnd
from pipeline.recording.changes import RecordedChanges
from pipeline.recording.format import Change
from pipeline.topology import Decode as DecodeSpec
from pipeline.topology_sections import Frame
from pipeline.topology_values import card_of
from pipeline.worker import Worker, run

POLL_MS = 100
NOT_MPEG_TS_BYTES = 64 * 1024
"""So many bytes without a programme in them are not MPEG-TS."""


class Decode:
    def __init__(self, worker: Worker) -> None:
        boot = worker.boot
        assert boot.encoded is not None
        assert boot.output is not None
        self._worker = worker
        self._stats = worker.stats
        self._tracer = worker.tracer
        self._began_ns = 0  # on the picture in hand
        self._epoch = boot.epoch
        self._frame = boot.frame
        self._waits = boot.output.policy == "block"
        self._writer = LinkWriter(boot.output, owner=boot.incarnation)
        self._target = open_target(boot.output, self._writer.table)
        self._decoder = VideoDecoder(boot.frame.width, boot.frame.height, boot.frame.fit, _card(worker))
        self._source = EncodedReader(boot.encoded, worker.zmq, owner=boot.incarnation)
        self._live = LiveDecoder(
            self._decoder, self._writer.table, self._source.cursor.segment, boot.excerpt, boot.frame.max_fps
        )
        self._audio = AudioWriter(boot.audio_endpoint, worker.zmq, epoch=boot.epoch) if boot.audio_endpoint else None
        self._samples = _open_samples(boot, worker.zmq)
        self._audio_decoder: AudioDecoder | None = None
        self._announced: StreamInfo | None = None
        self._changes = RecordedChanges(boot.changes_from, "decode")
        self._errors_counted = 0
        self._told_not_mpeg_ts = False
        self._told_refusal = ""

    def run_forever(self) -> None:
        """Until the source has ended, or ingress is gone for good."""
        if self._writer.table.ended:  # A predecessor handed on everything, and died before it could say so.
            self._source.finished()
            return
        poller = zmq.Poller()
        poller.register(self._source.socket, zmq.POLLIN)
        poller.register(self._worker.wake_fd, zmq.POLLIN)
        ended = False
        while not ended:
            events = dict(poller.poll(POLL_MS if self._worker.draining or self._source.is_asking else None))
            self._source.insist()
            self._worker.clear_wake()
            self._greet_restarted()
            self._resize()
            for message in self._source.receive():
                if self._stops_at_once:
                    break
                if isinstance(message, EncodedEnd):
                    ended = True
                else:
                    self._take(message)
            ended = ended or self._stops_at_once or (self._worker.draining and not events)
        # Told to stop in the middle of a file: the pictures in between those that the codec holds are not read yet.
        for item in self._live.flush() if not self._stops_at_once else ():
            self._hand_on(item, time.monotonic_ns())
        if (sound := self._samples or self._audio) is not None:
            sound.end("audio")
        self._writer.end()
        self._source.finished()

    @property
    def _stops_at_once(self) -> bool:
        """A file waits; of a live stream what has come is shown."""
        return self._worker.draining and self._worker.boot.excerpt is not None

    def close(self) -> None:
        self._source.close()
        self._target.close()
        self._writer.close()
        for sound in filter(None, (self._audio, self._samples)):
            sound.close()

    def _greet_restarted(self) -> None:
        """What ingress, and whoever takes the sound, knew of this process died with them."""
        peers = self._worker.restarted_peers()
        if "ingress" in peers:
            self._source.attach()
        is_file = self._worker.boot.excerpt is not None
        if "inference" in peers and self._samples is not None and is_file:
            self._samples.repeat_recent()
        if "egress" in peers and self._audio is not None:
            if is_file and self._samples is None:
                self._audio.repeat_recent()
            else:
                self._audio.repeat_format()

    def _resize(self) -> None:
        """Pictures of another size, if that is asked for; the slots hold it."""
        while (order := self._worker.next_update()) is not None:
            self._take_size(order.params)
            self._worker.updated(order, order.params)
            if self._worker.tap.recording:
                change = Change("decode", order.params, self._writer.table.last_pts, time.monotonic_ns())
                self._worker.tap.send(change, self._epoch)

    def _take_size(self, params: dict[str, Any]) -> None:
        self._frame = msgspec.convert(params, Frame)
        self._decoder.resize(self._frame.width, self._frame.height, self._frame.fit)

    def _take(self, message: EncodedBytes) -> None:
        self._stats.busy()
        self._began_ns = time.monotonic_ns()
        self._stats.add(Word.BYTES_IN, len(message.data))
        for item in self._live.feed(message.segment, message.data, gap=message.gap):
            if self._live.streams is not self._announced:
                self._announced = self._live.streams
                self._tell_streams()
                self._announce_sound()
            self._hand_on(item, message.arrived_ns)
        self._source.consumed(message, self._live.resume_segment)
        self._count()
        self._stats.idle()

    def _hand_on(self, item: Picture | Sound, arrived_ns: int) -> None:
        if isinstance(item, Sound):
            self._hand_on_sound(item)
            return
        self._stats.add(Word.UNITS_IN)
        if self._changes.are_due(item.pts):
            for params in self._changes.due(item.pts):
                self._take_size(params)
        table = self._writer.table
        began_ns = max(self._began_ns, arrived_ns)
        self._stats.idle()  # Waiting for the stage behind is no hang.
        seq = table.next_seq()
        while True:
            slot = self._writer.acquire(
                seq=seq,
                pts=item.pts,
                epoch=self._epoch,
                arrived_ns=arrived_ns,
                width=self._frame.width,
                height=self._frame.height,
                wait_seconds=None if self._waits else 0,
            )
            if slot is not None or not self._waits:
                break
            self._worker.check_abandoned()
        self._stats.busy()
        if slot is None:
            self._tracer.no_slot(seq, self._epoch, item.pts, arrived_ns, began_ns)
            self._writer.drop(Outcome.NO_SLOT)
            return
        self._tracer.begin(table, slot, began_ns)
        self._decoder.scale_into(item.frame, self._target.array(slot))
        self._target.complete(slot)
        # Before whoever sees it next notes when that was; and on the next, if the same bytes hold one.
        self._began_ns = time.monotonic_ns()
        self._writer.publish(slot)
        self._stats.record(Span.STAGE, self._began_ns - arrived_ns)
        self._stats.out(self._began_ns)

    def _tell_streams(self) -> None:
        if (streams := self._live.streams) is not None:
            self._worker.debug("source_streams", video=str(streams.video or ""), audio=str(streams.audio or ""))

    def _announce_sound(self) -> None:
        """Before the first picture: egress tells its viewers of sound at the start of a segment."""
        streams = self._live.streams
        if self._audio is None or streams is None or streams.audio is None:
            return
        self._audio.announce(AudioFormat("opus" if streams.audio is Codec.OPUS else "aac", streams.audio_channels))
        if self._samples is not None:
            self._audio_decoder = AudioDecoder(streams.audio, streams.audio_channels)

    def _hand_on_sound(self, sound: Sound) -> None:
        if self._audio is None:
            return
        self._greet_restarted()  # What is repeated comes before what is new.
        if self._samples is None or self._audio_decoder is None:
            self._audio.write(sound.pts, sound.data)
            self._stats.total(Word.AUDIO_DROPPED, self._audio.dropped)
            return
        for pcm in self._audio_decoder.decode(sound.data, sound.pts):
            self._samples.write_samples(pcm)
        self._stats.total(Word.AUDIO_DROPPED, self._samples.dropped + self._audio_decoder.errors)

    def _count(self) -> None:
        for _ in range(self._live.decode_errors - self._errors_counted):
            self._writer.drop(Outcome.DECODE_ERROR)
        self._errors_counted = self._live.decode_errors
        self._stats.total(Word.SKIPPED, self._live.skipped)
        self._stats.total(Word.CAPPED, self._live.capped)
        if self._decoder.card_refused != self._told_refusal:
            self._told_refusal = self._decoder.card_refused
            self._worker.info("decodes_on_cpu", reason=self._told_refusal)
        self._stats.total(Word.REPLAYED, self._live.replayed)
        if self._live.bytes_unrecognized > NOT_MPEG_TS_BYTES and not self._told_not_mpeg_ts:
            self._told_not_mpeg_ts = True
            self._worker.error(
                "input_not_mpeg_ts",
                stream=self._worker.boot.stream,
                bytes=self._live.bytes_unrecognized,
                hint="the source must publish MPEG-TS with H.264 or HEVC; looking on",
            )


def _open_samples(boot: WorkerBoot, context: Context) -> AudioWriter | None:
    """To inference, if the processor takes the sound: coming late to a live stream, it hears what is new."""
    if boot.samples_endpoint is None:
        return None
    return AudioWriter(boot.samples_endpoint, context, epoch=boot.epoch, waits=not boot.live)


def _card(worker: Worker) -> int | None:
    """The graphics card that is to decode, if it can; None: nobody asked for one."""
    spec = worker.boot.spec
    return card_of(worker.boot.device) if isinstance(spec, DecodeSpec) and spec.hardware == "auto" else None


def main(worker: Worker) -> None:
    decode = Decode(worker)
    worker.ready()
    decode.run_forever()
    decode.close()


if __name__ == "__main__":
    run(main)
