import pytest
import torch

from pipeline.processors import torch_ops

ALL = [torch_ops.invert, torch_ops.edges, torch_ops.blur, torch_ops.posterize, torch_ops.identity]


@pytest.fixture
def picture():
    return torch.rand((1, 24, 40, 3), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("op", ALL)
def test_the_input_is_left_as_it_was(op, picture):
    before = picture.clone()
    op(picture)
    assert torch.equal(picture, before)


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_black_and_white_give_pictures_in_range(op, grey):
    result = op(torch.full((1, 24, 40, 3), grey))
    assert result.shape == (1, 24, 40, 3)
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1


def test_inverting_twice_gives_the_picture_back(picture):
    assert torch.allclose(torch_ops.invert(torch_ops.invert(picture)), picture)


def test_edges_light_up_the_border_of_a_shape_and_nothing_else():
    picture = torch.zeros((1, 24, 40, 3))
    picture[:, :, 20:] = 1
    lit = torch_ops.edges(picture, strength=4, mix=1.0)[0, :, :, 0]
    assert lit[1:-1, 19:21].min() == 1
    assert lit[:, :19].max() == 0
    assert lit[:, 21:].max() == 0


def test_edges_without_strength_only_dim(picture):
    assert torch.allclose(torch_ops.edges(picture, strength=0, mix=0.25), picture * 0.75)


def test_a_blur_keeps_a_plain_picture_and_its_borders():
    picture = torch.full((1, 24, 40, 3), 0.25)
    assert torch.allclose(torch_ops.blur(picture, radius=3), picture)


def test_a_blur_is_the_mean_over_its_box(picture):
    blurred = torch_ops.blur(picture, radius=2)
    assert torch.allclose(blurred[0, 10, 10], picture[0, 8:13, 8:13].mean((0, 1)), atol=1e-6)


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_posterize_leaves_so_many_values(levels):
    ramp = torch.linspace(0, 1, 24 * 40 * 3).view(1, 24, 40, 3)
    assert len(torch_ops.posterize(ramp, levels).unique()) == levels


def test_the_identity_costs_nothing(picture):
    assert torch_ops.identity(picture) is picture
