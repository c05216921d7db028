"""Arrangements: permutations with known statistics, keyed by seed, name and repeat."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tta.arrangements import ARRANGEMENTS, NUMBERS, Arrangement, Chance
from tta.errors import TTAError

EVERY_IMAGE_ONCE = ["shuffled", "stored", "sorted", "dirichlet:0.1", "dirichlet:1e-8", "dirichlet:1e8", "label_shift:5"]
BALANCED = torch.arange(1000) % 10


def arrange(text, labels=BALANCED, seed=0, name="fog@5", repeat=0):
    return Arrangement.read(text).sequence(labels, Chance(seed, name, repeat))


def runs(labels):
    """Number of stretches of one class."""
    return 1 + (labels[1:] != labels[:-1]).sum().item()


def shares(labels, parts, classes=10):
    """Share of each class in each part of a sequence."""
    return np.stack([np.bincount(part, minlength=classes) / len(part) for part in np.array_split(labels, parts)])


@pytest.mark.parametrize("text", EVERY_IMAGE_ONCE)
@given(labels=st.lists(st.sampled_from([0, 3, 4, 900]), min_size=1, max_size=40), seed=st.integers(0, 5))
def test_every_image_comes_once(text, labels, seed):
    assert sorted(arrange(text, torch.tensor(labels), seed).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("text", [*EVERY_IMAGE_ONCE, "long_tailed:10"])
def test_a_sequence_depends_on_seed_name_and_repeat_alone(text):
    first = arrange(text)
    assert torch.equal(first, arrange(text))
    if text != "stored":
        for other in (arrange(text, seed=1), arrange(text, name="snow@5"), arrange(text, repeat=1)):
            assert not torch.equal(first, other)


def test_stored_is_stored():
    assert arrange("stored").tolist() == list(range(1000))


def test_sorted_is_class_after_class_in_random_order_and_shuffled_within():
    sequence = arrange("sorted")
    labels = BALANCED[sequence]
    assert runs(labels) == 10
    assert labels.unique_consecutive().tolist() != sorted(range(10))
    assert not torch.equal(sequence[:100], sequence[:100].sort()[0])
    assert labels.unique_consecutive().tolist() != BALANCED[arrange("sorted", repeat=1)].unique_consecutive().tolist()


def test_a_tiny_concentration_sends_each_class_to_one_slot():
    for seed in range(5):
        assert runs(BALANCED[arrange("dirichlet:1e-6", seed=seed)]) == 10


def test_a_huge_concentration_gives_every_slot_every_class():
    labels = BALANCED[arrange("dirichlet:1e9")]
    assert (labels.view(10, 100).sort(1)[0] == torch.arange(10).repeat_interleave(10)).all()
    # one image per run where classes times slots are the images: then it is as good as shuffled
    few = torch.arange(100) % 10
    assert runs(few[arrange("dirichlet:1e9", few)]) > 80


def test_the_correlation_falls_with_the_concentration():
    stretches = [
        np.mean([runs(BALANCED[arrange(f"dirichlet:{c}", seed=s)]) for s in range(8)]) for c in (0.01, 0.1, 1, 10)
    ]
    assert stretches == sorted(stretches)
    assert stretches[0] < 15
    assert stretches[-1] > 80


def test_dirichlet_shares_have_the_variance_of_their_distribution():
    labels = torch.arange(10_000) % 10
    variance = np.mean([_slot_shares(labels, seed).var() for seed in range(30)])
    expected = 0.1 * 0.9 / (10 * 0.5 + 1)  # of a component of a symmetric Dirichlet distribution of ten
    assert variance == pytest.approx(expected, rel=0.15)


def _slot_shares(labels, seed):
    """Shares of class 0 over the slots, which are its runs; two runs of it seldom touch."""
    places = (labels[arrange("dirichlet:0.5", labels, seed)] == 0).nonzero()[:, 0]
    sizes = torch.diff(places).ne(1).nonzero()[:, 0] + 1
    lengths = torch.diff(torch.cat([torch.tensor([0]), sizes, torch.tensor([len(places)])])).tolist()
    return np.array((lengths + [0] * 10)[:10]) / len(places)


def test_at_most_a_hundred_slots():
    labels = torch.arange(20_000) % 200
    arranged = labels[arrange("dirichlet:1e9", labels)]
    assert (arranged.view(100, 200).sort(1)[0] == torch.arange(200)).all()


def test_label_shift_between_shuffled_and_sorted():
    labels = torch.arange(10_000) % 10
    assert runs(labels[arrange("label_shift:inf", labels)]) == 10
    assert shares(labels[arrange("label_shift:1", labels)], 10) == pytest.approx(0.1, abs=0.04)


def test_label_shift_gives_each_class_its_turn():
    labels = torch.arange(20_000) % 10
    measured = shares(labels[arrange("label_shift:9", labels)], 10)
    assert sorted(measured.argmax(1)) == list(range(10))
    assert measured.max(1) == pytest.approx(0.5, abs=0.05)  # 9 / (9 + 10 - 1)
    others = np.sort(measured, 1)[:, :-1]
    assert others == pytest.approx(1 / 18, abs=0.06)


def test_the_long_tail_is_exponential_and_shuffled():
    labels = torch.arange(10_000) % 10
    sequence = arrange("long_tailed:100", labels)
    assert len(sequence.unique()) == len(sequence)
    sizes = sorted(np.bincount(labels[sequence]).tolist(), reverse=True)
    assert sizes == [math.floor(1000 * 100 ** (-k / 9) + 1e-9) for k in range(10)]
    assert shares(labels[sequence], 4) == pytest.approx(shares(labels[sequence], 1).repeat(4, 0), abs=0.08)


def test_the_same_classes_are_frequent_in_all_visits_of_a_stream():
    def sizes(**key):
        return np.bincount(BALANCED[arrange("long_tailed:10", **key)]).tolist()

    assert sizes() == sizes(name="snow@5") == sizes(repeat=3)
    assert sizes() != sizes(seed=1)


def test_the_long_tail_of_unbalanced_data_keeps_its_form():
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([900, 500, 700, 30]))
    sizes = np.sort(np.bincount(labels[arrange("long_tailed:8", labels)]))
    assert sizes[1:] / sizes[:-1] == pytest.approx(2, rel=0.2)


def test_long_tail_of_ratio_one_is_all_of_balanced_data():
    assert sorted(arrange("long_tailed:1").tolist()) == list(range(1000))


@pytest.mark.parametrize("text", ["shuffled", *NUMBERS])
def test_the_defaults_are_written_out(text):
    assert str(Arrangement.read(str(Arrangement.read(text)))) == str(Arrangement.read(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dirichelt:0.1", "did you mean 'dirichlet'"),
        ("dirichlet:0", "'0' is not a positive concentration; write it as in 'dirichlet:0.1'"),
        ("dirichlet:inf", "positive concentration"),
        ("dirichlet:-1", "positive concentration"),
        ("dirichlet:nan", "positive concentration"),
        ("dirichlet:", "'' is not a positive concentration"),
        ("dirichlet:0.1:2", "'0.1:2' is not"),
        ("dirichlet: 0.1", "' 0.1' is not"),
        ("shuffled:1", "takes no number; write 'shuffled'"),
        ("label_shift:0.5", "ratio of at least 1, or inf"),
        ("long_tailed:inf", "ratio of at least 1"),
        ("", "unknown arrangement ''"),
    ],
)
def test_texts_that_are_no_arrangement(text, message):
    with pytest.raises(TTAError, match=message):
        Arrangement.read(text)


def test_every_arrangement_is_tested_here():
    assert {text.partition(":")[0] for text in [*EVERY_IMAGE_ONCE, "long_tailed:10"]} == set(ARRANGEMENTS)


def test_label_maps_can_be_shuffled_but_have_no_class():
    maps = torch.zeros(6, 4, 4, dtype=torch.int64)
    assert sorted(arrange("shuffled", maps).tolist()) == list(range(6))
    with pytest.raises(TTAError, match="label maps have none; choose shuffled or stored"):
        arrange("sorted", maps)
