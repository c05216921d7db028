"""Poison: objectives with known answers, bounds that are kept, and harm to those who are adapted together with it."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence

from tta import poison
from tta.checkpoints import state_sha256
from tta.datasets import Corrupted, Subset, load_data
from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.intruder_kinds import KINDS, make_intruders, read_intruders
from tta.intruders import Intruders
from tta.models import load_source
from tta.poison import Attack, Attacker, Poisoned
from tta.poison_objectives import (
    OBJECTIVES,
    FeatureStatistics,
    confused_with,
    cross_entropy,
    high_entropy,
    low_entropy,
    notch_high_entropy,
)
from tta.registry import wrap
from tta.streams import Domain, make_stream

SHAPE = (3, 8, 8)
FAST = {"steps": 4, "step": 0.1}


def network(classes=4):
    """A small convolutional network with batch norm and weights of its own generator."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    return net.eval()


class Users:
    """Random images of four classes."""

    name, fingerprint = "users", "0"

    def __init__(self, n=100):
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randint(0, 256, (n, *SHAPE), generator=generator, dtype=torch.uint8)
        self.labels = torch.arange(n) % 4

    def __len__(self):
        return len(self.labels)

    def images(self, index):
        return self.x[index]


def batch_statistics(model, x):
    """Logits of a model under the statistics of the batch."""
    model = poison.Attacker(model).surrogate
    with torch.no_grad():
        return model(x.float() / 255)


def test_notch_high_entropy_is_largest_when_all_but_the_right_class_are_equally_likely():
    y = torch.tensor([2, 0])
    ruled_out = torch.zeros(2, 5)
    ruled_out[[0, 1], y] = -60.0
    assert notch_high_entropy(ruled_out, y) == pytest.approx(0, abs=1e-6)
    assert notch_high_entropy(torch.zeros(2, 5), y) == pytest.approx(-math.log(5 / 4))
    assert notch_high_entropy(F.one_hot(y, 5) * 3.0, y) < -math.log(5 / 4)


def test_the_other_objectives():
    logits, y = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 1])
    assert cross_entropy(logits, y) == pytest.approx(F.cross_entropy(logits, y).item())
    assert low_entropy(logits, y) == -cross_entropy(logits, y)
    assert high_entropy(torch.zeros(2, 3), y) == pytest.approx(math.log(3))


@given(st.integers(2, 7), st.integers(0, 50))
def test_each_class_is_mistaken_for_another_and_none_for_the_same(classes, seed):
    probs = torch.rand(classes, classes, generator=torch.Generator().manual_seed(seed)).softmax(1)
    target = confused_with(probs)
    assert sorted(target.tolist()) == list(range(classes))
    assert (target != torch.arange(classes)).all()


