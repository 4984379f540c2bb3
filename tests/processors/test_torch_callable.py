import sys
import weakref

import numpy as np
import pytest
import torch

from pipeline.media.pcm import Pcm
from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity, Heard
from pipeline.processors.torch_callable import TorchCallable

OPS = "pipeline.processors.torch_ops"
FRAME = FrameIdentity("main", epoch=0, seq=7, pts=21_000)
PICTURE = torch.rand((1, 32, 48, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["invert", "edges", "blur", "posterize", "identity"])
def test_a_built_in_gives_a_picture_of_the_same_size_in_range(name: str) -> None:
    processor = TorchCallable(f"{OPS}:{name}", {})
    processor.load(torch.device("cpu"))

    result = processor.process(PICTURE.clone(), FRAME)

    assert result.shape == PICTURE.shape
    assert result.dtype == torch.float32
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


def test_parameters_are_passed_and_can_be_changed() -> None:
    processor = TorchCallable(f"{OPS}:posterize", {"levels": 2})
    processor.load(torch.device("cpu"))
    assert processor.process(PICTURE, FRAME).unique().tolist() == [0.0, 1.0]

    processor.update({"levels": 3})

    assert processor.process(PICTURE, FRAME).unique().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("target", "params", "said"),
    [
        ("no_such_module:f", {}, "cannot import no_such_module"),
        (f"{OPS}:edgez", {}, "has no edgez; it has"),
        (f"{OPS}:blur", {"radios": 3}, "parameters that it takes: radius"),
    ],
)
def test_a_wrong_callable_or_parameter_is_refused_with_what_there_is(target: str, params: dict, said: str) -> None:
    with pytest.raises(ProcessorError, match=said):
        TorchCallable(target, params).load(torch.device("cpu"))


ODD = """
import asyncio

import torch

from pipeline.processors.protocol import Result

kept = []
waiting = []
NUMBER = 3


class Gain:
    def __init__(self, gain=1.0):
        self.gain = gain
        kept.append(self)

    def __call__(self, image):
        return image * self.gain


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, image):
        return self.drop(image)


class Weightless:
    def __init__(self):
        raise FileNotFoundError("weights.pt")


class Adjustable:
    def __init__(self, gain: float = 1.0):
        self.gain = gain
        kept.append(self)

    def update(self, gain: float):
        if gain < 0:
            raise ValueError("below 0")
        self.gain = gain

    async def __call__(self, image):
        return image * self.gain


class Ear(Gain):
    def audio(self, samples):
        if samples.shape[1] == 1:
            return "one sample"
        if samples.shape[1] == 2:
            return None
        if samples.shape[1] == 3:
            return samples.sum()
        return samples * self.gain


async def identified(image, frame, offset: int = 0):
    return Result(image, (f"{frame.stream} {frame.seq + offset}",))


async def gathers(image, parties: int = 2):
    # Ends when so many are under way.
    waiting.append(asyncio.get_running_loop().create_future())
    if len(waiting) == parties:
        for each in waiting:
            each.set_result(None)
    await waiting[-1]
    return image + 1


def one_for_all(image):
    return image[:1]


def no_image():
    return None


def uncompilable(image):
    torch._dynamo.graph_break()
    raise RuntimeError("never")
"""


