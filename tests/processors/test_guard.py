from concurrent.futures import Future

import pytest
import torch

from pipeline.processors.errors import ProcessorError
from pipeline.processors.guard import Guard, ProcessorGivenUp
from pipeline.processors.protocol import FrameIdentity, Result

IMAGE = torch.zeros(1, 2, 2, 3)


class Scripted:
    """Answers, or raises, what it is given, one a frame."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.frames = []

    def process(self, image, frame):
        self.frames.append(frame.seq)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def check(image):
    if not isinstance(image, torch.Tensor):
        raise ProcessorError(f"gave a {type(image).__name__}")


@pytest.fixture
def reports():
    return []


def run(reports, *answers, give_up_after=0):
    processor = Scripted(*answers)
    guard = Guard(processor, check, lambda name, **fields: reports.append((name, fields)), give_up_after)
    results = []
    for seq in range(len(answers)):
        if not processor.answers:
            break
        results.append(guard.process(IMAGE, FrameIdentity("main", 0, seq, 3000 * seq)))
    return results


def test_a_picture_a_result_and_nothing_are_answers(reports):
    picture, withheld, spoken = run(reports, IMAGE, None, Result(IMAGE, ("a cat",)))
    assert picture.image is IMAGE
    assert picture.texts == ()
    assert withheld == Result()
    assert spoken.texts == ("a cat",)
    assert reports == []


def test_whatever_is_raised_costs_one_frame_and_is_reported_with_its_number(reports):
    failed, fine = run(reports, ValueError("too dark"), IMAGE)
    assert failed is None
    assert fine.image is IMAGE
    assert reports == [("processor_error", {"seq": 0, "problem": "ValueError: too dark", "count": 1})]


def test_an_answer_that_is_no_picture_is_a_failure_too(reports):
    assert run(reports, "picture") == [None]
    assert reports[0][1]["problem"] == "ProcessorError: gave a str"


def test_failures_on_every_frame_are_reported_once_a_second(reports):
    assert run(reports, *[ValueError()] * 50) == [None] * 50
    assert len(reports) == 1


def test_after_enough_failures_in_a_row_it_gives_up(reports):
    with pytest.raises(ProcessorGivenUp, match="3 frames in a row: no"):
        run(reports, ValueError("a"), ValueError("b"), IMAGE, *[ValueError("no")] * 9, give_up_after=3)
    assert reports[-1][1]["count"] == 5


def test_out_of_memory_is_tried_once_more(reports):
    first = run(reports, torch.OutOfMemoryError("2 GiB\nmore lines"), IMAGE)
    assert [result.image is IMAGE for result in first] == [True]
    assert reports == [("out_of_memory", {"seq": 0, "problem": "2 GiB", "retried": "once"})]


def test_out_of_memory_again_costs_the_frame(reports):
    assert run(reports, torch.OutOfMemoryError("a"), torch.OutOfMemoryError("b")) == [None]
    assert [name for name, _ in reports] == ["out_of_memory", "processor_error"]


def test_pictures_to_be_shown_before_are_checked_too(reports):
    (result, failed) = run(reports, Result(IMAGE, (), (IMAGE,)), Result(IMAGE, (), ("no picture",)))
    assert result.before == (IMAGE,)
    assert failed is None
    assert reports[0][1]["problem"] == "ProcessorError: gave a str"


def test_a_frame_becomes_sixteen_pictures_at_most(reports):
    (most, more) = run(reports, Result(IMAGE, (), (IMAGE,) * 15), Result(IMAGE, (), (IMAGE,) * 16))
    assert len(most.before) == 15
    assert more is None
    assert reports[0][1]["problem"] == "ProcessorError: gave 17 pictures for a frame; allowed: 16"


def test_a_frame_that_was_under_way_is_settled_like_any_other(reports):
    guard = Guard(Scripted(), check, lambda name, **fields: reports.append((name, fields)), 0)
    good, bad = Future(), Future()
    good.set_result(IMAGE)
    bad.set_exception(RuntimeError("no"))
    frame = FrameIdentity("main", 0, 7, 0)
    assert guard.settle(good, frame).image is IMAGE
    assert guard.settle(bad, frame) is None
    assert reports == [("processor_error", {"seq": 7, "problem": "RuntimeError: no", "count": 1})]
