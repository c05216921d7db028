"""The wrappers around methods: what each promises, on known cases."""

import copy
import math

import pytest
import torch
from golden_methods import golden, resnet20, stream
from nets import resnet, vit
from torch import Tensor

import tta
from tta.optimisers import SGD
from tta.registry import list_wrappers, wrapper
from tta.uncertainty import ComputeGate
from tta.wrappers.asr import ASR


def images(seed: int, size: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(adapter: tta.Adapter) -> list[Tensor]:
    return [p.detach().clone() for p in adapter.network.parameters()]


def test_names_and_hyper_parameters_reach_whom_they_belong_to():
    adapter = tta.wrap(resnet(), "tent+recurring+wise", steps=2, every=3, adapted=0.25, seed=5)
    assert adapter.name == "tent+recurring+wise"
    assert adapter.config.adapted == 0.25
    assert adapter.config.inner.every == 3
    assert adapter.config.inner.inner.steps == 2
    assert adapter.seed == 5
    assert tta.wrap(resnet(), "tent+wise", preset="imagenet").config.inner.optimiser.lr == 2.5e-4


def test_mistakes_are_told():
    with pytest.raises(tta.TTAError, match="recurring"):
        tta.wrap(resnet(), "tent+recuring")
    with pytest.raises(tta.TTAError, match="tent"):
        tta.wrap(resnet(), "tnt+recurring")
    with pytest.raises(tta.TTAError, match="every"):
        tta.wrap(resnet(), "tent+recurring", evry=3)
    with pytest.raises(tta.TTAError, match="at least 1"):
        tta.wrap(resnet(), "tent+recurring", every=0)
    with pytest.raises(tta.TTAError, match="smoothing"):
        tta.wrap(vit(), "ttaug+wise")
    with pytest.raises(tta.TTAError, match="rmt answers with several"):
        tta.wrap(resnet(), "rmt+wise", source_data=(images(0, 20), torch.arange(20) % 10))


@pytest.mark.parametrize("name", list_wrappers())
def test_it_is_documented(name):
    for word in ("Updates:", "State:", "Cost:", "Needs:"):
        assert word in wrapper(name).__doc__, word


def test_episodic_equals_a_reset_before_every_batch():
    episodic, plain = tta.wrap(resnet(), "cotta+episodic", views=2, gate=2.0), tta.wrap(
        resnet(), "cotta", views=2, gate=2.0
    )  # fmt: skip
    for seed in range(3):
        plain.reset()
        assert torch.equal(episodic(images(seed)), plain(images(seed)))
        assert episodic.info.reset
    assert all(torch.equal(a, b) for a, b in zip(weights(episodic), resnet().parameters(), strict=True))


def test_recurring_resets_after_every_nth_batch():
    wrapped, plain = tta.wrap(resnet(), "tent+recurring", every=3), tta.wrap(resnet(), "tent")
    resets = []
    for seed in range(7):
        if seed % 3 == 0:
            plain.reset()
        assert torch.equal(wrapped(images(seed)), plain(images(seed)))
        resets.append(wrapped.info.reset)
    assert resets == [False, False, True] * 2 + [False]


def test_eta_reset_now_and_then_equals_the_published_code():
    """RDumb as Doebler et al. run it: ETA, reset after every third batch."""
    stored = golden("rdumb_mario")
    adapter = tta.wrap(resnet20(), "eta+recurring", every=3)
    for batch, x in enumerate(stream()):
        torch.testing.assert_close(adapter(x), torch.from_numpy(stored["logits_f64"][batch]), atol=1e-7, rtol=0)


def test_wise_answers_with_weights_half_way():
    adapter, alone = tta.wrap(vit().double(), "tent+wise", adapted=0.25), tta.wrap(vit().double(), "tent")
    for seed in range(3):
        between = vit().double()
        for p, source, adapted in zip(between.parameters(), vit().double().parameters(), weights(alone), strict=True):
            p.data = 0.75 * source.detach() + 0.25 * adapted
        with torch.no_grad():
            expected = between(images(seed, dtype=torch.float64))
        torch.testing.assert_close(adapter(images(seed, dtype=torch.float64)), expected)
        alone(images(seed, dtype=torch.float64))
    assert any(not torch.equal(a, b) for a, b in zip(weights(alone), vit().double().parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(adapter.inner), weights(alone), strict=True))


def test_wise_mixes_running_statistics():
    adapter = tta.wrap(resnet(), "bn+wise", statistics="running", momentum=0.5, adapted=0.5)
    adapter(images(0))
    source, inner, mixed = resnet().bn1.running_mean, adapter.inner.model.bn1.running_mean, adapter.mixed.bn1
    torch.testing.assert_close(mixed.running_mean, (source + inner) / 2)
    assert not torch.equal(source, inner)
    adapter.reset()
    assert torch.equal(adapter.mixed.bn1.running_mean, source)


def test_wise_keeps_one_copy_of_what_is_not_adapted():
    adapter = tta.wrap(resnet(), "tent+wise")
    assert adapter.mixed.conv1.weight is adapter.inner.model.conv1.weight
    assert adapter.mixed.bn1.weight is not adapter.inner.model.bn1.weight


def test_smoothing_equals_its_formula():
    adapter, inner = (tta.wrap(resnet().double(), name) for name in ("tent+smoothing", "tent"))
    disagreement = None
    for seed, size in enumerate((8, 8, 96)):
        x = images(seed, size, torch.float64)
        with torch.no_grad():
            source, adapted = resnet().double()(x).softmax(1), inner(x).softmax(1)
        now = (source.argmax(1) != adapted.argmax(1)).double().mean()
        weight = min(1, size / 64)
        disagreement = now if disagreement is None else (1 - weight) * disagreement + weight * now
        entropies = [-(p * p.log()).sum(1, keepdim=True) for p in (source, adapted)]
        share = torch.sigmoid(4 * (entropies[0] - entropies[1]) + 20 * (disagreement - 0.2))
        torch.testing.assert_close(adapter(x).exp(), (1 - share) * source + share * adapted, atol=1e-6, rtol=1e-5)
    assert adapter.anchor.conv1.weight is adapter.inner.model.conv1.weight


def test_cascade_asks_the_inner_adapter_about_images_in_the_window_only():
    adapter = tta.wrap(resnet(), "tent+cascade", window=(0.25, 0.75))
    x, asked = images(0, 9), []
    handle = adapter.inner.model.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0]))
    out = adapter(x)
    handle.remove()
    with torch.no_grad():
        own = resnet()(x)
    probs = own.softmax(1)
    order = (-(probs * probs.log()).sum(1)).argsort()
    # five lie in the window, of which the most uncertain four are within half of the nine images
    inside = order[3:7].sort().values
    assert len(asked) == 1
    assert torch.equal(asked[0], x[inside])
    outside = torch.tensor([k for k in range(9) if k not in inside.tolist()])
    assert torch.equal(out[outside], own[outside])
    expected = tta.wrap(resnet(), "tent")(x[inside])
    assert torch.equal(out[inside], expected)
    assert isinstance(adapter.gate, ComputeGate)


