"""Mild views against known answers."""

import pytest
import torch

from tta.mild_views import MOST, mild_view, moved, order


@pytest.fixture
def x():
    return torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))


def test_the_first_view_is_the_image_itself(x):
    assert mild_view(x, 0) is x


@pytest.mark.parametrize("flip", [True, False])
def test_no_view_is_there_twice(flip):
    views = order(flip)
    assert len(views) == len(set(views)) == MOST
    assert any(mirrored for mirrored, _ in views) == flip


def test_a_whole_pixel_to_the_right_repeats_the_edge(x):
    assert torch.equal(moved(x, 2, 0), torch.cat((x[..., :1], x[..., :-1]), -1))
    assert torch.equal(moved(x, -2, 0), torch.cat((x[..., 1:], x[..., -1:]), -1))
    assert torch.equal(moved(x, 0, 4), torch.cat((x[..., :1, :], x[..., :1, :], x[..., :-2, :]), -2))


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (5, -3)])
def test_half_a_pixel_is_the_mean_of_both_sides(x, right, down):
    sides = [moved(x, right + i * (right % 2), down + j * (down % 2)) for i in (-1, 1) for j in (-1, 1)]
    torch.testing.assert_close(moved(x, right, down), torch.stack(sides).mean(0))


def test_views_of_grey_images_keep_shape_and_type():
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    for number in range(MOST):
        view = mild_view(x, number)
        assert view.shape == x.shape
        assert view.dtype == x.dtype
        assert x.min() <= view.min() <= view.max() <= x.max()
