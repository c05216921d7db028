"""Classes that come together are told from such that the source model confuses."""

import pytest
import torch

from tta.guard.order import ClassOrder, chi_square


def batches(together, seed=0, classes=10, size=64, count=40, seen=0.5):
    """What a source model says that is right about `seen` of the images and otherwise says 0 to 2."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count * size,), generator=random)
    labels = labels.sort()[0] if together else labels
    says = torch.where(torch.rand(len(labels), generator=random) < seen, labels, torch.arange(len(labels)) % 3)
    return says.split(size)


def taken(parts, classes=10):
    order, found = ClassOrder(), []
    for part in parts:
        order.take(part, classes, anew=False)
        found.append(order.ordered)
    return order, found


def test_chi_square_by_hand():
    found, chance = chi_square(torch.tensor([8.0, 0.0, 0.0]), torch.tensor([4.0, 4.0, 0.0]))
    # Expected 6, 2 of each: (2^2 / 6 + 2^2 / 2) twice.
    assert found == pytest.approx(2 * (4 / 6 + 4 / 2))
    assert chance == 1


def test_of_samples_of_the_same_classes_it_is_its_degrees_of_freedom_however_few_of_a_class_there_are():
    for classes in (3, 10, 1000):
        parts = batches(False, classes=classes, count=400, seen=1.0)
        pairs = [chi_square(*(p.bincount(minlength=classes).double() for p in parts[k : k + 2])) for k in range(399)]
        found, chance = torch.tensor(pairs).sum(0)
        assert float(found / chance) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", [8, 64])
def test_shuffled_streams_and_sorted_ones_are_told_apart_early(size):
    for seed in range(5):
        _, shuffled = taken(batches(False, seed, size=size))
        assert shuffled[0] is None, "nothing to compare with"
        assert not any(shuffled[1:])
    _, found = taken(batches(True, size=size, count=200 if size == 8 else 40))
    assert all(found[len(found) // 4 :])


def test_a_change_of_style_begins_the_comparison_anew_but_not_the_verdict():
    order, _ = taken(batches(False))
    before = order.memory["excess"]
    order.take(torch.full((64,), 7), 10, anew=True)
    assert order.memory["excess"] == before
    order.take(torch.full((64,), 8), 10, anew=False)
    assert order.memory["excess"] > before


def test_one_large_difference_is_no_order():
    order, _ = taken(batches(False))
    order.take(torch.full((64,), 9), 10, anew=False)
    assert order.ordered is False


def test_one_class_for_ever_is_no_order():
    order, _ = taken([torch.zeros(64).long()] * 10)
    assert order.ordered is None, "as nothing could have differed"


def test_it_is_restored():
    order, _ = taken(batches(True))
    again = ClassOrder()
    again.memory = order.memory
    assert again.ordered is order.ordered is True
