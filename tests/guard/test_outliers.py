"""The filter of outlying images: known textures, poison and noise kept apart, new domains and benign images not."""

import math

import pytest
import torch

import tta
from tta.deployment import Guard
from tta.guard.outliers import Outlying, opponents, texture


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, seed=0, channels=3):
    """Smooth pictures of several contrasts."""
    x = torch.rand(n, channels, 36, 36, generator=generator(seed))
    contrast = 1 + torch.rand(n, 1, 1, 1, generator=generator(seed + 1000))
    return ((torch.nn.functional.avg_pool2d(x, 5, 1) - 0.5) * contrast + 0.5).clamp(0, 1)


def signs(x, seed=0, eps=0.3):
    """As an attack by the signs of gradients changes images."""
    return (x + eps * (2 * torch.randint(2, x.shape, generator=generator(seed)) - 1)).clamp(0, 1)


@pytest.fixture
def outlying():
    """A filter that knows the pictures."""
    each = Outlying()
    each.begin(pictures(300))
    return each


def test_texture_of_known_images():
    flat = torch.full((1, 3, 16, 16), 0.25)
    board = flat.clone()
    board[..., ::2, ::2] += 0.1
    board[..., 1::2, 1::2] += 0.1
    stripes = flat.clone()
    stripes[..., ::2] += 0.1
    none, grey = math.log(0.01), 3**0.5
    assert texture(flat)[0, :6].tolist() == pytest.approx([0.25 * grey, 0, 0, none, none, none], abs=1e-5)
    checked, striped = texture(board)[0], texture(stripes)[0]
    assert checked[3:9].tolist() == pytest.approx([none, none, none, math.log(0.01 + 0.1 * grey), none, none], abs=1e-4)
    assert striped[3:9].tolist() == pytest.approx([math.log(0.01 + 0.05 * grey), *[none] * 5], abs=1e-4)
    assert (checked[9:] - none).abs().max() < 1e-4, "nothing is left at larger scales"


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 5, 7), (3, 1, 9), (4, 16, 16)])
def test_texture_of_any_shape(shape):
    x = torch.rand(2, *shape, generator=generator())
    assert texture(x).isfinite().all()
    assert opponents(x).square().sum() == pytest.approx(x.square().sum().item(), rel=1e-5), "orthogonal"


def test_a_minority_is_kept_apart_and_a_new_domain_is_not(outlying):
    assert not outlying.reject(pictures(64, 1)).any()
    mixed = pictures(64, 2)
    mixed[:12] = signs(mixed[:12])
    mixed[12:16] = torch.rand(4, 3, 32, 32, generator=generator())
    assert outlying.reject(mixed).tolist() == [True] * 16 + [False] * 48
    noisy = pictures(64, 3) + 0.2 * torch.randn(64, 3, 32, 32, generator=generator())
    assert not outlying.reject(noisy.clamp(0, 1)).any(), "a whole batch is a new domain"
    kinds = torch.cat([pictures(32, 3), torch.rand(32, 3, 32, 32, generator=generator(2))])
    assert not outlying.reject(kinds).any(), "half of a batch is a stream of two kinds"


def test_the_order_of_images_does_not_matter(outlying):
    x = torch.cat([pictures(52, 2), signs(pictures(12, 3))])
    order = torch.randperm(64, generator=generator())
    assert torch.equal(outlying.reject(x)[order], outlying.reject(x[order]))


def test_single_images_are_compared_with_the_latest(outlying):
    assert not any(bool(outlying.reject(image[None])) for image in pictures(40, 1))
    assert outlying.reject(signs(pictures(1, 2))).tolist() == [True]
    assert outlying.reject(pictures(1, 3)).tolist() == [False]
    noisy = (pictures(64, 4) + 0.2 * torch.randn(64, 3, 32, 32, generator=generator())).clamp(0, 1)
    told = [bool(outlying.reject(image[None])) for image in noisy]
    assert told[0]
    assert not any(told[32:]), "a new domain is known after 32 images"


def test_the_first_few_images_have_no_company(outlying):
    assert not outlying.reject(signs(pictures(7, 1))).any()


def test_what_it_remembers_is_its_memory(outlying):
    outlying.reject(pictures(64, 1))
    again = Outlying()
    again.begin(pictures(300))
    again.memory = {"latest": outlying.memory["latest"].clone()}
    x = torch.cat([signs(pictures(2, 2)), pictures(3, 3)])
    assert outlying.reject(x).tolist() == again.reject(x).tolist() == [True, True, False, False, False]


def test_without_source_images_nothing_is_outlying():
    x = torch.cat([pictures(28), torch.rand(4, 3, 32, 32, generator=generator())])
    assert not Outlying().reject(x).any()


def test_values_that_are_not_finite_do_not_last(outlying):
    x = pictures(64, 1)
    x[:3, 0, 0, 0] = torch.tensor([math.nan, math.inf, -math.inf])
    assert outlying.reject(x).shape == (64,)
    assert not outlying.reject(pictures(64, 2)).any()
    assert outlying.memory["latest"].isfinite().all()


def test_grey_images_and_a_limit_that_is_none():
    each = Outlying()
    each.begin(pictures(300, channels=1))
    x = pictures(64, 1, channels=1)
    x[:5] = signs(x[:5])
    assert each.reject(x).tolist() == [True] * 5 + [False] * 59
    with pytest.raises(tta.TTAError, match="limit is a positive number"):
        Outlying(limit=0)


def test_poison_is_kept_apart_and_moves_nobody_elses_answers():
    source = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 3),
    ).eval()  # fmt: skip
    data = (pictures(300), torch.arange(300) % 3)
    x, poison = pictures(52, 2), signs(pictures(12, 3))
    filters = [Outlying()], [Outlying()]
    with_poison, without = (tta.deploy(source, "tent", source_data=data, guard=Guard(filters=each)) for each in filters)
    for _ in range(2):
        assert torch.equal(with_poison(torch.cat([x, poison]))[:52], without(x))
    assert with_poison.report()["rejected_images"] == 24
