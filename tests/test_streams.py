"""Streams: the same batches anywhere, every image once, orders as published."""

import threading

import pytest
import torch
from fakes import Pictures, domains
from hypothesis import given
from hypothesis import strategies as st

from tta.errors import TTAError
from tta.streams import Batch, Domain, make_stream


def same(a: Batch, b: Batch) -> bool:
    tensors = ("x", "y", "index", "domain")
    return a.position == b.position and all(torch.equal(getattr(a, k), getattr(b, k)) for k in tensors)


@pytest.mark.parametrize("order", ["continual", "mixed"])
@pytest.mark.parametrize("ahead", [False, True])
def test_iterating_again_gives_the_same_batches(order, ahead):
    first = list(make_stream(domains(10, 7), order, 4, seed=3))
    second = list(make_stream(domains(10, 7), order, 4, seed=3).batches(ahead=ahead))
    assert len(first) == len(second) == len(make_stream(domains(10, 7), order, 4, seed=3))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_order_and_hash_are_pinned():
    stream = make_stream(domains(8, 3), batch_size=8, seed=1)
    assert next(iter(stream)).index.tolist() == PINNED_ORDER
    assert stream.hash == PINNED_HASH


PINNED_ORDER = [7, 0, 1, 3, 4, 5, 2, 6]
PINNED_HASH = "d2271f5b48e19d01e6064ebaa62d07db9c71aa01efa45511bb567cee7b709c44"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5), st.sampled_from(["continual", "mixed"]))
def test_every_image_comes_once_with_its_own_label_and_pixels(sizes, batch_size, order):
    stream = make_stream(domains(*sizes), order, batch_size, seed=0)
    seen = []
    for batch in stream:
        assert 1 <= len(batch.y) <= batch_size
        assert batch.x.dtype == torch.float32
        for x, y, index, domain in zip(batch.x, batch.y, batch.index, batch.domain, strict=True):
            data = stream.domains[domain].data
            assert y == data.labels[index]
            assert x[0, 0, 0] == data.values[index].float() / 255
            seen.append((domain.item(), index.item()))
    assert sorted(seen) == [(d, i) for d, n in enumerate(sizes) for i in range(n)]


def test_continual_visits_the_domains_in_turn_and_ends_each_with_what_is_left():
    batches = list(make_stream(domains(5, 4), batch_size=4, seed=0))
    assert [(b.position, len(b.y)) for b in batches] == [(0, 4), (0, 1), (1, 4)]
    assert all((b.domain == b.position).all() for b in batches)


def test_unshuffled_keeps_the_stored_order():
    batches = list(make_stream(domains(6), batch_size=6, arrangement="stored"))
    assert batches[0].index.tolist() == list(range(6))


def test_a_domains_order_depends_on_the_seed_and_not_on_the_other_domains():
    def order(stream, position):
        return torch.cat([b.index for b in stream if b.position == position]).tolist()

    both, alone = domains(20, 30), domains(20, 30)[1:]
    assert order(make_stream(both, seed=5), 1) == order(make_stream(alone, seed=5), 0)
    assert order(make_stream(both, seed=5), 1) != order(make_stream(both, seed=6), 1)
    assert order(make_stream(both, seed=5), 0) != order(make_stream(both, seed=5), 1)[:20]


def test_mixed_mixes_domains_within_a_batch():
    batches = list(make_stream(domains(50, 50), "mixed", 20, seed=0))
    assert {b.position for b in batches} == {0}
    assert all(0 < b.domain.float().mean() < 1 for b in batches)


def test_gradual_is_the_published_sequence():
    levels = [Domain(name, s, Pictures(2)) for name in ("fog", "snow", "frost") for s in (1, 2, 3, 4, 5)]
    stream = make_stream(levels, "gradual", 2)
    visits = [(stream.domains[b.domain[0]].name, stream.domains[b.domain[0]].severity) for b in stream]
    rise_and_fall = [1, 2, 3, 4, 5, 4, 3, 2, 1]
    assert visits == (
        [("fog", s) for s in (5, 4, 3, 2, 1)]
        + [("snow", s) for s in rise_and_fall]
        + [("frost", s) for s in rise_and_fall]
    )


def test_gradual_needs_several_severities():
    with pytest.raises(TTAError, match="several severities"):
        make_stream(domains(3, 3), "gradual")


def test_definition_says_what_determines_the_batches():
    def stream(sizes=(6, 5), order="continual", batch_size=2, seed=0, arrangement="shuffled"):
        return make_stream(domains(*sizes), order, batch_size, seed, arrangement=arrangement)

    base = stream()
    assert base.hash == stream().hash
    assert base.definition["images"] == 11
    assert [d["n"] for d in base.definition["domains"]] == [6, 5]
    others = [stream((5, 6)), stream(order="mixed"), stream(batch_size=3), stream(seed=1), stream(arrangement="stored")]
    assert len({base.hash, *(other.hash for other in others)}) == 6


ARRANGEMENTS = ["shuffled", "stored", "sorted", "dirichlet:0.1", "label_shift:9", "long_tailed:4"]


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("order", ["continual", "mixed", "recurring:2"])
def test_a_sequence_is_the_same_again_and_at_any_batch_size(order, arrangement):
    def images(size):
        batches = list(make_stream(domains(30, 21), order, size, seed=3, arrangement=arrangement))
        return [torch.cat([getattr(b, name) for b in batches]) for name in ("x", "y", "index", "domain")]

    first = images(4)
    for again in (images(4), images(1), images(64)):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_every_kind_of_stream_has_its_own_hash():
    kinds = [*ARRANGEMENTS, "dirichlet:0.2", "label_shift:8", "long_tailed:5"]
    hashes = [
        make_stream(domains(30, 21), order, seed=seed, arrangement=arrangement).hash
        for order in ("continual", "mixed", "recurring:2", "recurring:3")
        for arrangement in kinds
        for seed in (0, 1)
    ]
    assert len(set(hashes)) == len(hashes)


def test_a_stream_of_many_batches_is_defined_without_its_images():
    data = Pictures(50_000)
    stream = make_stream([Domain("fog", 5, data)], "recurring:40", 10, arrangement="dirichlet:0.1")
    assert len(stream) == 200_000
    assert not data.asked


def test_ahead_makes_one_batch_ahead_and_no_more():
    data = Pictures(40)
    made = make_stream([Domain("fog", 5, data)], batch_size=4).batches(ahead=True)
    for taken in range(1, 6):
        next(made)
        for thread in threading.enumerate():
            if thread.name.startswith("stream"):
                assert len(data.asked) <= taken + 1
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((3, 3, 4, 4), float("nan")), "range from nan to nan"),
        (torch.full((3, 3, 4, 4), 2.0), "range from 2 to 2"),
        (torch.full((3, 3, 4, 4), -0.5), "divide by 255"),
        (torch.zeros(3, 4, 4), "expected uint8 or float"),
        (torch.zeros(3, 3, 4, 4, dtype=torch.int32), "torch.int32"),
    ],
)
def test_images_that_are_none_are_refused(images, message, ahead):
    data = Pictures(3)
    data.images = lambda index: images
    with pytest.raises(TTAError, match=message):
        list(make_stream([Domain("fog", 5, data)]).batches(ahead=ahead))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "continal"}, "did you mean 'continual'"),
        ({"batch_size": 0}, "at least 1"),
        ({"domains": []}, "at least one domain"),
        ({"domains": domains(3, 0)}, "d1@5 has no images"),
        ({"domains": domains(3) * 2}, "given twice"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(TTAError, match=message):
        make_stream(**{"domains": domains(3), **arguments})