@pytest.fixture
def odd(tmp_path, monkeypatch) -> str:
    """A module of the user's own."""
    (tmp_path / "odd_processors.py").write_text(ODD)
    (tmp_path / "broken_processors.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "odd_processors"
    sys.modules.pop("odd_processors", None)


def loaded(target: str, params: dict | None = None) -> TorchCallable:
    processor = TorchCallable(target, params or {})
    processor.load(torch.device("cpu"))
    return processor


def test_a_class_is_made_once_with_its_parameters(odd: str) -> None:
    processor = loaded(f"{odd}:Gain", {"gain": 0.5})
    assert torch.equal(processor.process(PICTURE, FRAME), PICTURE * 0.5)
    processor.process(PICTURE, FRAME)
    assert len(sys.modules[odd].kept) == 1


def test_a_class_is_made_anew_when_its_parameters_change(odd: str) -> None:
    processor = loaded(f"{odd}:Gain", {"gain": 0.5})
    processor.update({"gain": 0.25})
    assert torch.equal(processor.process(PICTURE, FRAME), PICTURE * 0.25)


def test_an_update_says_what_is_in_force_and_that_brings_it_back(odd: str) -> None:
    processor = loaded("pipeline.processors.torch_ops:edges", {"strength": 3.0})
    before = processor.update({})
    assert before == {"strength": 3.0, "mix": 0.5}
    shown = processor.process(PICTURE, FRAME)
    assert processor.update({"mix": 0.9}) == {"strength": 3.0, "mix": 0.9}
    assert not torch.equal(processor.process(PICTURE, FRAME), shown)
    processor.update(before)
    assert torch.equal(processor.process(PICTURE, FRAME), shown)


def test_a_class_that_can_update_itself_is_not_made_anew(odd: str) -> None:
    processor = loaded(f"{odd}:Adjustable", {"gain": 0.5})
    assert processor.update({"gain": 0.25}) == {"gain": 0.25}
    assert torch.equal(processor.process(PICTURE, FRAME), PICTURE * 0.25)
    with pytest.raises(ValueError, match="below 0"):
        processor.update({"gain": -1.0})
    assert torch.equal(processor.process(PICTURE, FRAME), PICTURE * 0.25)
    assert len(sys.modules[odd].kept) == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"radius": "wide"}, "radius: Expected `int`, got `str`"),
        ({"radius": 2.5}, "radius: Expected `int`, got `float`"),
    ],
)
def test_a_parameter_of_another_type_than_the_signatures_is_refused(params: dict, said: str) -> None:
    with pytest.raises(ProcessorError, match=said):
        loaded(f"{OPS}:blur", params)


def test_a_whole_number_will_do_for_a_float() -> None:
    assert loaded(f"{OPS}:edges", {"strength": 2}).process(PICTURE, FRAME).shape == PICTURE.shape


def test_a_callable_may_be_compiled_before_the_first_frame() -> None:
    processor = TorchCallable(f"{OPS}:posterize", {"levels": 2}, compile_mode="default")
    processor.load(torch.device("cpu"))
    processor.warm_up(32, 48)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled
    assert torch.equal(processor.process(PICTURE, FRAME), PICTURE.round())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_what_cannot_be_compiled_is_refused_before_the_first_frame(odd: str) -> None:
    processor = TorchCallable(f"{odd}:uncompilable", {}, compile_mode="default")
    processor.load(torch.device("cpu"))
    with pytest.raises(ProcessorError, match="uncompilable: cannot be compiled: RuntimeError: never"):
        processor.warm_up(32, 48)


def test_a_module_is_put_into_evaluation_mode(odd: str) -> None:
    assert torch.equal(loaded(f"{odd}:Net").process(PICTURE, FRAME), PICTURE)


@pytest.mark.parametrize("params", [{"level": 3}, {"levels": 3, "image": 1}])
def test_a_parameter_that_is_not_known_changes_nothing(params: dict) -> None:
    processor = loaded(f"{OPS}:posterize", {"levels": 2})
    with pytest.raises(ProcessorError):
        processor.update(params)
    assert processor.process(PICTURE, FRAME).unique().tolist() == [0.0, 1.0]


def test_parameters_that_are_not_named_stay() -> None:
    processor = loaded(f"{OPS}:edges", {"strength": 0.0, "mix": 0.5})
    processor.update({"mix": 0.25})
    assert torch.allclose(processor.process(PICTURE, FRAME), PICTURE * 0.75)


@pytest.mark.parametrize("name", ["NUMBER", "no_image", "Weightless"])
def test_what_cannot_process_a_picture_is_refused_before_the_first(odd: str, name: str) -> None:
    with pytest.raises(ProcessorError, match=f"{odd}:{name}"):
        loaded(f"{odd}:{name}")


def test_a_module_that_fails_at_its_import_is_refused(odd: str) -> None:
    with pytest.raises(ProcessorError, match="no licence"):
        loaded("broken_processors:f")


