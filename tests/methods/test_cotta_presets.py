"""CoTTA's cheap presets: what they cost, what they learn from, and what they answer."""

import pytest
import torch
from nets import resnet

import tta
from tta import norms
from tta.cost import PassCounter
from tta.methods.cotta import CoTTA
from tta.mild_views import mild_view
from tta.objectives import likelihood_ratio


@pytest.fixture
def x():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("preset", "most"), [("fast", 3), ("balanced", 8)])
def test_a_preset_costs_what_it_says(preset, most, x):
    adapter = tta.wrap(resnet(), "cotta", preset=preset)
    with PassCounter(adapter.networks()) as counter:
        adapter(x)
    forwards, backwards = (count / len(x) for count in counter.passes)
    assert forwards + 2 * backwards == pytest.approx(most)


def test_the_answer_is_the_mean_over_mild_views(x):
    adapter = tta.wrap(resnet(), "cotta", kind="mild", gate=2.0, views=3)
    teacher = norms.replace_batch_norms(adapter.copy_of(adapter.model), norms.GroupedBatchNorm)
    expected = torch.stack([teacher(mild_view(x, number)) for number in range(3)]).mean(0)
    torch.testing.assert_close(adapter(x), expected)


def test_mirrored_views_are_left_out_where_they_are_another_class(x):
    adapter = tta.wrap(resnet(), "cotta", kind="mild", gate=2.0, views=2, flip=False)
    expected = (adapter.teacher(x) + adapter.teacher(mild_view(x, 1, flip=False))) / 2
    torch.testing.assert_close(adapter(x), expected)


def test_only_unsure_images_get_more_views(x):
    net = resnet()
    first = tta.wrap(net, "cotta", kind="mild", gate=2.0, views=1)(x)
    some = tta.wrap(net, "cotta", kind="mild", gate=2.0, views=4, unsure=0.25)(x)
    top = first.softmax(1).topk(2).values
    unsure = (top[:, 0] - top[:, 1]).argsort()[:3]
    clear = torch.ones(12, dtype=torch.bool).index_fill(0, unsure, False)
    torch.testing.assert_close(some[clear], first[clear], rtol=1e-4, atol=1e-5)
    assert ((some - first).abs().amax(1) > 1e-3).nonzero()[:, 0].tolist() == sorted(unsure.tolist())


def test_the_surest_of_every_predicted_class_teach():
    adapter = tta.wrap(resnet(), "cotta", learn_from=0.5)
    sure = torch.tensor([9.0, 8.0, 7.0, 6.0, 2.0, 1.0])
    logits = torch.zeros(6, 10)
    logits[range(6), [0, 0, 0, 0, 1, 1]] = sure  # half of the zeros and half of the ones, not the three largest
    assert sorted(adapter.surest(logits).tolist()) == [0, 1, 4]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "mild", "views": 33}, "32"),
        ({"learn_from": 0.0}, "learn_from"),
        ({"unsure": 0.5}, "mild"),
        ({"objective": "symetric"}, "symmetric"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, named):
    with pytest.raises(tta.TTAError, match=named):
        CoTTA.Config(**wrong)


def test_label_maps_are_learned_from_whole():
    with pytest.raises(tta.TTAError, match="label maps"):
        tta.wrap(resnet(), "cotta", learn_from=0.5).surest(torch.zeros(2, 10, 4, 4))


def test_likelihood_ratio_by_hand():
    q, p = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]])
    assert likelihood_ratio(p.log(), q.log()).item() == pytest.approx(0, abs=1e-6)  # log 4 and log 1/4
    assert likelihood_ratio((q * 1.0).log(), q.log()).item() == pytest.approx(-0.6 * torch.tensor(4.0).log().item())