class Steered(torch.nn.Module):
    """Classifies as told: logits per batch are those of `told`, plus a weight that can be adapted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.LayerNorm(4), torch.nn.LayerNorm(4)
        self.told = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.second(self.first(x.flatten(1)[:, :4]))
        return self.told.expand(len(x), -1) + 0.01 * seen


def test_asr_follows_the_published_rule():
    adapter = tta.wrap(Steered(), "tent+asr", optimiser=SGD(lr=1.0, momentum=0.9))
    assert isinstance(adapter, ASR)
    x, average = images(0), math.log(4 * 0.5)
    for told in ([0.0, 0.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0], [0.0, 0.3, 0.9, 0.0]):
        adapter.inner.model.told = torch.tensor(told)
        logits = adapter(x)
        p = logits.mean(0).softmax(0)
        diversity = -(p * p.log()).sum().item()
        flips = (logits.argmax(1) != adapter.anchor(x).argmax(1)).float().mean().item()
        rate = 1 - (0.15 * flips + 1 - 0.15)
        assert not adapter.info.reset
        average = (1 - rate) * average + rate * diversity
        assert adapter.memory["average"] == pytest.approx(average, abs=1e-5)
    before = copy.deepcopy(adapter.inner.model.state_dict())
    assert not torch.equal(before["first.weight"], torch.ones(4))
    # Half of the parameters, and 20 times the fall: 0.2 nats under the average reset everything, 0.01 a good half.
    adapter.reset_output_side(0.5)
    after = adapter.inner.model.state_dict()
    assert torch.equal(after["first.weight"], before["first.weight"])
    assert torch.equal(after["first.bias"], before["first.bias"])
    assert torch.equal(after["second.weight"], torch.ones(4))
    assert torch.equal(after["second.bias"], torch.zeros(4))
    assert not adapter.inner.optimiser.state
    adapter.inner.model.told = torch.tensor([9.0, 0.0, 0.0, 0.0])
    adapter(x)
    assert adapter.info.reset
    assert adapter.memory["average"] == pytest.approx(math.log(2))
    assert torch.equal(adapter.inner.model.state_dict()["first.weight"], torch.ones(4))


def test_asr_resets_teachers_too():
    adapter = tta.wrap(resnet(), "cotta+asr", views=0)
    for seed in range(2):
        adapter.inner(images(seed))
    adapter.reset_output_side(1.0)
    for name, tensor in adapter.inner._changing():
        assert torch.equal(tensor, adapter.inner._source_state[name]), name
    assert adapter.inner.teacher.conv1.weight is not adapter.inner.model.conv1.weight
