"""Inference: frames in, processed frames out. The only process that imports torch."""

import os
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from pipeline.audio_link import AudioWriter
from pipeline.link import LinkWriter, open_reader
from pipeline.media.pcm import SAMPLE_RATE, Pcm
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slot_table import Slot
from pipeline.memory.stage_stats import Word
from pipeline.messages import LinkBoot, Parameter, Update, WorkerBoot
from pipeline.processors.cuda_frames import CudaFrames, slot_tensors
from pipeline.processors.errors import ProcessorError
from pipeline.processors.frame_tensors import FrameTensors, host_tensors
from pipeline.processors.frame_work import FrameWork
from pipeline.processors.guard import ProcessorGivenUp
from pipeline.processors.kinds import make_processor
from pipeline.processors.protocol import Described, Listener, Processor, StreamAware
from pipeline.processors.sound_work import SoundWork
from pipeline.recording.changes import RecordedChanges
from pipeline.recording.format import Change
from pipeline.topology import Inference as InferenceSpec
from pipeline.worker import Worker, WorkerFailed, WorkerRefused, run


class Inference:
    def __init__(self, worker: Worker, device: torch.device, processor: Processor, params: dict[str, Any]) -> None:
        """`params` are those that the processor has by now."""
        boot = worker.boot
        assert boot.input is not None
        assert boot.output is not None
        assert boot.audio_endpoint is not None
        assert isinstance(boot.spec, InferenceSpec)
        spec = boot.spec.processor
        self._worker = worker
        self._processor = processor
        self._params = params
        self._changes = RecordedChanges(boot.changes_from, "inference")
        self._reader = open_reader(boot.input, owner=boot.incarnation, tracer=worker.tracer)
        self._writer = LinkWriter(boot.output, owner=boot.incarnation)
        self._side = AudioWriter(boot.audio_endpoint, worker.zmq)
        tensors = (
            _open_frames(boot.input, self._reader.table.slots, device, spec.in_flight),
            _open_frames(boot.output, self._writer.table.slots, device),
        )
        ends = self._reader, self._writer
        self._frames = FrameWork(worker, spec, processor, ends, tensors, self._write_text)
        self._sound = self._open_sound(spec.on_error == "pass_through") if boot.samples_endpoint is not None else None

    def run_forever(self) -> None:
        """Until decode has ended, everything was handed on, and no other stream comes."""
        if self._worker.boot.incarnation > 1:  # Its parameters may be others than those of the one before it.
            self._record_change(self._params, self._writer.table.last_pts)
        with torch.inference_mode():
            self._run_stream()
            while self._worker.wait_for_stream(self._update):
                self._run_stream()

    def _run_stream(self) -> None:
        """Until decode has ended and everything was handed on."""
        self._tell_processor("begin_stream")
        while not self._reader.drained:
            self._update()
            self._hear()
            slot = self._reader.take()
            if slot is not None:
                self._update()
                if self._changes.are_due(slot.pts):
                    self._change_as_recorded(slot.pts)
                self._frames.serve(slot)
            self._frames.settle_ended()
        self._frames.settle_all()
        if self._sound is not None:
            self._sound.finish()
        self._tell_processor("end_stream")
        self._side.end("text")
        self._writer.end()

    def close(self) -> None:
        self._processor.close()
        if self._sound is not None:
            self._sound.close()
        self._side.close()
        self._reader.close()
        self._writer.close()

    def _tell_processor(self, what: Literal["begin_stream", "end_stream"]) -> None:
        """One that wants to know. Before the first stream on request there is nothing to tell."""
        if not isinstance(self._processor, StreamAware) or self._worker.epoch < 0:
            return
        try:
            getattr(self._processor, what)()
        except Exception as error:  # noqa: BLE001 - the user's own code; frames decide whether it works
            self._worker.error("stream_hook_failed", hook=what, problem=f"{type(error).__name__}: {error}")

    def _update(self) -> None:
        """A change of parameters takes effect between two frames."""
        stats = self._worker.stats
        while (order := self._worker.next_update()) is not None:
            self._frames.settle_all()
            stats.busy()
            if apply_update(self._worker, self._processor, order) is not None:
                self._record_change(order.params, self._frames.last_pts)
            stats.idle()

    def _change_as_recorded(self, pts: int) -> None:
        for params in self._changes.due(pts):
            self._frames.settle_all()
            try:
                self._processor.update(params)
            except Exception as error:  # noqa: BLE001 - the user's own code; what it ran with before goes on
                self._worker.error("recorded_change_refused", problem=f"{type(error).__name__}: {error}")
            else:
                self._record_change(params, self._frames.last_pts)

    def _record_change(self, params: dict[str, Any], after: int | None) -> None:
        tap = self._worker.tap
        if tap.recording and params:
            tap.send(Change("inference", params, after, time.monotonic_ns()), self._worker.epoch)

    def _hear(self) -> None:
        stats = self._worker.stats
        if self._sound is None or not self._sound.waits:
            return
        if "egress" in self._worker.restarted_peers() and not self._worker.boot.live:
            self._side.repeat_recent()
        stats.busy()
        self._sound.serve()
        stats.idle()
        stats.total(Word.AUDIO_DROPPED, self._sound.dropped + self._side.dropped)

    def _write_text(self, pts: int, text: str, **of: int) -> None:
        stream = {"stream": self._worker.stream} if self._worker.boot.on_request else {}
        self._worker.info("text", **stream, **of, pts=pts, text=text)
        self._side.write_text(pts, text)

    def _open_sound(self, passes_through: bool) -> SoundWork:
        worker, boot = self._worker, self._worker.boot
        assert boot.samples_endpoint is not None
        assert isinstance(self._processor, Listener)
        return SoundWork(
            boot.samples_endpoint,
            worker.zmq,
            self._side,
            self._processor,
            self._write_text,
            worker.error,
            worker.wake,
            lambda: worker.pause is not None,
            passes_through=passes_through,
        )


