"""The style of a stream: four numbers with known answers, and changes."""

import torch

from tta.guard.style import APART, Style, _bands


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, seed=0, size=16):
    """Smooth pictures: random ones, blurred."""
    x = torch.rand(n, 3, size + 4, size + 4, generator=generator(seed))
    return torch.nn.functional.avg_pool2d(x, 5, 1)


def noisy(n, seed):
    return pictures(n, seed) + 0.2 * torch.randn(n, 3, 16, 16, generator=generator(seed))


STYLE = Style(pictures(400))


def test_source_images_are_like_source_images():
    numbers = STYLE.describe(pictures(48, 1))
    assert numbers.shape == (4,)
    assert numbers[:2].abs().max() < 0.2, "they differ among each other as source images do"
    assert numbers[2:].max() < 0.3, "and are not far from them"


def test_a_shift_is_far_and_a_mixture_is_wide():
    kinds = (pictures(24, 1), noisy(24, 2))
    bright = Style.describe(STYLE, pictures(24, 3) + 0.3)
    one, mixed = STYLE.describe(kinds[1]), STYLE.describe(torch.cat(kinds))
    assert one[2] > 1.5
    assert one[0] < 0.3
    assert mixed[0] > 1
    assert bright[3] > 1
    levels = STYLE.describe(torch.cat([pictures(24, 3) + 0.3, pictures(24, 4)]))
    assert levels[1] > 0.3


def test_one_image_has_no_spread_and_numbers_are_finite():
    for x in (pictures(1), torch.zeros(1, 3, 16, 16), torch.zeros(5, 3, 16, 16)):
        numbers = STYLE.describe(x)
        assert numbers.isfinite().all()
    assert STYLE.describe(pictures(1))[:2].tolist() == [0, 0]


def test_the_order_of_a_batch_does_not_matter():
    x = noisy(32, 5)
    assert torch.allclose(STYLE.describe(x), STYLE.describe(x.flip(0)), atol=1e-4)


def test_a_change_is_noticed_once_and_a_stream_that_stays_is_none():
    style = Style(pictures(200))
    assert style.take(pictures(64, 1)), "nothing was noted"
    style.note()
    assert not any(style.take(pictures(64, seed)) for seed in range(2, 6))
    assert style.take(noisy(64, 0))
    style.note()
    assert not style.take(noisy(64, 1))


def test_small_batches_add_up():
    style = Style(pictures(200))
    style.take(pictures(64, 1))
    style.note()
    slight = [pictures(4, seed) + 0.01 * torch.randn(4, 3, 16, 16, generator=generator(seed)) for seed in range(40)]
    changed = [style.take(x) for x in slight]
    assert not changed[0]
    assert changed[-1]


def test_another_shift_is_told_from_other_images_of_the_same():
    def other(n, seed):
        """As another class may look."""
        return pictures(n, seed) * 1.02

    apart = (_bands(other(64, 2)).mean(0) - _bands(pictures(64, 1)).mean(0)).abs() / STYLE.band_spread
    assert 0.5 < apart.max() < APART
    style = Style(pictures(200))
    assert style.is_another(), "nothing was taken in"
    style.take(pictures(64, 1))
    assert style.is_another(), "nothing was noted"
    style.note()
    style.take(other(64, 2))
    assert not style.is_another()
    style.note()
    style.take(noisy(64, 2))
    assert style.is_another()
    style.note()
    mixed = torch.cat([noisy(32, 3), pictures(32, 4)])
    style.take(mixed)
    style.note()
    style.take(torch.cat([noisy(22, 5), pictures(42, 6)]))
    assert not style.is_another(), "a mixture of shifts differs among itself"
