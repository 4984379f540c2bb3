"""Passthrough: hands frames on as they are, or with a notice over them, while inference is away; and the sound.

It stands in under the name of the inference stage, waits for its turn, and is ended when that is over. It needs no
model and no torch, so it is always there.
"""

import time
from collections.abc import Callable

import numpy as np

from pipeline.audio_link import AudioListener, AudioWriter
from pipeline.link import LinkWriter, open_reader
from pipeline.media.notice import Notice
from pipeline.memory.slot_pixels import Pixels, open_source, open_target
from pipeline.memory.slot_table import Outcome
from pipeline.memory.stage_stats import Span, Word
from pipeline.topology import AnyStage, Inference
from pipeline.worker import Worker, run


def pass_frames(worker: Worker) -> None:
    """Until decode has ended, every frame was handed on, and no other stream comes."""
    boot, stats = worker.boot, worker.stats
    assert boot.input is not None
    assert boot.output is not None
    reader = open_reader(boot.input, owner=boot.incarnation, tracer=worker.tracer)
    writer = LinkWriter(boot.output, owner=boot.incarnation)
    source, pixels = open_source(boot.input, reader.table), open_target(boot.output, writer.table)
    show = _show(boot.spec)
    sound = _pass_sound(worker)
    while not reader.drained or _goes_on(worker, writer):
        slot = reader.take()
        if slot is None:
            continue
        stats.add(Word.UNITS_IN)
        while (
            target := writer.acquire(
                seq=slot.seq,
                pts=slot.pts,
                epoch=slot.epoch,
                arrived_ns=slot.arrived_ns,
                width=slot.width,
                height=slot.height,
            )
        ) is None:
            worker.check_abandoned()
        worker.tracer.pass_on(slot, writer.table, target)
        stats.busy()
        show(source.picture(slot), pixels.array(target))
        pixels.complete(target)
        stats.idle()
        writer.publish(target)
        stats.record(Span.STAGE, time.monotonic_ns() - slot.ready_ns)
        stats.out()
        reader.release(slot, Outcome.DELIVERED)
    if sound is not None:
        sound.close()


def _goes_on(worker: Worker, writer: LinkWriter) -> bool:
    """The stream is at its end: say so to egress. Whether another one has begun."""
    writer.end()
    return worker.wait_for_stream()


def _pass_sound(worker: Worker) -> AudioListener | None:
    """The sound, where it goes through inference."""
    boot = worker.boot
    if boot.samples_endpoint is None:
        return None
    assert boot.audio_endpoint is not None
    return AudioListener(boot.samples_endpoint, worker.zmq, AudioWriter(boot.audio_endpoint, worker.zmq).forward)


def _show(spec: AnyStage | None) -> Callable[[Pixels, Pixels], None]:
    """What becomes of a picture on its way."""
    if isinstance(spec, Inference) and spec.while_away == "notice":
        return Notice(spec.notice).draw
    return lambda picture, target: np.copyto(target, picture)


def main(worker: Worker) -> None:
    worker.ready("hands frames on as they are, while inference is away")
    worker.wait_for_turn()
    pass_frames(worker)


if __name__ == "__main__":
    run(main)
