import pytest
import torch

from pipeline.processors.protocol import ProcessorError
from pipeline.processors.torch_callable import TorchCallable

OPS = "pipeline.processors.torch_ops"
PICTURE = torch.rand((1, 32, 48, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["invert", "edges", "blur", "posterize", "identity"])
def test_a_built_in_gives_a_picture_of_the_same_size_in_range(name: str) -> None:
    processor = TorchCallable(f"{OPS}:{name}", {})
    processor.load(torch.device("cpu"))

    result = processor.process(PICTURE.clone())

    assert result.shape == PICTURE.shape
    assert result.dtype == torch.float32
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


def test_parameters_are_passed_and_can_be_changed() -> None:
    processor = TorchCallable(f"{OPS}:posterize", {"levels": 2})
    processor.load(torch.device("cpu"))
    assert processor.process(PICTURE).unique().tolist() == [0.0, 1.0]

    processor.update({"levels": 3})

    assert processor.process(PICTURE).unique().tolist() == [0.0, 0.5, 1.0]


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
