"""Uploads and downloads. The emulated driver carries a copy out only when it is waited for, so these tests see a frame
that is handed over too early; how fast and how concurrent the copies are only a GPU can show."""

import numpy as np
import pytest

from pipeline.memory.cuda_driver import CudaDriver, CudaError
from pipeline.memory.cuda_slab import CudaSlab, allocate
from pipeline.memory.slab import page_aligned
from pipeline.memory.staging import Downloader, Uploader
from tests.memory import emulated_driver

SHAPE = (18, 34, 3)
NBYTES = 18 * 34 * 3
STRIDE = page_aligned(NBYTES)
SLOTS = 3
FRAME = np.resize(np.arange(251, dtype=np.uint8), SHAPE)


@pytest.fixture
def slab(open_slab):
    return open_slab(SLOTS * STRIDE)


@pytest.fixture
def uploader(slab):
    uploader = Uploader(slab, SHAPE, STRIDE)
    yield uploader
    uploader.close()


@pytest.fixture
def downloader(slab):
    downloader = Downloader(slab, SHAPE, STRIDE)
    yield downloader
    downloader.close()


def test_a_frame_is_in_its_slot_when_upload_returns(slab, uploader, read):
    uploader.pixels[:] = FRAME
    uploader.upload(1)
    assert read(slab.pointer + STRIDE, NBYTES) == FRAME.tobytes()


def test_only_the_slot_that_is_meant_is_written(slab, uploader, read):
    uploader.pixels[:] = 255
    uploader.upload(1)
    assert read(slab.pointer, SLOTS * STRIDE) == bytes(STRIDE) + b"\xff" * NBYTES + bytes(2 * STRIDE - NBYTES)


def test_the_next_frame_may_be_drawn_as_soon_as_upload_returns(slab, uploader, read):
    uploader.pixels[:] = FRAME
    uploader.upload(0)
    uploader.pixels[:] = 0
    assert read(slab.pointer, NBYTES) == FRAME.tobytes()


def test_a_frame_is_in_the_pixels_when_download_returns(slab, downloader, write):
    write(slab.pointer + 2 * STRIDE, FRAME.tobytes())
    assert np.array_equal(downloader.download(2), FRAME)


def test_a_slot_may_be_overwritten_as_soon_as_download_returns(slab, downloader, write):
    write(slab.pointer, FRAME.tobytes())
    pixels = downloader.download(0)
    write(slab.pointer, bytes(NBYTES))
    assert np.array_equal(pixels, FRAME)


def test_every_frame_uses_the_same_buffer(downloader):
    first = downloader.download(0)
    assert downloader.download(1) is first
    assert first is downloader.pixels


def test_the_pixels_are_a_picture_that_libraries_take_as_it_is(uploader):
    pixels = uploader.pixels
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous, pixels.flags.writeable) == (
        SHAPE,
        np.uint8,
        True,
        True,
    )


def test_what_goes_up_comes_down(uploader, downloader):
    for index in range(SLOTS):
        uploader.pixels[:] = FRAME + index
        uploader.upload(index)
    for index in range(SLOTS):
        assert np.array_equal(downloader.download(index), FRAME + index)


def test_a_slot_that_is_not_in_the_slab_is_refused(uploader, downloader):
    for index in (-1, 10**6):
        with pytest.raises(IndexError):
            uploader.upload(index)
        with pytest.raises(IndexError):
            downloader.download(index)


# What only the order of the calls can show


@pytest.fixture
def emulated_slab(emulated):
    with CudaDriver(0) as driver:
        allocation = allocate(driver, SLOTS * STRIDE, "vmm")
        slab = CudaSlab(driver, allocation.handle)
        yield slab
        slab.close()
        allocation.close()


def test_a_frame_costs_one_copy_and_one_wait_for_it(emulated, emulated_slab):
    uploader, downloader = Uploader(emulated_slab, SHAPE, STRIDE), Downloader(emulated_slab, SHAPE, STRIDE)
    emulated.calls.clear()
    for index in (0, 1):
        uploader.upload(index)
        downloader.download(index)
    assert emulated.calls == 2 * [
        "cuMemcpyHtoDAsync",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuMemcpyDtoHAsync",
        "cuEventRecord",
        "cuEventSynchronize",
    ]
    uploader.close()
    downloader.close()


def test_the_stream_waits_for_no_other_and_the_thread_sleeps(emulated, emulated_slab):
    uploader = Uploader(emulated_slab, SHAPE, STRIDE)
    (stream,) = (stream for number, stream in emulated.streams.items() if number)
    (event,) = emulated.events.values()
    assert stream.flags == emulated_driver.CUstream_flags.CU_STREAM_NON_BLOCKING
    assert event.flags == (
        emulated_driver.CUevent_flags.CU_EVENT_BLOCKING_SYNC | emulated_driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
    )
    uploader.close()


def test_closing_twice_frees_once(emulated, emulated_slab):
    for end in (Uploader(emulated_slab, SHAPE, STRIDE), Downloader(emulated_slab, SHAPE, STRIDE)):
        end.close()
        end.close()
    assert emulated.calls.count("cuMemFreeHost") == emulated.calls.count("cuMemHostAlloc") == 2


@pytest.mark.parametrize("call", ["cuMemHostAlloc", "cuStreamCreate", "cuEventCreate"])
def test_an_end_that_cannot_be_made_leaves_nothing_behind(emulated, emulated_slab, call):
    before = emulated_driver.left()
    emulated.failing[call] = emulated_driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(CudaError, match=f"{call}: CUDA_ERROR_OUT_OF_MEMORY"):
        Uploader(emulated_slab, SHAPE, STRIDE)
    assert emulated_driver.left() == before


def test_a_frame_that_cannot_be_copied_is_an_error_and_no_black_frame(emulated, emulated_slab):
    uploader = Uploader(emulated_slab, SHAPE, STRIDE)
    emulated.failing["cuEventSynchronize"] = emulated_driver.CUresult.CUDA_ERROR_UNKNOWN
    with pytest.raises(CudaError, match="cuEventSynchronize"):
        uploader.upload(0)
    emulated.failing.clear()
    emulated_slab.driver.call("cuCtxSynchronize")
    uploader.close()
