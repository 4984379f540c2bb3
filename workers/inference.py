"""Inference: frames in, processed frames out. The only process that imports torch."""

import functools
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.boot import LinkBoot, WorkerBoot
from pipeline.media.pcm import SAMPLE_RATE, Pcm
from pipeline.memory.cuda_driver import CudaDriver
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slot_table import Slot
from pipeline.processors.batches import Batches
from pipeline.processors.cuda_frames import CudaFrames, slot_tensors
from pipeline.processors.errors import ProcessorError
from pipeline.processors.frame_tensors import FrameTensors, host_tensors
from pipeline.processors.guard import ProcessorGivenUp, Streak
from pipeline.processors.kinds import make_processor
from pipeline.processors.param_sets import ParamSets
from pipeline.processors.protocol import Batching, Described, Listener, Processor
from pipeline.processors.stream_work import StreamWork
from pipeline.processors.under_way import UnderWay
from pipeline.rounds import serve_streams
from pipeline.status import Parameter
from pipeline.topology import Inference as InferenceSpec
from pipeline.usable_cores import usable_cores
from pipeline.worker import Worker, WorkerFailed, WorkerRefused, run


class Inference:
    def __init__(self, worker: Worker, device: torch.device, processor: Processor, params: ParamSets) -> None:
        spec = worker.boot.spec
        assert isinstance(spec, InferenceSpec)
        self._worker = worker
        self._processor = processor
        self._params = params
        params.before_change = self._settle_all
        self._batch = spec.processor.batch
        self._together = Batches(worker, processor, params).serve if isinstance(processor, Batching) else None
        shared = Streak(), UnderWay(worker.stats), functools.partial(_open_frames, device)
        self._works = [StreamWork(worker, lane, spec.processor, processor, params, *shared) for lane in worker.lanes]

    def run_forever(self) -> None:
        """Until every stream was handed on, and no other comes."""
        for work in self._works:
            work.tape.begin(work.writer.table.last_pts)
        with torch.inference_mode():
            serve_streams(self._worker, self._works, self._update, self._together, self._batch)

    def close(self) -> None:
        self._processor.close()
        for work in self._works:
            work.close()

    def _settle_all(self) -> None:
        for work in self._works:
            work.settle_all()

    def _update(self) -> None:
        """A change of parameters takes effect between two frames."""
        stats = self._worker.stats
        while (order := self._worker.next_update()) is not None:
            self._settle_all()
            stats.busy()
            if self._params.apply(order) is not None:
                for work in self._works:
                    work.tape.was_changed(order, work.last_pts)
            stats.idle()


def described(processor: Processor) -> list[Parameter] | None:
    """The processor's parameters for forms, if it knows them."""
    return processor.parameters() if isinstance(processor, Described) else None


def _open_frames(device: torch.device, boot: LinkBoot, slots: Sequence[Slot], pictures: int) -> FrameTensors:
    """A link's slots as tensors, of which so many `pictures` are good at a time."""
    if boot.cuda is None:
        return FrameTensors(host_tensors(slots), boot.format, device, pictures)
    slab = CudaSlab(CudaDriver(boot.cuda.device), boot.cuda)
    return CudaFrames(slot_tensors(slab, boot.slots, boot.format), boot.format, pictures)


def choose_device(wanted: str, key: str) -> torch.device:
    """The device that the topology names under `key`. Raises WorkerRefused when this machine does not have it."""
    available = torch.cuda.device_count()
    if wanted == "auto":
        return torch.device("cuda:0" if available else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= available:
        raise WorkerRefused(f"{key}: {wanted} is not there; torch {torch.__version__} sees {available} CUDA devices")
    return device


def _check_memory(boot: WorkerBoot, device: torch.device) -> None:
    """Raises WorkerRefused when the frames lie on another device than the processor's."""
    cuda = boot.lanes[0].input.cuda
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
            if worker.boot.lanes[0].samples_endpoint is not None:
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
    torch.set_num_threads(spec.processor.threads or max(1, int(usable_cores()) // 2 // spec.pool_size))
    device = choose_device(worker.boot.device, f"{worker.boot.section}.devices" if spec.devices else "device")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Processors, and whatever they load, may say no more than "cuda".
    _check_memory(worker.boot, device)
    processor = make_processor(spec.processor)
    try:
        processor.load(device)
        params = ParamSets(worker, processor, spec.processor.kind, spec.processor.params)
        params.load_own()
        _warm_up(worker, processor)
    except ProcessorError as error:
        raise WorkerRefused(f"{worker.boot.section}.processor.{spec.processor.kind}: {error}") from error
    worker.ready(f"{spec.processor.target} on {device}", described(processor))
    worker.wait_for_turn(params.apply, params.follow)
    inference = Inference(worker, device, processor, params)
    try:
        inference.run_forever()
    except ProcessorGivenUp as error:
        raise WorkerFailed(str(error)) from error
    inference.close()


if __name__ == "__main__":
    run(main)
