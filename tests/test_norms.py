"""Which normalisation layers are found."""

import pytest
import torch
import torch.nn.functional as F
from nets import group_norm, resnet, vit
from torch import nn

from tta import norms


@pytest.mark.parametrize("wrap", [lambda net: net, nn.Sequential])
def test_layers_are_left_out_by_the_names_of_the_network(wrap):
    net = vit()
    names = {id(p): name for name, p in net.named_parameters()}
    left = [names[id(p)] for p in norms.affine_parameters(wrap(net), skip=("blocks.1", "norm"))]
    assert left == ["blocks.0.norm1.weight", "blocks.0.norm1.bias", "blocks.0.norm2.weight", "blocks.0.norm2.bias"]


def test_a_name_does_not_stand_for_longer_ones_and_nothing_is_left_out_where_nothing_would_remain():
    net = nn.ModuleDict({"layer4": nn.BatchNorm2d(2), "layer40": nn.BatchNorm2d(2)})
    assert norms.affine_parameters(net, skip=("layer4",)) == [*net["layer40"].parameters()]
    assert norms.affine_parameters(net, skip=("layer4", "layer40")) == [*net.parameters()]


def test_batch_norm_mixes_images():
    assert norms.per_image(vit())
    assert norms.per_image(group_norm())
    assert not norms.per_image(resnet())
    assert not norms.per_image(norms.replace_batch_norms(resnet(), norms.GroupedBatchNorm))


# Robust batch statistics


def robust(channels=4):
    layer = norms.RobustStatisticsNorm(nn.BatchNorm2d(channels))
    return layer.eval()


def maps(n, seed=0, channels=4):
    return torch.randn(n, channels, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 + 1


def test_robust_statistics_are_those_of_the_batch_where_no_image_stands_out():
    layer, x = robust(), maps(64)
    plain = F.batch_norm(x, None, None, None, None, True, 0.0, 1e-5)
    assert (layer(x) - plain).abs().max() < 0.05


def test_a_minority_moves_robust_statistics_by_nothing():
    layer, x = robust(), maps(50)
    for strange in (maps(14, 1) + 8, maps(14, 1) * 5, maps(14, 1) * 1e4):
        assert torch.allclose(layer(torch.cat([x, strange]))[:50], layer(x), atol=0.05)
        moved = F.batch_norm(torch.cat([x, strange]), None, None, None, None, True, 0.0, 1e-5)[:50]
        assert (moved - layer(x)).abs().mean() > 0.3


def test_weights_of_images_by_hand():
    described = torch.tensor([[0.0], [1.0], [-1.0], [2.0], [-2.0], [100.0]])
    distance = (described[:, 0] - 0.5).abs() / (1.4826 * 1.5)  # 0.5 0.5 1.5 1.5 2.5 99.5, whose median is 1.5
    weights = 1 / (1 + (distance / 1.3) ** 8)
    assert torch.allclose(norms._ordinary(described), weights / weights.sum())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_robust_statistics_of_few_images_are_finite_and_have_gradients(n):
    layer, x = robust(), maps(n).requires_grad_(True)
    layer(x).square().mul(torch.arange(6.0)).sum().backward()
    assert x.grad.isfinite().all()
    assert torch.equal(layer(x)[:, 0].isfinite(), torch.ones(n, 6, 6, dtype=torch.bool))


def test_robust_statistics_do_not_depend_on_the_order_and_know_groups():
    layer, x = robust(), torch.cat([maps(30), maps(2, 1) + 9])
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(layer(x)[order], layer(x[order]), atol=1e-5)
    model = nn.Sequential(layer)
    with norms.statistics_per(model, 16):
        assert torch.allclose(model(x)[:16], robust()(x[:16]))


def test_robust_statistics_of_vectors():
    layer = norms.RobustStatisticsNorm(nn.BatchNorm1d(3)).eval()
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert layer(x).shape == x.shape
    assert layer(x).abs().mean() < 2


def test_only_plain_batch_statistics_become_robust():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3)), nn.GroupNorm(1, 3))
    assert norms.use_robust_statistics(model) == 0, "running statistics"
    weight = model[1][0].weight
    norms.use_batch_statistics(model)
    assert norms.use_robust_statistics(model) == 2
    assert model[1][0].weight is weight
    assert isinstance(model[2], nn.GroupNorm)
    assert norms.use_robust_statistics(model) == 0


def test_what_follows_a_fused_layer_stays():
    layer = nn.BatchNorm2d(3)
    layer.act = nn.ReLU()
    grouped = norms.GroupedBatchNorm(layer)
    assert norms.RobustStatisticsNorm(grouped)(maps(8, channels=3)).min() >= 0
