"""Programs saved by torch, as processors."""

import pytest
import torch

from pipeline.processors.errors import ProcessorError
from pipeline.processors.protocol import FrameIdentity
from pipeline.processors.torch_file import TorchFile

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

CPU = torch.device("cpu")
FRAME = FrameIdentity("main", epoch=0, seq=7, pts=21_000)
PICTURE = torch.rand((1, 8, 8, 3), generator=torch.Generator().manual_seed(1))


class Negative(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 1 - image


@pytest.fixture
def saved(tmp_path):
    script, exported = tmp_path / "script.pt", tmp_path / "exported.pt2"
    torch.jit.save(torch.jit.trace(Negative(), PICTURE), str(script))
    torch.export.save(torch.export.export(Negative(), (PICTURE,)), exported)
    return {"TorchScript": str(script), "exported program": str(exported)}


@pytest.mark.parametrize("kind", ["TorchScript", "exported program"])
def test_a_saved_program_processes_pictures(saved, kind):
    processor = TorchFile(saved[kind])
    processor.load(CPU)
    processor.warm_up(8, 8)
    assert torch.equal(processor.process(PICTURE, FRAME), 1 - PICTURE)
    processor.close()


def test_a_picture_that_the_program_cannot_take_is_found_before_the_first_frame(saved):
    processor = TorchFile(saved["exported program"])
    processor.load(CPU)
    with pytest.raises(ProcessorError, match=r"exported.pt2: does not take a picture of 32x16"):
        processor.warm_up(16, 32)


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (b"weights", "no TorchScript and no exported")])
def test_what_is_no_program_is_one_line(tmp_path, content, said):
    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProcessorError, match=f"model.pt: {said}") as caught:
        TorchFile(str(path)).load(CPU)
    assert "\n" not in str(caught.value)


def test_a_state_dict_is_no_program(tmp_path):
    torch.save({"weight": PICTURE}, tmp_path / "weights.pt")
    with pytest.raises(ProcessorError, match=r"weights.pt: no TorchScript"):
        TorchFile(str(tmp_path / "weights.pt")).load(CPU)


def test_it_takes_no_parameters(saved):
    with pytest.raises(ProcessorError, match="a saved program takes no parameters"):
        TorchFile(saved["TorchScript"]).update({"strength": 1})
