"""The family of test-time augmentation: known answers, and what a budget promises."""

import pytest
import torch
import torch.nn.functional as F
from golden_methods import golden, resnet20, stream
from nets import resnet, vit
from torch import Tensor, nn

import tta
from corruptions import targeted_views
from tta.contract import NETS, check
from tta.features import features_and_logits
from tta.targeted_views import TargetedViews
from tta.uncertainty import ComputeGate
from tta.view_kinds import KINDS, part_of, views_of
from tta.views import Draws


def images(seed: int, size: int = 8) -> Tensor:
    return torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


class Known:
    """Views that are known: view k is the image times (k + 1) / V."""

    def __init__(self, count: int) -> None:
        self.count = count

    def draw(self, count: int, x: Tensor, generator: torch.Generator) -> Draws:
        assert count == self.count
        return {"flip": torch.arange(count).repeat_interleave(len(x))}

    def apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None = None) -> Tensor:
        k = draws["flip"]
        return x.repeat(len(k) // len(x), 1, 1, 1) * ((k + 1) / self.count)[:, None, None, None]


class Counted(nn.Module):
    """Counts the images that go through a network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.images = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.net(x)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_views_can_be_averaged(kind):
    adapter, net, x = tta.wrap(resnet(), "ttaug", kind=kind, views=3), resnet(), images(0)
    draws = views_of(kind).draw(3, x, torch.Generator().manual_seed(1))
    adapter.host_generator.manual_seed(1)
    noise = torch.Generator().set_state(adapter.generator.get_state())
    with torch.no_grad():
        # one view at a time, as the noise of a view does not depend on its chunk
        views = net(views_of(kind).apply(x, draws, noise)).view(3, 8, 10)
        torch.testing.assert_close(adapter(x), (net(x) + views.sum(0)) / 4, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(views[0], net(x), atol=1e-3)


@pytest.mark.parametrize("name", ["ttaug", "ttaug_gated", "ttaug_close"])
def test_chunks_change_nothing(name):
    x = images(0)
    one, many = (tta.wrap(resnet(), name, views=5, chunk=chunk) for chunk in (1, 3))
    torch.testing.assert_close(one(x), many(x), atol=1e-5, rtol=1e-5)


def test_unknown_views_are_refused():
    for name in ("ttaug", "ttaug_gated", "ttaug_close", "memo"):
        with pytest.raises(tta.TTAError, match="shift"):
            tta.wrap(resnet(), name, kind="shifts")


def test_targeted_views_are_the_corruptions_of_the_data_set_that_is_named():
    x = images(0)
    adapter = tta.wrap(resnet(), "ttaug", kind="targeted:bloodmnist", views=3, flip=False)
    seeds = torch.randint(2**62, (3,), generator=torch.Generator().set_state(adapter.host_generator.get_state()))
    views = [targeted_views(x, "bloodmnist", 1, torch.Generator().manual_seed(int(seed))) for seed in seeds]
    net = resnet()
    with torch.no_grad():
        torch.testing.assert_close(adapter(x), sum(map(net, (x, *views))) / 4)
    assert sum(not torch.equal(view, x) for view in views) >= 2
    other = tta.wrap(resnet(), "ttaug", kind="targeted:octmnist", views=3, flip=False)
    assert not torch.allclose(other(x), tta.wrap(resnet(), "ttaug", kind="targeted:bloodmnist", views=3, flip=False)(x))


@pytest.mark.parametrize("per_image", [False, True])
def test_targeted_views_can_be_made_in_parts(per_image):
    x, make = images(0, 4), TargetedViews("dermamnist", per_image=per_image)
    draws = make.draw(6, x, torch.Generator().manual_seed(0))
    rows = 4 if per_image else 1
    whole = make.apply(x, draws)
    assert whole.shape == (24, 3, 32, 32)
    assert whole.min() >= 0
    assert whole.max() <= 1
    parts = [make.apply(x, part_of(draws, k * rows, (k + 1) * rows)) for k in range(6)]
    assert torch.equal(whole, torch.cat(parts))
    still = make.apply(x, {**draws, "flip": torch.zeros_like(draws["flip"])})
    mirrored = draws["flip"].repeat_interleave(24 // len(draws["flip"]))
    assert torch.equal(whole[mirrored], still[mirrored].flip(3))
    assert torch.equal(whole[~mirrored], still[~mirrored])
    assert mirrored.any()
    assert not mirrored.all()


def test_targeted_views_keep_the_promises():
    outcomes = check(
        lambda model: tta.wrap(model, "ttaug", kind="targeted:pathmnist", views=2), {"any": NETS["group_norm"]}
    )
    assert [outcome for outcome in outcomes if outcome.verdict != "kept"] == []


def test_targeted_views_need_the_name_of_a_data_set():
    for kind, hint in (("targeted", "bloodmnist"), ("targeted:blodmnist", "did you mean 'bloodmnist'")):
        with pytest.raises(tta.TTAError, match=hint):
            tta.wrap(resnet(), "ttaug", kind=kind)


def test_only_unsure_images_are_augmented():
    net = Counted(resnet())
    adapter = tta.wrap(net, "ttaug_gated", views=4, budget=0.25, step=4)
    adapter.transform = Known(4)
    x = images(0, 16)
    out, own = adapter(x), resnet()(x)
    probs = own.softmax(1).sort(1).values
    unsure = (probs[:, -2] / probs[:, -1]).argsort(descending=True)[:4]
    expected = own.clone()
    expected[unsure] = (own + sum(resnet()(x * k / 4) for k in (1, 2, 3, 4)))[unsure] / 5
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert adapter.model.images == 16 + 4 * 4
    assert int(adapter.info.used) == 4


def test_images_that_are_still_unsure_after_some_views_get_the_others():
    net = Counted(resnet())
    adapter = tta.wrap(net, "ttaug_gated", views=4, budget=0.5, step=2, fall=0.5)
    assert adapter.config.looks() == ((2, 0.75), (2, 0.25))
    looks = []

    class Dimmed:
        """The views of the first look are a half and a third as bright, those of the second a sixth and black."""

        def draw(self, count: int, x: Tensor, generator: torch.Generator) -> Draws:
            looks.append(x)
            return {"flip": torch.arange(count).repeat_interleave(len(x)) + 2 * (len(looks) - 1)}

        def apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None = None) -> Tensor:
            light = torch.tensor([1 / 2, 1 / 3, 1 / 6, 0])[draws["flip"]]
            return x.repeat(len(light) // len(x), 1, 1, 1) * light[:, None, None, None]

    adapter.transform = Dimmed()
    x = images(0, 16)
    out = adapter(x)
    plain, own = resnet(), resnet()(x)

    def unsure(logits: Tensor, count: int) -> Tensor:
        probs = logits.softmax(1).sort(1).values
        return (probs[:, -2] / probs[:, -1]).argsort(descending=True)[:count]

    first = unsure(own, 12)
    expected = own.clone()
    expected[first] = (own + plain(x / 2) + plain(x / 3))[first] / 3
    second = first[unsure(expected[first], 4)]
    expected[second] = (own + sum(plain(x * light) for light in (1 / 2, 1 / 3, 1 / 6, 0)))[second] / 5
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert adapter.model.images == 16 + 12 * 2 + 4 * 2
    assert int(adapter.info.used) == 12
    assert sorted(map(float, looks[1].mean((1, 2, 3)))) == sorted(map(float, x[second].mean((1, 2, 3))))


@pytest.mark.parametrize("sizes", [[16] * 8, [1] * 40, [3, 1, 16, 7]])
def test_all_looks_together_keep_the_budget_on_any_stream(sizes):
    net = Counted(resnet())
    adapter, seen = tta.wrap(net, "ttaug_gated", views=4, budget=0.45, step=1), 0
    for k, size in enumerate(sizes):
        adapter(images(k, size) * (1 + k) / len(sizes))
        seen += size
        assert adapter.model.images - seen <= 0.45 * 4 * seen
    assert adapter.model.images > seen


@pytest.mark.parametrize("settings", [{"budget": 1.5}, {"step": 9}, {"step": 0}, {"views": 0, "step": 0}, {"fall": 2}])
def test_a_gate_that_makes_no_sense_is_refused(settings):
    with pytest.raises(tta.TTAError, match="ttaug_gated: "):
        tta.wrap(resnet(), "ttaug_gated", **settings)


def test_with_the_whole_budget_it_is_plain_augmentation():
    x = images(0)
    plain = tta.wrap(resnet(), "ttaug", views=3)
    gated = tta.wrap(resnet(), "ttaug_gated", views=3, step=3, budget=1.0)
    torch.testing.assert_close(gated(x), plain(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[64] * 20, [1] * 200, [7, 64, 1, 33] * 5])
@pytest.mark.parametrize("budget", [0.1, 0.45])
def test_the_budget_holds_at_every_moment_however_hard_the_stream_gets(sizes, budget):
    gate, generator = ComputeGate((1 - budget, 1.0), budget, memory=100), torch.Generator().manual_seed(0)
    seen = picked = 0
    for k, size in enumerate(sizes):
        uncertainty = torch.rand(size, generator=generator) * (1 + k)  # ever harder
        chosen = gate.pick(uncertainty)
        gate.learn(uncertainty, chosen)
        seen, picked = seen + size, picked + int(chosen.sum())
        assert picked <= budget * seen
    assert picked > 0.8 * budget * seen


def test_a_steady_stream_spends_the_budget_on_the_most_uncertain():
    gate, generator = ComputeGate((0.7, 1.0), 0.3, memory=1000), torch.Generator().manual_seed(0)
    chosen, uncertainty = [], []
    for _ in range(60):
        uncertainty.append(torch.rand(50, generator=generator))
        chosen.append(gate.pick(uncertainty[-1]))
        gate.learn(uncertainty[-1], chosen[-1])
    chosen, uncertainty = torch.cat(chosen), torch.cat(uncertainty)
    assert chosen.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert uncertainty[chosen].min() > 0.6
    assert uncertainty[~chosen].max() < 0.8 or (uncertainty[~chosen] > 0.8).float().mean() < 0.02


def test_a_window_leaves_out_the_hopeless():
    gate = ComputeGate((0.5, 0.8), 1.0, memory=10)
    uncertainty = torch.arange(11) / 10
    assert gate.pick(uncertainty).nonzero()[:, 0].tolist() == [5, 6, 7, 8]


def test_the_closest_views_are_averaged():
    net = vit().double()
    adapter = tta.wrap(net, "ttaug_close", views=4, keep=0.5)
    adapter.transform = Known(4)
    x = images(0).double()
    with torch.no_grad():
        features, own = features_and_logits(net, x)
        found = [features_and_logits(net, x * k / 4) for k in (1, 2, 3, 4)]
    cosine = torch.stack([F.cosine_similarity(features, seen, dim=1) for seen, _ in found])
    expected = torch.stack([
        (own[n] + sum(found[int(k)][1][n] for k in cosine[:, n].argsort(descending=True)[:2])) / 3 for n in range(8)
    ])  # fmt: skip
    torch.testing.assert_close(adapter(x), expected)
    assert cosine.argmax(0).unique().tolist() == [3]  # the unchanged image is the closest view of all


def test_keeping_all_views_is_plain_augmentation():
    x = images(0)
    plain, close = tta.wrap(resnet(), "ttaug", views=3), tta.wrap(resnet(), "ttaug_close", views=3, keep=1.0)
    torch.testing.assert_close(close(x), plain(x), atol=1e-5, rtol=1e-5)


def test_views_help_a_trained_network():
    """On the golden stream of noisy images, the mean over shifted views errs less than the network itself."""
    x, y = stream().flatten(0, 1)[:96].float(), torch.from_numpy(golden("stream")["y"]).flatten()[:96]
    net = resnet20().float()
    errors = [(tta.wrap(net, name)(x).argmax(1) != y).float().mean().item() for name in ("source", "ttaug")]
    assert errors[1] < errors[0]