def apply_update(worker: Worker, processor: Processor, order: Update) -> dict[str, Any] | None:
    """Change the processor's parameters and say what came of it. Returns all that are in force, None if it refused."""
    try:
        params = processor.update(order.params)
    except ProcessorError as error:
        worker.updated(order, None, str(error))
    except Exception as error:  # noqa: BLE001 - the user's own code; what it ran with before goes on
        worker.updated(order, None, f"{type(error).__name__}: {error}")
    else:
        worker.updated(order, params, parameters=described(processor))
        return params
    return None


def described(processor: Processor) -> list[Parameter] | None:
    """The processor's parameters for forms, if it knows them."""
    return processor.parameters() if isinstance(processor, Described) else None


def _open_frames(boot: LinkBoot, slots: Sequence[Slot], device: torch.device, pictures: int = 1) -> FrameTensors:
    """A link's slots as tensors, of which so many `pictures` are good at a time."""
    if boot.cuda is None:
        return FrameTensors(host_tensors(slots), boot.format, device, pictures)
    slab = CudaSlab(CudaDriver(boot.cuda.device), boot.cuda)
    return CudaFrames(slot_tensors(slab, boot.slots, boot.format), boot.format, pictures)


def choose_device(wanted: str) -> torch.device:
    """The device that the topology names. Raises WorkerRefused when this machine does not have it."""
    available = torch.cuda.device_count()
    if wanted == "auto":
        return torch.device("cuda:0" if available else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= available:
        raise WorkerRefused(f"device: {wanted} is not there; torch {torch.__version__} sees {available} CUDA devices")
    return device


def _check_memory(boot: WorkerBoot, device: torch.device) -> None:
    """Raises WorkerRefused when the frames lie on another device than the processor's."""
    cuda = boot.input.cuda if boot.input else None
    if cuda is not None and device != torch.device("cuda", cuda.device):
        raise WorkerRefused(
            f"frame_memory: frames lie on cuda:{cuda.device}, and torch {torch.__version__} runs the processor on "
            f"{device}; install a torch for CUDA, or set frame_memory: host"
        )


def _warm_up(worker: Worker, processor: Processor) -> None:
    """Pay for what is paid once. Raises ProcessorError."""
    try:
        with torch.inference_mode():
            processor.warm_up(worker.boot.frame.height, worker.boot.frame.width)
            if worker.boot.samples_endpoint is not None:
                assert isinstance(processor, Listener)
                processor.hear(Pcm(0, np.zeros((2, SAMPLE_RATE // 50), np.float32)))
                processor.end_of_sound()
    except ProcessorError:
        raise
    except Exception as error:  # noqa: BLE001 - live frames decide; a processor may refuse a black picture
        worker.warning("warm_up_failed", problem=f"{type(error).__name__}: {error}")


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, InferenceSpec)
    torch.set_num_threads(spec.processor.threads or max(1, (os.cpu_count() or 1) // 2))
    device = choose_device(worker.boot.device)
    _check_memory(worker.boot, device)
    processor = make_processor(spec.processor)
    try:
        processor.load(device)
        _warm_up(worker, processor)
    except ProcessorError as error:
        raise WorkerRefused(f"stages.{worker.boot.stage}.processor.{spec.processor.kind}: {error}") from error
    worker.ready(f"{spec.processor.target} on {device}", described(processor))
    in_force = dict(spec.processor.params)
    worker.wait_for_turn(lambda order: in_force.update(apply_update(worker, processor, order) or {}))
    inference = Inference(worker, device, processor, in_force)
    try:
        inference.run_forever()
    except ProcessorGivenUp as error:
        raise WorkerFailed(str(error)) from error
    inference.close()


if __name__ == "__main__":
    run(main)
