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
from pipeline.messages import LinkBoot, Update, WorkerBoot
from pipeline.processors.cuda_frames import CudaFrames, slot_tensors
from pipeline.processors.errors import ProcessorError
from pipeline.processors.frame_tensors import FrameTensors, host_tensors
from pipeline.processors.guard import Guard, ProcessorGivenUp
from pipeline.processors.kinds import make_processor
from pipeline.processors.protocol import FrameIdentity, Processor
from pipeline.topology import Inference as InferenceSpec
from pipeline.worker import Worker, WorkerFailed, WorkerRefused, run


class Inference:
    def __init__(self, worker: Worker, device: torch.device, processor: Processor) -> None:
        boot = worker.boot
        assert boot.input is not None
        assert boot.output is not None
        assert isinstance(boot.spec, InferenceSpec)
        self._worker = worker
        self._stats = worker.stats
        self._processor = processor
        self._passes_through = boot.spec.processor.on_error == "pass_through"
        self._reader = open_reader(boot.input, owner=boot.incarnation)
        self._writer = LinkWriter(boot.output, owner=boot.incarnation)
        self._incoming = _open_frames(boot.input, self._reader.table.slots, device)
        self._outgoing = _open_frames(boot.output, self._writer.table.slots, device)
        self._guard = Guard(processor, self._outgoing.check, worker.error, boot.spec.processor.give_up_after)

    def run_forever(self) -> None:
        """Until decode has ended, every frame was handed on, and no other stream comes."""
        with torch.inference_mode():
            self._run_stream()
            while self._worker.wait_for_stream(self._update):
                self._run_stream()

    def _run_stream(self) -> None:
        """Until decode has ended and every frame was handed on."""
        while not self._reader.drained:
            self._update()
            slot = self._reader.take()
            if slot is not None:
                self._update()
                self._serve(slot)
        self._writer.end()

    def close(self) -> None:
        self._processor.close()
        self._reader.close()
        self._writer.close()

    def _serve(self, slot: Slot) -> None:
        self._stats.add(Word.UNITS_IN)
        self._stats.busy()
        identity = FrameIdentity(self._worker.stream, slot.epoch, slot.seq, slot.pts)
        result = self._guard.process(self._incoming.load(slot), identity)
        self._stats.idle()
        if result is None:
            self._stand_in(slot)
            return
        for text in result.texts:
            self._worker.info("text", seq=slot.seq, pts=slot.pts, text=text)
        if result.image is None:
            self._reader.release(slot, Outcome.WITHHELD)
            return
        self._hand_on(slot, result.image)
        self._stats.record(Span.STAGE, time.monotonic_ns() - slot.ready_ns)

    def _stand_in(self, slot: Slot) -> None:
        """The frame could not be processed: what viewers see in its place is counted as that, and not as delivered."""
        if self._passes_through:
            self._hand_on(slot, self._incoming.load(slot), Outcome.PROCESSOR_ERROR)
        else:
            target = self._acquire(slot, 0, 0, Outcome.PROCESSOR_ERROR)  # The picture before it is shown again.
            self._publish(slot, target)

    def _hand_on(self, slot: Slot, image: torch.Tensor, verdict: Outcome = Outcome.DELIVERED) -> None:
        target = self._acquire(slot, image.shape[2], image.shape[1], verdict)
        self._outgoing.store(image, target)
        self._publish(slot, target)

    def _publish(self, slot: Slot, target: Slot) -> None:
        self._writer.publish(target)
        self._stats.out()
        self._reader.release(slot, Outcome.DELIVERED)

    def _acquire(self, slot: Slot, width: int, height: int, verdict: Outcome) -> Slot:
        """A slot for the result. With none free this waits for egress: what was processed is not thrown away."""
        while True:
            target = self._writer.acquire(
                seq=slot.seq,
                pts=slot.pts,
                epoch=slot.epoch,
                arrived_ns=slot.arrived_ns,
                width=width,
                height=height,
                verdict=verdict,
            )
            if target is not None:
                return target
            self._worker.check_abandoned()

    def _update(self) -> None:
        while (order := self._worker.next_update()) is not None:
            self._stats.busy()
            apply_update(self._worker, self._processor, order)
            self._stats.idle()


def apply_update(worker: Worker, processor: Processor, order: Update) -> None:
    """Change the processor's parameters and say what came of it."""
    try:
        params = processor.update(order.params)
    except ProcessorError as error:
        worker.updated(order, None, str(error))
    except Exception as error:  # noqa: BLE001 - the user's own code; what it ran with before goes on
        worker.updated(order, None, f"{type(error).__name__}: {error}")
    else:
        worker.updated(order, params)


def _open_frames(boot: LinkBoot, slots: Sequence[Slot], device: torch.device) -> FrameTensors:
    """A link's slots as tensors."""
    if boot.cuda is None:
        return FrameTensors(host_tensors(slots), boot.format, device)
    slab = CudaSlab(CudaDriver(boot.cuda.device), boot.cuda)
    return CudaFrames(slot_tensors(slab, boot.slots, boot.format), boot.format)


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
    processor = make_processor(spec.processor)
    try:
        processor.load(device)
    except ProcessorError as error:
        raise WorkerRefused(f"stages.{worker.boot.stage}.processor.{spec.processor.kind}: {error}") from error
    with torch.inference_mode():
        try:
            processor.warm_up(worker.boot.frame.height, worker.boot.frame.width)
        except ProcessorError as error:
            raise WorkerRefused(f"stages.{worker.boot.stage}.processor.{spec.processor.kind}: {error}") from error
        except Exception as error:  # noqa: BLE001 - live frames decide; a processor may refuse a black picture
            worker.warning("warm_up_failed", problem=f"{type(error).__name__}: {error}")
    worker.ready(f"{spec.processor.target} on {device}")
    worker.wait_for_turn(lambda order: apply_update(worker, processor, order))
    inference = Inference(worker, device, processor)
    try:
        inference.run_forever()
    except ProcessorGivenUp as error:
        raise WorkerFailed(str(error)) from error
    inference.close()


if __name__ == "__main__":
    run(main)
