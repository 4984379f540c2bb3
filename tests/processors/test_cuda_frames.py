"""Slots in GPU memory as pictures. What is computed is checked with tensors in host memory; that the tensors are the
slab's memory, and that `store` waits, is for the tests marked `gpu` to show."""

import numpy as np
import pytest
import torch

from pipeline.boot import FrameFormat
from pipeline.memory.allocator import Allocator
from pipeline.memory.cuda_driver import CudaDriver, CudaUnavailable
from pipeline.memory.cuda_handle import slab_bytes
from pipeline.memory.cuda_slab import CudaSlab
from pipeline.memory.slab import Slab, page_aligned
from pipeline.memory.slot_table import ProducerTable, link_bytes
from pipeline.processors.cuda_frames import CudaFrames, slot_tensors
from pipeline.processors.errors import ProcessorError

FORM = FrameFormat(16, 16)
SLOTS = 3
ALL_VALUES = bytes(range(256)) * 3
STRIDE = page_aligned(FORM.nbytes)


@pytest.fixture
def slots(slab_fd):
    """The slots of a link as the table hands them out; only their numbers matter here."""
    table = ProducerTable(Slab(slab_fd(link_bytes(SLOTS, FORM.nbytes))), SLOTS, FORM.nbytes)
    for seq, slot in enumerate(table.slots):
        table.begin(slot, seq, 0, 0, 0, owner=1, width=FORM.width, height=FORM.height)
    return table.slots


@pytest.fixture
def pixels():
    return [torch.zeros(FORM.shape, dtype=torch.uint8) for _ in range(SLOTS)]


@pytest.fixture
def frames(pixels):
    return CudaFrames([p.view(-1) for p in pixels], FORM)


def all_values():
    return torch.frombuffer(bytearray(ALL_VALUES), dtype=torch.uint8).view(FORM.shape)


def test_a_picture_is_comfyuis_image(slots, pixels, frames):
    pixels[1].copy_(all_values())
    image = frames.load(slots[1])
    assert (image.shape, image.dtype) == ((1, 16, 16, 3), torch.float32)
    assert torch.equal(image[0], all_values().float() * (1 / 255))


def test_all_256_values_come_back_as_they_were(slots, pixels, frames):
    pixels[0].copy_(all_values())
    frames.store(frames.load(slots[0]), slots[2])
    assert torch.equal(pixels[2], all_values())
    assert not pixels[1].any()


@pytest.mark.parametrize(("value", "stored"), [(-0.5, 0), (1.5, 255), (254.6 / 255, 255)])
def test_values_are_rounded_and_kept_in_range(slots, pixels, frames, value, stored):
    frames.store(torch.full((1, 16, 16, 3), value), slots[0])
    assert pixels[0].unique().tolist() == [stored]


def test_what_is_no_picture_is_refused(frames):
    with pytest.raises(ProcessorError, match=r"float32 \(1, 3, 16, 16\); needed: float \(1, height, width, 3\)"):
        frames.check(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ProcessorError, match="meta"):
        frames.check(torch.empty((1, 16, 16, 3), device="meta"))


def test_nothing_but_the_picture_is_made_per_frame(slots, frames):
    assert frames.load(slots[0]).data_ptr() == frames.load(slots[1]).data_ptr()


# On a GPU


@pytest.fixture(params=["ipc", "vmm"])
def slab(request):
    try:
        driver = CudaDriver(0)
    except CudaUnavailable as problem:
        pytest.skip(f"no CUDA device: {problem}")
    if not torch.cuda.is_available():
        pytest.skip(f"no CUDA device: torch {torch.__version__} sees none")
    with driver, Allocator(0, request.param, {"slab": slab_bytes(SLOTS, FORM.nbytes)}) as allocator:
        slab = CudaSlab(driver, allocator.handles["slab"])
        yield slab
        slab.close()


def on_device(slab, index):
    """What is in the slot just now, seen past torch."""
    found = np.empty(FORM.nbytes, np.uint8)
    slab.driver.call("cuMemcpyDtoH", found.ctypes.data, slab.slot_pointer(index, STRIDE, FORM.nbytes), FORM.nbytes)
    return found


@pytest.mark.gpu
def test_a_tensor_is_the_slots_own_memory(slab):
    tensors = slot_tensors(slab, SLOTS, FORM)
    for index, tensor in enumerate(tensors):
        assert tensor.data_ptr() == slab.slot_pointer(index, STRIDE, FORM.nbytes)
        assert (tensor.shape, tensor.dtype, str(tensor.device)) == ((FORM.nbytes,), torch.uint8, "cuda:0")
        tensor.fill_(index + 1)
    torch.cuda.synchronize()
    assert [set(on_device(slab, index).tolist()) for index in range(SLOTS)] == [{1}, {2}, {3}]


@pytest.mark.gpu
def test_a_frame_is_in_its_slot_when_store_returns_whatever_the_stream_was_busy_with(slots, slab):
    frames = CudaFrames(slot_tensors(slab, SLOTS, FORM), FORM)
    image = torch.empty((1, *FORM.shape), device="cuda:0")
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)  # About 0.1 s.
        image.fill_(1.0)
        frames.store(image, slots[1])
        assert on_device(slab, 1).min() == 255


@pytest.mark.gpu
def test_all_256_values_come_back_from_the_device_as_they_were(slots, slab):
    tensors = slot_tensors(slab, SLOTS, FORM)
    tensors[0].copy_(all_values().view(-1))
    frames = CudaFrames(tensors, FORM)
    frames.store(frames.load(slots[0]), slots[2])
    assert on_device(slab, 2).tobytes() == ALL_VALUES