def test_warming_up_runs_the_processor_on_a_picture_of_that_size() -> None:
    seen = []
    processor = loaded(f"{OPS}:identity")
    processor._function = lambda image: seen.append(tuple(image.shape))
    processor.warm_up(24, 40)
    assert seen == [(1, 24, 40, 3)]


def test_closing_lets_the_processor_go(odd: str) -> None:
    processor = loaded(f"{odd}:Gain")
    instance = weakref.ref(sys.modules[odd].kept.pop())
    processor.close()
    assert instance() is None


def test_a_parameter_named_frame_gets_the_identity_and_is_none_of_the_users(odd: str) -> None:
    processor = loaded(f"{odd}:identified", {"offset": 10})
    result = processor.process(PICTURE, FRAME)
    assert result.texts == (f"{FRAME.stream} {FRAME.seq + 10}",)
    with pytest.raises(ProcessorError, match=r"parameters that it takes: offset$"):
        processor.update({"ofset": 1})
    processor.close()


def test_several_frames_of_a_coroutine_are_under_way_at_a_time(odd: str) -> None:
    processor = TorchCallable(f"{odd}:gathers", {}, in_flight=2)
    processor.load(torch.device("cpu"))
    begun = [processor.begin(PICTURE, FRAME), processor.begin(PICTURE, FRAME)]
    assert [torch.equal(each.result(10), PICTURE + 1) for each in begun] == [True, True]
    processor.close()


def test_only_a_coroutine_can_have_several_frames_under_way(odd: str) -> None:
    for target in (f"{odd}:Gain", f"{OPS}:invert"):
        with pytest.raises(ProcessorError, match="in_flight 2 needs a coroutine function: async def"):
            TorchCallable(target, {}, in_flight=2).load(torch.device("cpu"))


def sound(samples: int, channels: int = 2) -> Pcm:
    return Pcm(77, np.full((channels, samples), 0.5, np.float32))


def test_sound_goes_to_the_audio_of_an_instance(odd: str) -> None:
    processor = loaded(f"{odd}:Ear", {"gain": 0.5})
    (quieter,) = processor.hear(sound(480)).sound
    assert (quieter.pts, quieter.samples.dtype) == (77, np.float32)
    assert np.array_equal(quieter.samples, np.full((2, 480), 0.25, np.float32))


def test_a_text_lets_the_sound_go_on_and_none_is_silence(odd: str) -> None:
    processor = loaded(f"{odd}:Ear")
    one = sound(1)
    assert processor.hear(one) == Heard((one,), ("one sample",))
    assert processor.hear(sound(2)) == Heard()


def test_what_is_no_sound_is_said(odd: str) -> None:
    with pytest.raises(ProcessorError, match=r"audio gave \(\); needed: float \(1 or 2 channels, samples\)"):
        loaded(f"{odd}:Ear").hear(sound(3))
    with pytest.raises(ProcessorError, match=r"takes no sound: needed is a class with a method audio\(samples\)"):
        loaded(f"{odd}:Gain").hear(sound(3))


def test_a_range_that_the_signature_names_is_kept_to():
    processor = loaded(f"{OPS}:edges", {"mix": 0.5})
    with pytest.raises(ProcessorError, match=r"mix: Expected `float` <= 1.0"):
        processor.update({"mix": 2.0})
    assert processor.parameters()[1].max == 1


def test_pictures_of_several_streams_are_answered_one_by_one() -> None:
    frames = [FrameIdentity(name, 0, 0, 0) for name in ("a", "b", "c")]
    processor = TorchCallable(f"{OPS}:invert", {})
    processor.load(torch.device("cpu"))
    answers = processor.process_together(torch.cat([PICTURE, PICTURE / 2, PICTURE / 4]), frames)
    assert [tuple(answer.shape) for answer in answers] == [tuple(PICTURE.shape)] * 3
    assert torch.allclose(answers[1], 1 - PICTURE / 2)


def test_another_number_of_pictures_than_were_given_is_an_error(odd: str) -> None:
    processor = TorchCallable(f"{odd}:one_for_all", {})
    processor.load(torch.device("cpu"))
    with pytest.raises(ProcessorError, match=r"gave \(1, .* for 2 pictures; needed: as many"):
        processor.process_together(torch.cat([PICTURE, PICTURE]), [FRAME, FRAME])
