"""Processors written for trickle-app, without the package: with our frames of the same shape."""

import sys
from fractions import Fraction

import pytest
import torch

from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity
from pipeline.processors.trickle_app import TrickleAppProcessor

CPU = torch.device("cpu")
FRAME = FrameIdentity("main", epoch=0, seq=7, pts=21_000)
PICTURE = torch.rand((1, 8, 8, 3), generator=torch.Generator().manual_seed(1))

APP = '''
import asyncio
from trickle_app import VideoFrame, VideoOutput
from pytrickle.decorators import model_loader, on_stream_start, on_stream_stop, param_updater, video_handler
from pytrickle.frame_processor import FrameProcessor
from pytrickle.frames import VideoFrame as SameFrame

seen = []


def process_frame_with_comfyui(frame: VideoFrame) -> VideoOutput:
    """As the package's users write it."""
    seen.append((frame.timestamp, frame.time_base, tuple(frame.tensor.shape)))
    return VideoOutput(frame.replace_tensor(1 - frame.tensor), "processed-frame-id")


async def coroutine(frame):
    await asyncio.sleep(0)
    return frame.replace_tensor(frame.tensor * 0.5)


def withholds(frame):
    return None


def grey_bytes(frame):
    return (frame.tensor[0, :, :, :1] * 255).round().byte().numpy()


def wrong(frame):
    return "picture"


class Gain(FrameProcessor):
    def __init__(self):
        super().__init__()
        self.calls = []
        self.gain = 1.0
        seen.append(self)

    async def load_model(self, **kwargs):
        self.calls.append(("load_model", kwargs))
        self.gain = kwargs.get("gain", 1.0)

    async def process_video_async(self, frame):
        return frame.replace_tensor(frame.tensor * self.gain)

    async def update_params(self, params):
        self.calls.append(("update_params", params))
        if params.get("gain", 0) < 0:
            raise ValueError("gain below 0")
        self.gain = params["gain"]

    async def on_stream_start(self, params):
        self.calls.append(("on_stream_start", params))
        self.ticks = 0
        self.task = asyncio.create_task(self._tick())

    async def _tick(self):
        while True:
            self.ticks += 1
            await asyncio.sleep(0)

    async def on_stream_stop(self):
        self.task.cancel()
        self.calls.append(("on_stream_stop", self.ticks > 0))


class Handlers:
    def __init__(self):
        self.level = 0.0

    @model_loader
    async def load(self, **kwargs):
        self.level = kwargs.get("level", 0.25)

    @video_handler
    async def paint(self, frame):
        return torch_full(frame.tensor, self.level)

    @param_updater
    async def update(self, params):
        self.level = params["level"]


def torch_full(like, level):
    return like * 0 + level


class Nothing:
    pass


class Breaks(FrameProcessor):
    async def load_model(self, **kwargs):
        raise RuntimeError("no weights")
'''


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The name of a module with the processors above; the packages' names are given back afterwards."""
    name = f"app_{tmp_path.name}".replace("-", "_").replace("[", "_").replace("]", "_")
    (tmp_path / f"{name}.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] in ("trickle_app", "pytrickle", name)]:
        del sys.modules[module]


@pytest.fixture
def start():
    made = []

    def start(target, **params):
        processor = TrickleAppProcessor(target, params)
        made.append(processor)
        processor.load(CPU)
        return processor

    yield start
    for processor in made:
        processor.close()


def test_a_function_of_a_video_frame_runs_as_it_is_written(app, start):
    result = start(f"{app}:process_frame_with_comfyui").process(PICTURE, FRAME)
    assert torch.equal(result.image, 1 - PICTURE)
    assert sys.modules[app].seen == [(21_000, Fraction(1, 90_000), (1, 8, 8, 3))]


def test_a_coroutine_function_runs_too(app, start):
    assert torch.equal(start(f"{app}:coroutine").process(PICTURE, FRAME).image, PICTURE * 0.5)


def test_none_withholds_the_frame(app, start):
    assert start(f"{app}:withholds").process(PICTURE, FRAME).image is None


def test_bytes_without_a_batch_in_one_channel_are_a_picture(app, start):
    image = start(f"{app}:grey_bytes").process(PICTURE, FRAME).image
    assert image.shape == (1, 8, 8, 3)
    assert torch.allclose(image, PICTURE[..., :1].expand(-1, -1, -1, 3), atol=0.5 / 255 + 1e-6)


def test_what_is_no_picture_is_an_error(app, start):
    with pytest.raises(ProcessorError, match="gave a str; needed: a VideoFrame, a VideoOutput, a tensor or None"):
        start(f"{app}:wrong").process(PICTURE, FRAME)


def test_a_frame_processor_is_loaded_started_updated_and_stopped(app, start):
    processor = start(f"{app}:Gain", gain=0.5)
    processor.begin_stream()
    assert torch.equal(processor.process(PICTURE, FRAME).image, PICTURE * 0.5)

    assert processor.update({"gain": 0.25}) == {"gain": 0.25}
    assert torch.equal(processor.process(PICTURE, FRAME).image, PICTURE * 0.25)
    with pytest.raises(ValueError, match="gain below 0"):
        processor.update({"gain": -1})
    assert torch.equal(processor.process(PICTURE, FRAME).image, PICTURE * 0.25)
    processor.end_stream()
    processor.close()

    (gain,) = sys.modules[app].seen
    assert gain.calls == [
        ("load_model", {"gain": 0.5}),
        ("update_params", {"gain": 0.5}),
        ("on_stream_start", {"gain": 0.5}),
        ("update_params", {"gain": 0.25}),
        ("update_params", {"gain": -1}),
        ("on_stream_stop", True),
    ]


def test_decorated_handlers_are_found(app, start):
    processor = start(f"{app}:Handlers", level=0.75)
    assert processor.process(PICTURE, FRAME).image.unique().tolist() == [0.75]
    processor.update({"level": 0.125})
    assert processor.process(PICTURE, FRAME).image.unique().tolist() == [0.125]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Nothing", "nothing here processes pictures; needed: a function of a VideoFrame, a FrameProcessor"),
        ("Breaks", "cannot be loaded: RuntimeError: no weights"),
        ("gone", "has no gone; it has"),
    ],
)
def test_what_cannot_be_used_says_why(app, start, name, said):
    with pytest.raises(ProcessorError, match=said):
        start(f"{app}:{name}")


def test_one_that_takes_no_parameters_says_so(app, start):
    with pytest.raises(ProcessorError, match="takes no parameters: it has no update_params"):
        start(f"{app}:coroutine").update({"gain": 1})
