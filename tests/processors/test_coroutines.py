import asyncio
import threading

import pytest
import torch

from pipeline.processors.coroutines import CoroutineThread


@pytest.fixture
def thread():
    thread = CoroutineThread("test")
    yield thread
    thread.close()


async def name_of_thread():
    return threading.current_thread().name


def test_coroutines_run_in_the_thread_and_what_they_give_comes_back(thread):
    assert thread.run(name_of_thread()) == "test"


def test_what_they_raise_comes_back(thread):
    async def fails():
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        thread.run(fails())


def test_several_are_under_way_at_a_time(thread):
    async def meet(mine, other):
        mine.set()
        await other.wait()
        return "met"

    one, two = asyncio.Event(), asyncio.Event()
    begun = [thread.begin(meet(one, two)), thread.begin(meet(two, one))]
    assert [each.result(10) for each in begun] == ["met", "met"]


def test_what_was_begun_goes_on_between_calls_and_ends_with_the_thread(thread):
    steps = []

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("ended")

    async def start():
        thread.kept = asyncio.create_task(background())
        await asyncio.sleep(0)

    thread.run(start())
    assert not steps
    thread.close()
    assert steps == ["ended"]


def test_coroutines_are_in_inference_mode(thread):
    """Else a model's parameters and the stream's pictures could not meet: autograd takes no inference tensors."""

    async def is_inference():
        return torch.is_inference_mode_enabled()

    assert thread.run(is_inference())


def test_one_that_never_ran_anything_has_no_thread():
    before = threading.active_count()
    thread = CoroutineThread("test")
    assert threading.active_count() == before
    thread.close()
