"""Intruders: an exact share of every visit, spread evenly, keyed, and never scored."""

import pytest
import torch
from fakes import CLASSES, Oracle, Pictures, domains

from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.intruders import Intruders, Noise, fixed_sequence, noise_domain
from tta.registry import wrap
from tta.streams import Domain, make_stream

SHAPE = (3, 4, 4)


def noise(share=0.2):
    return Intruders("noise", share, (noise_domain(SHAPE),))


def users(share, *sizes):
    """One domain of other users' pictures for each of a stream."""
    return Intruders("benign", share, tuple(Domain(f"u{i}", 5, Pictures(n), scored=False) for i, n in enumerate(sizes)))


def columns(stream):
    return [torch.cat([getattr(batch, name) for batch in stream]) for name in ("domain", "index", "y")]


@pytest.mark.parametrize(("share", "count"), [(0.2, 25), (0.5, 100), (0.01, 1), (0.001, 0)])
def test_a_share_of_every_visit_intrudes(share, count):
    stream = make_stream(domains(100, 100), "recurring:2", 7, intruders=noise(share))
    for visit in stream.visits():
        assert (visit.domain == 2).sum() == count
        assert len(visit.index) == 100 + count
    assert stream.definition["images"] == 4 * (100 + count)


def test_the_others_keep_their_sequence():
    alone = list(make_stream(domains(50, 30), seed=3, arrangement="sorted").visits())
    joined = make_stream(domains(50, 30), seed=3, arrangement="sorted", intruders=noise()).visits()
    for before, after in zip(alone, joined, strict=True):
        assert torch.equal(before.index, after.index[after.domain < 2])


def test_they_are_spread_evenly():
    (visit,) = make_stream(domains(4000), intruders=noise(0.5)).visits()
    parts = (visit.domain == 1).float().view(8, -1).mean(1)
    assert ((parts - 0.5).abs() < 0.07).all()
    assert 3500 < (visit.domain[1:] != visit.domain[:-1]).sum() < 4500


@pytest.mark.parametrize("order", ["continual", "mixed", "recurring:2"])
def test_each_domains_intruders_come_where_it_comes(order):
    stream = make_stream(domains(60, 40), order, intruders=users(0.25, 7, 90))
    for visit in stream.visits():
        places = (visit.domain >= 2).nonzero()[:, 0].tolist()
        assert len(places) == stream.intruders.count(int((visit.domain < 2).sum()))
        for place in places:
            before = visit.domain[:place]
            company = before[before < 2]
            if len(company):
                assert visit.domain[place] == company[-1] + 2


def test_their_images_come_in_blocks_of_a_fixed_sequence_and_from_the_front_again():
    (visit,) = make_stream(domains(600), intruders=users(0.25, 150)).visits()
    index = visit.index[visit.domain == 1]
    assert len(index) == 200
    sequence = fixed_sequence(150).tolist()
    start = sequence.index(index[0].item())
    assert start % 64 == 0
    assert index.tolist() == [sequence[(start + i) % 150] for i in range(200)]


def test_a_batch_holds_their_images_without_labels_at_any_size():
    def stream(size):
        return make_stream(domains(40, 30), "mixed", size, seed=2, intruders=users(0.3, 20, 5))

    small, large = stream(3), stream(64)
    assert all(torch.equal(a, b) for a, b in zip(columns(small), columns(large), strict=True))
    for batch in small:
        for x, y, index, domain in zip(batch.x, batch.y, batch.index, batch.domain, strict=True):
            data = small.domains[domain].data
            assert y == (-1 if domain >= 2 else data.labels[index])
            assert x[0, 0, 0] == data.values[index].float() / 255


def test_they_are_part_of_the_definition():
    base = make_stream(domains(20))
    others = [
        make_stream(domains(20), intruders=intruders)
        for intruders in (noise(0.2), noise(0.4), users(0.2, 10), users(0.2, 11))
    ]
    assert others[0].hash == make_stream(domains(20), intruders=noise(0.2)).hash
    assert len({base.hash, *(other.hash for other in others)}) == 5
    assert [d["scored"] for d in others[0].definition["domains"]] == [True, False]
    assert others[0].name == "continual+noise:0.2"


def test_evaluate_scores_the_others_only():
    stream = make_stream(domains(12, 8), batch_size=4, intruders=noise(0.5))
    results = evaluate(wrap(Oracle(), "source"), stream)
    errors = {r.domain: (r.value, r.n) for r in results.rows if r.metric == "error"}
    assert errors == {"d0": (0, 12), "d1": (0, 8), "all": (0, 20)}
    records = results.records["source-0"]
    assert (records["label"] == -1).sum() == 20
    assert {r.n for r in results.rows if r.metric == "forwards"} == {40}
    assert {r.order for r in results.rows} == {"continual+noise:0.5"}


@pytest.mark.parametrize("kind", ["noise", "noise_gaussian"])
def test_noise_is_keyed_and_has_its_distribution(kind):
    data = Noise((3, 16, 16), kind, seed=1)
    x = data.images(torch.arange(64))
    assert x.dtype == torch.uint8
    assert x.shape == (64, 3, 16, 16)
    assert torch.equal(x[[5, 9]], data.images(torch.tensor([5, 9])))
    assert not torch.equal(x, Noise((3, 16, 16), kind, seed=2).images(torch.arange(64)))
    deviation = {"noise": 73.9, "noise_gaussian": 255 / 4}[kind]  # 73.9 = sqrt((256^2 - 1) / 12)
    assert x.float().mean() == pytest.approx(127.5, abs=1.5)
    assert x.float().std() == pytest.approx(deviation, rel=0.04)
    assert abs(torch.corrcoef(x[:, 0, 0, :2].float().T)[0, 1]) < 0.4
    assert data.labels[7] == -1


def test_fingerprints_of_noise():
    prints = {Noise(SHAPE, *key).fingerprint for key in [("noise", 0), ("noise", 1), ("noise_gaussian", 0)]}
    assert len(prints | {Noise((1, 4, 4)).fingerprint}) == 4


def test_intruders_of_another_shape_are_refused():
    stream = make_stream(domains(20), intruders=Intruders("noise", 0.5, (noise_domain((1, 4, 4)),)))
    with pytest.raises(TTAError, match="bring all to one size"):
        list(stream)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise(0), "share of intruders is 0"),
        (lambda: noise(1), "between 0 and 1"),
        (lambda: Intruders("ood", 0.2, ()), "at least one domain"),
        (lambda: Intruders("ood", 0.2, tuple(domains(3))), "d0@5, which is scored"),
        (lambda: users(0.2, 0), "no images"),
        (lambda: Noise(SHAPE, "pink"), "choose from noise, noise_gaussian"),
        (lambda: make_stream(domains(3, 3, 3), intruders=users(0.2, 4, 4)), "from 2 domains, the stream has 3"),
        (
            lambda: make_stream(domains(3), intruders=Intruders("x", 0.2, (Domain("d0", 5, Pictures(3), False),))),
            "given twice",
        ),
    ],
)
def test_wrong_intruders(make, message):
    with pytest.raises(TTAError, match=message):
        make()


def test_classes_of_intruders_need_not_be_the_models():
    odd = Pictures(8)
    odd.labels = odd.labels + CLASSES
    stream = make_stream(domains(20), intruders=Intruders("ood", 0.3, (Domain("ood", 0, odd, scored=False),)))
    assert evaluate(wrap(Oracle(), "source"), stream).rows[0].value == 0
