import pytest
import torch

from pipeline.boot import FrameFormat
from pipeline.memory.slab import Slab
from pipeline.memory.slot_table import ProducerTable, link_bytes
from pipeline.processors.errors import ProcessorError
from pipeline.processors.frame_tensors import FrameTensors, host_tensors

CPU = torch.device("cpu")
FORM = FrameFormat(16, 16)
ALL_VALUES = bytes(range(256)) * 3


@pytest.fixture
def table(slab_fd):
    return ProducerTable(Slab(slab_fd(link_bytes(3, FORM.nbytes))), 3, FORM.nbytes)


@pytest.fixture
def slots(table):
    """Each with a picture of the full size under way."""
    for seq, slot in enumerate(table.slots):
        table.begin(slot, seq, 0, 0, 0, owner=1, width=16, height=16)
    return table.slots


@pytest.fixture
def tensors(slots):
    return FrameTensors(host_tensors(slots), FORM, CPU)


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
        (torch.zeros(16, 16, 3), r"float32 \(16, 16, 3\); needed: float \(1, height, width, 3\)"),
        (torch.zeros(1, 3, 16, 16), r"\(1, 3, 16, 16\)"),
        (torch.zeros(2, 16, 16, 3), r"\(2, 16, 16, 3\)"),
        (torch.zeros(1, 16, 16, 3, dtype=torch.uint8), "uint8"),
        (
            torch.zeros(1, 16, 18, 3),
            "18x16; needed: even sides, and at most 16x16 pixels in all, .* `max_frame`",
        ),
        (torch.zeros(1, 7, 8, 3), "8x7; needed: even sides"),
        (torch.zeros(1, 0, 16, 3), "16x0"),
    ],
    ids=["nothing", "list", "no batch", "channels first", "two pictures", "uint8", "too large", "odd", "empty"],
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


@pytest.mark.parametrize(("width", "height"), [(8, 16), (16, 8), (32, 8), (2, 2)])
def test_a_picture_of_another_size_lies_at_the_slots_start(table, tensors, width, height):
    slot, image = table.slots[1], torch.rand(1, height, width, 3)
    table.begin(slot, 0, 0, 0, 0, owner=1, width=width, height=height)

    tensors.check(image)
    tensors.store(image, slot)

    assert tensors.load(slot).shape == (1, height, width, 3)
    assert float((tensors.load(slot) - image).abs().max()) <= 0.5 / 255 + 1e-6
    assert set(slot.data[height * width * 3 :]) <= {0}


def test_sizes_may_come_and_go(table, slots, tensors):
    slots[0].data[:] = ALL_VALUES
    table.begin(slots[1], 3, 0, 0, 0, owner=1, width=4, height=4)
    tensors.store(torch.ones(1, 4, 4, 3), slots[1])
    assert tensors.load(slots[1]).unique().tolist() == [1.0]
    assert bytes((tensors.load(slots[0]) * 255).round().to(torch.uint8).flatten().tolist()) == ALL_VALUES