def test_features_stray_by_the_divergence_of_normal_distributions():
    model, x = network(), torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(2))
    seen = []
    model[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    statistics = FeatureStatistics(model, scale=0.5)
    with torch.no_grad():
        model(x)
        statistics.start()
        assert statistics.penalty() == 0  # nothing has strayed, and nothing weighs yet
        model(x.square())
        assert statistics.penalty() == 0
        strayed = statistics.penalty()

    def fitted(maps):
        return Normal(maps.mean((2, 3)), (maps.var((2, 3), unbiased=False) + 1e-5).sqrt())

    expected = 200 * kl_divergence(fitted(seen[0]), fitted(seen[1])).sum(1).mean()
    assert set(statistics.clean) == {"1"}  # the maps before the second layer are the smallest
    assert strayed == pytest.approx((0.001 * 0.5 * expected * expected).item(), rel=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_poison_keeps_its_bounds_and_the_model_stays_as_it_is(name):
    model, users = network(), Users()
    before, flags = state_sha256(model), [p.requires_grad for p in model.parameters()]
    data = Poisoned(users, Attacker(model, Attack(name, eps=0.1, **FAST)))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            x = data.images(torch.arange(100))
    assert x.dtype == torch.uint8
    change = (x.int() - users.x.int()).abs()
    assert change.max() == 25  # of 255 * 0.1
    assert state_sha256(model) == before
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_poison_does_to_the_source_model_what_it_is_made_for():
    model, users = network(), Users(64)
    y = users.labels

    def answers(name):
        data = Poisoned(users, Attacker(model, Attack(name, steps=15, step=0.03)))
        return batch_statistics(model, data.images(data.sequence)), y[data.sequence]

    clean = batch_statistics(model, users.x)
    logits, labels = answers("maxce")
    assert cross_entropy(logits, labels) > cross_entropy(clean, y) + 0.3
    logits, labels = answers("nhe")
    assert notch_high_entropy(logits, labels) > notch_high_entropy(clean, y)
    logits, labels = answers("tepa")
    assert high_entropy(logits, labels) > high_entropy(clean, y)
    logits, labels = answers("ble")
    data = Poisoned(users, Attacker(model, Attack("ble")))
    assert low_entropy(logits, data._confusions[labels]) > low_entropy(clean, data._confusions[y]) + 0.3


def test_dia_makes_the_others_in_the_batch_misread():
    model, users = network(), Users(128)
    data = Poisoned(users, Attacker(model, Attack("dia", steps=15, step=0.03)))
    mine, theirs = data.sequence[:64], data.sequence[64:]

    def harm(x):
        joint = batch_statistics(model, torch.cat([users.x[theirs], x]))[:64]
        return cross_entropy(joint, users.labels[theirs])

    assert harm(data.images(mine)) > harm(users.x[mine]) + 0.1


def test_dia_needs_images_that_meet():
    alone = nn.Sequential(nn.Flatten(), nn.LayerNorm(192), nn.Linear(192, 4))
    with pytest.raises(TTAError, match="the model has no batch norm"):
        Attacker(alone, Attack("dia"))
    Poisoned(Users(5), Attacker(alone, Attack("nhe", **FAST))).images(torch.arange(5))


def test_the_same_poison_comes_whoever_asks_for_it(monkeypatch):
    model, users = network(), Users()

    def made(*asked):
        data = Poisoned(users, Attacker(model, Attack(**FAST)), seed=3)
        return torch.cat([data.images(torch.tensor(index, dtype=torch.int64)) for index in asked])

    whole = made([*range(100)])
    assert torch.equal(whole[[7, 99, 7]], made([7, 99, 7]))
    assert torch.equal(whole, made([*range(50)], [*range(50, 100)]))
    assert made([]).shape == (0, *SHAPE)
    monkeypatch.setattr(poison, "KEPT", 1)  # nothing but the last block is kept
    assert torch.equal(whole, made([*range(50)], [*range(50, 100)]))


def test_poison_is_made_once_and_in_part():
    calls = []
    attacker = Attacker(network(), Attack(**FAST))
    craft = attacker.craft
    attacker.craft = lambda *arguments: calls.append(1) or craft(*arguments)
    data = Poisoned(Users(200), attacker)
    for _ in range(2):
        data.images(data.sequence[:64])
    assert len(calls) == 1


def test_the_fingerprint_names_everything_that_makes_it():
    model, other = network(), network()
    other[0].weight.data[0] += 1
    prints = {
        Poisoned(users, Attacker(net, attack), seed).fingerprint
        for users, net, attack, seed in [
            (Users(), model, Attack(), 0),
            (Users(), other, Attack(), 0),
            (Users(), model, Attack("ble"), 0),
            (Users(), model, Attack(eps=0.2), 0),
            (Users(), model, Attack(steps=39), 0),
            (Users(), model, Attack(step=0.02), 0),
            (Users(), model, Attack(), 1),
        ]
    }
    assert len(prints) == 7
    assert Poisoned(Users(), Attacker(network())).fingerprint in prints


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Attack("bel"), "did you mean 'ble'"),
        (lambda: Attack(eps=0), "eps up to 1"),
        (lambda: Attack(steps=0), "positive steps"),
        (lambda: Poisoned(Users(), Attacker(network(classes=3))), "the model has 3 classes"),
    ],
)
def test_wrong_attacks(make, message):
    with pytest.raises(TTAError, match=message):
        make()


@pytest.fixture(scope="module")
def digits():
    """The source model and two domains of its data: other users' and the attackers' own."""
    data = load_data("digits")

    def domain(first, last, scored=True):
        images = Corrupted(Subset(data, torch.arange(first, last)), "gaussian_noise", 5)
        return Domain("gaussian_noise" if scored else "users", 5, images, scored)

    return load_source("digits"), domain(0, 96), domain(96, 192, scored=False)


@pytest.mark.parametrize(("name", "harm"), [("dia", 15), ("maxce", 5)])
def test_poison_harms_those_whom_the_model_adapts_to_together_with_it(digits, name, harm):
    model, benign, own = digits
    data = Poisoned(own.data, Attacker(model, Attack(name, steps=6, step=0.08)))

    def error(images):
        intruders = Intruders("users", 0.4, (Domain("users", 5, images, scored=False),))
        results = evaluate(wrap(model, "tent"), make_stream([benign], batch_size=40, intruders=intruders))
        return next(row.value for row in results.rows if row.metric == "error")

    assert error(data) > error(own.data) + harm


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_intruders_by_its_name(kind):
    users, stream = Users(), [Domain("fog", 5, Users(20))]
    given = {"own": [Domain("fog", 5, users)], "other": users, "model": network()}
    intruders = make_intruders(f"{kind}:0.25", stream, **given)
    assert str(intruders) == f"{kind}:0.25"
    assert not any(domain.scored for domain in intruders.domains)
    assert make_stream(stream, intruders=intruders).name == f"continual+{kind}:0.25"
    if not kind.startswith("poison"):
        assert next(iter(make_stream(stream, intruders=intruders))).x.shape == (27, *SHAPE)
    assert make_intruders("none", stream) is None
    assert read_intruders(kind) == (kind, 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosie", "did you mean 'noise'"),
        ("noise:1", "'1' is not a share between 0 and 1; write it as in 'noise:0.2'"),
        ("ood", "need other images"),
        ("benign:0.2", "need the images of the users"),
        ("poison_nhe", "need the images of the users"),
    ],
)
def test_intruders_that_cannot_be_made(text, message):
    with pytest.raises(TTAError, match=message):
        make_intruders(text, [Domain("fog", 5, Users(20))])


def test_poison_needs_the_model():
    with pytest.raises(TTAError, match="need the source model"):
        make_intruders("poison_ble", [Domain("fog", 5, Users())], own=[Domain("fog", 5, Users())])
