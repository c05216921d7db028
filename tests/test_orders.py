"""Orders: how often which domain comes, and the published ones."""

import pytest
import torch
from fakes import domains

import corruptions
from tta.errors import TTAError
from tta.orders import ORDERS, read_order
from tta.published_orders import published_order
from tta.streams import make_stream


def visits(*arguments, **keywords):
    return [(visit.domain, visit.index) for visit in make_stream(*arguments, **keywords).visits()]


def test_recurring_repeats_the_whole_sequence_and_shuffles_anew():
    sequence = visits(domains(20, 30), "recurring:3", seed=4)
    assert [domain[0].item() for domain, _ in sequence] == [0, 1, 0, 1, 0, 1]
    firsts = [index for domain, index in sequence if domain[0] == 0]
    assert len({tuple(index.tolist()) for index in firsts}) == 3
    assert all(torch.equal(index.sort()[0], torch.arange(20)) for index in firsts)


def test_the_first_round_is_the_continual_order():
    once = visits(domains(20, 30), seed=4)
    again = visits(domains(20, 30), "recurring:2", seed=4)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(once, again, strict=False))
    assert len(again) == 2 * len(once)


@pytest.mark.parametrize("arrangement", ["sorted", "dirichlet:0.1", "label_shift:inf", "long_tailed:5"])
def test_a_mixture_is_arranged_as_a_whole(arrangement):
    stream = make_stream(domains(40, 40, 40), "mixed", 20, seed=1, arrangement=arrangement)
    (visit,) = stream.visits()
    labels = torch.arange(40).repeat(3).view(3, 40)[visit.domain, visit.index] % 4
    pairs = set(zip(visit.domain.tolist(), visit.index.tolist(), strict=True))
    assert len(pairs) == len(visit.index)
    assert len(visit.index) == (120 if arrangement != "long_tailed:5" else 30 + 17 + 10 + 6)
    if arrangement in ("sorted", "label_shift:inf"):
        assert len(labels.unique_consecutive()) == 4  # each class once, of all domains
    assert (visit.domain[1:] != visit.domain[:-1]).float().mean() > 0.4


def test_names_of_streams():
    def name(*arguments, **keywords):
        return make_stream(domains(4), *arguments, **keywords).name

    assert name() == "continual"
    assert name("recurring") == "recurring:20"
    assert name("recurring:3", arrangement="stored") == "recurring:3+stored"
    assert name("mixed", arrangement="dirichlet:.1") == "mixed+dirichlet:0.1"
    assert name(arrangement="label_shift") == "continual+label_shift:inf"


def test_the_published_orders_are_ten_permutations_of_the_common_corruptions():
    orders = [published_order(number) for number in range(10)]
    assert all(sorted(order) == sorted(corruptions.COMMON) for order in orders)
    assert len(set(orders)) == 10
    assert orders[5][:4] == ("motion_blur", "snow", "fog", "shot_noise")  # the order of RoTTA's paper
    assert orders[9][-1] == "brightness"


@pytest.mark.parametrize("number", [-1, 10])
def test_there_are_no_other_published_orders(number):
    with pytest.raises(TTAError, match="choose from 0 to 9"):
        published_order(number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recuring:3", "did you mean 'recurring'"),
        ("recurring:0", "'0' is not a whole number of at least 1; write it as in 'recurring:20'"),
        ("recurring:1.5", "whole number"),
        ("recurring:inf", "whole number"),
        ("mixed:2", "mixed takes no number"),
        ("gradual+sorted", "unknown order"),
    ],
)
def test_texts_that_are_no_order(text, message):
    with pytest.raises(TTAError, match=message):
        read_order(text)


def test_ccc_has_its_own_arrangement():
    assert "ccc" in ORDERS
    with pytest.raises(TTAError, match="leave sorted out"):
        make_stream(domains(4), "ccc", arrangement="sorted")
