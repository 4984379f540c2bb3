import pytest
import torch

from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import SlotTable, link_bytes
from pipeline.messages import FrameFormat
from pipeline.processors.frame_tensors import FrameTensors, host_tensors
from pipeline.processors.protocol import ProcessorError

CPU = torch.device("cpu")
FORM = FrameFormat(16, 16)
ALL_VALUES = bytes(range(256)) * 3


@pytest.fixture
def slots(slab_fd):
    return SlotTable(Slab(slab_fd(link_bytes(3, FORM.nbytes))), 3, FORM.nbytes).slots


@pytest.fixture
def tensors(slots):
    return FrameTensors(host_tensors(slots, FORM), CPU)


def test_a_picture_is_comfyuis_image(slots, tensors):
    slots[0].data[:] = ALL_VALUES
    image = tensors.load(slots[0])
    assert image.shape == (1, 16, 16, 3)
    assert image.dtype == torch.float32
    assert (float(image.min()), float(image.max())) == (0, 1)


def test_rows_columns_and_channels_stay_where_they_are(slots, tensors):
    row, column, channel = 3, 5, 1
    slots[0].data[(row * 16 + column) * 3 + channel] = 255
    assert tensors.load(slots[0]).nonzero().tolist() == [[0, row, column, channel]]


def test_all_256_values_come_back_as_they_were(slots, tensors):
    slots[0].data[:] = ALL_VALUES
    tensors.store(tensors.load(slots[0]).clone(), slots[2])
    assert bytes(slots[2].data) == ALL_VALUES


def test_a_picture_passed_through_itself_comes_back_as_it_was(slots, tensors):
    """The identity gives back the very buffer that `load` filled."""
    slots[0].data[:] = ALL_VALUES
    tensors.store(tensors.load(slots[0]), slots[0])
    assert bytes(slots[0].data) == ALL_VALUES


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_processors_may_work_in_another_precision(slots, tensors, dtype):
    tensors.store(torch.full((1, 16, 16, 3), 0.5, dtype=dtype), slots[0])
    assert set(slots[0].data) == {128}


@pytest.mark.parametrize(("value", "stored"), [(-0.5, 0), (1.5, 255), (254.6 / 255, 255), (float("inf"), 255)])
def test_values_are_rounded_and_kept_in_range(slots, tensors, value, stored):
    tensors.store(torch.full((1, 16, 16, 3), value), slots[0])
    assert set(slots[0].data) == {stored}


def test_only_the_slot_that_is_meant_is_written(slots, tensors):
    for slot in slots:
        slot.data[:] = ALL_VALUES
    tensors.store(torch.zeros(1, 16, 16, 3), slots[1])
    assert [bytes(slot.data) == ALL_VALUES for slot in slots] == [True, False, True]


def test_a_view_that_is_not_contiguous_is_stored_right(slots, tensors):
    slots[0].data[:] = ALL_VALUES
    flipped = tensors.load(slots[0]).flip(1).permute(0, 2, 1, 3)
    tensors.store(flipped.permute(0, 2, 1, 3).flip(1), slots[1])
    assert bytes(slots[1].data) == ALL_VALUES


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "NoneType; needed: a tensor"),
        ([1.0], "list; needed: a tensor"),
        (torch.zeros(16, 16, 3), r"float32 \(16, 16, 3\); needed: float \(1, 16, 16, 3\)"),
        (torch.zeros(1, 3, 16, 16), r"\(1, 3, 16, 16\)"),
        (torch.zeros(2, 16, 16, 3), r"\(2, 16, 16, 3\)"),
        (torch.zeros(1, 16, 16, 3, dtype=torch.uint8), "uint8"),
    ],
    ids=["nothing", "list", "no batch", "channels first", "two pictures", "uint8"],
)
def test_what_is_no_picture_is_refused_with_what_is_needed(tensors, image, said):
    with pytest.raises(ProcessorError, match=said):
        tensors.check(image)


def test_a_picture_that_was_checked_can_be_stored(slots, tensors):
    """Whatever `store` cannot take, `check` must refuse: behind it a failure costs the process and not the frame."""
    elsewhere = torch.empty((1, 16, 16, 3), device="meta")
    with pytest.raises(ProcessorError, match="meta"):
        tensors.check(elsewhere)


def test_nothing_but_the_picture_is_made_per_frame(slots, tensors):
    assert tensors.load(slots[0]).data_ptr() == tensors.load(slots[1]).data_ptr()
