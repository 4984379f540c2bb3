"""Inference: frames in, processed frames out. The only process that imports torch."""

import os
import time
from collections.abc import Sequence

import torch

from pipeline.link import LinkWriter, open_reader
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slot_table import Outcome, Slot
from pipeline.memory.stage_stats import Span, Word
from pipeline.messages import LinkBoot, WorkerBoot
from pipeline.processors.cuda_frames import CudaFrames, slot_tensors
from pipeline.processors.frame_tensors import FrameTensors, host_tensors
from pipeline.processors.protocol import ProcessorError
from pipeline.processors.torch_callable import TorchCallable
from pipeline.topology import Inference as InferenceSpec
from pipeline.worker import Worker, WorkerRefused, run

REPORT_SECONDS = 1.0
"""A processor that fails on every frame is reported once in this time, with the count."""


class Inference:
    def __init__(self, worker: Worker, device: torch.device, processor: TorchCallable) -> None:
        boot = worker.boot
        assert boot.input is not None
        assert boot.output is not None
        self._worker = worker
        self._stats = worker.stats
        self._processor = processor
        self._reader = open_reader(boot.input, owner=boot.incarnation)
        self._writer = LinkWriter(boot.output, owner=boot.incarnation)
        self._incoming = _open_frames(boot.input, self._reader.table.slots, device)
        self._outgoing = _open_frames(boot.output, self._writer.table.slots, device)
        self._reported = 0.0
        self._errors = 0

    def run_forever(self) -> None:
        """Until decode has ended and every frame was handed on."""
        with torch.inference_mode():
            while not self._reader.drained:
                slot = self._reader.take()
                if slot is not None:
                    self._serve(slot)
        self._writer.end()

    def close(self) -> None:
        self._processor.close()
        self._reader.close()
        self._writer.close()

    def _serve(self, slot: Slot) -> None:
        self._stats.add(Word.UNITS_IN)
        self._stats.busy()
        try:
            image = self._processor.process(self._incoming.load(slot))
            self._outgoing.check(image)
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises costs one frame
            self._reader.release(slot, Outcome.PROCESSOR_ERROR)
            self._report(error)
            self._stats.idle()
            return
        self._stats.idle()
        target = self._acquire(slot)
        self._outgoing.store(image, target)
        self._writer.publish(target)
        self._stats.record(Span.STAGE, time.monotonic_ns() - slot.ready_ns)
        self._stats.out()
        self._reader.release(slot, Outcome.DELIVERED)

    def _acquire(self, slot: Slot) -> Slot:
        """A slot for the result. With none free this waits for egress: what was processed is not thrown away."""
        while True:
            target = self._writer.acquire(seq=slot.seq, pts=slot.pts, epoch=slot.epoch, arrived_ns=slot.arrived_ns)
            if target is not None:
                return target
            self._worker.check_abandoned()

    def _report(self, error: Exception) -> None:
        self._errors += 1
        now = time.monotonic()
        if now - self._reported > REPORT_SECONDS:
            self._reported = now
            self._worker.error("processor_error", problem=f"{type(error).__name__}: {error}", count=self._errors)


def _open_frames(boot: LinkBoot, slots: Sequence[Slot], device: torch.device) -> FrameTensors:
    """A link's slots as tensors."""
    if boot.cuda is None:
        return FrameTensors(host_tensors(slots, boot.format), device)
    slab = CudaSlab(CudaDriver(boot.cuda.device), boot.cuda)
    return CudaFrames(slot_tensors(slab, boot.slots, boot.format))


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


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, InferenceSpec)
    torch.set_num_threads(spec.processor.threads or max(1, (os.cpu_count() or 1) // 2))
    device = choose_device(worker.boot.device)
    _check_memory(worker.boot, device)
    processor = TorchCallable(spec.processor.callable, spec.processor.params)
    try:
        processor.load(device)
    except ProcessorError as error:
        raise WorkerRefused(f"stages.{worker.boot.stage}.processor.callable: {error}") from error
    with torch.inference_mode():
        try:
            processor.warm_up(worker.boot.frame.height, worker.boot.frame.width)
        except Exception as error:  # noqa: BLE001 - live frames decide; a processor may refuse a black picture
            worker.warning("warm_up_failed", problem=f"{type(error).__name__}: {error}")
    worker.ready(f"{spec.processor.callable} on {device}")
    worker.wait_for_turn()
    inference = Inference(worker, device, processor)
    inference.run_forever()
    inference.close()


if __name__ == "__main__":
    run(main)
