"""Normalisation layers: which there are, and whose statistics they use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class StatisticsNorm(nn.Module):
    """A batch norm whose statistics are not simply the batch's or the running ones; base of the variants below.

    Takes over the layer's parameters and buffers under their own names, so that state dicts keep their keys, and what
    follows the normalisation inside fused layers (timm's `BatchNormAct2d`).
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor
    bias: Tensor
    eps: float
    after: nn.Module

    def __init__(self, layer: _BatchNorm | StatisticsNorm) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("running_mean", layer.running_mean)
        self.register_buffer("running_var", layer.running_var)
        self.eps = layer.eps
        followers = (m for name in ("drop", "act") if isinstance(m := getattr(layer, name, None), nn.Module))
        self.after = layer.after if isinstance(layer, StatisticsNorm) else nn.Sequential(*followers)
        self.train(layer.training)

    def normalise(self, x: Tensor) -> Tensor:
        """The normalised and rescaled activations, shape of `x` (B, C, *)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, then whatever the replaced layer did after it."""
        return self.after(self.normalise(x))


class MixedBatchNorm(StatisticsNorm):
    """Normalises with (1 - alpha) * source + alpha * batch statistics; the batch variance is the unbiased one.

    Reference:
        Schneider et al., "Improving robustness against common corruptions by covariate shift adaptation", NeurIPS 2020.
    """

    def __init__(self, layer: _BatchNorm, alpha: float) -> None:
        super().__init__(layer)
        self.alpha = alpha

    def normalise(self, x: Tensor) -> Tensor:
        """See the class; no gradient flows through the statistics."""
        with torch.no_grad():
            dims = [0, *range(2, x.ndim)]
            count = x.numel() // x.shape[1]
            var, mean = torch.var_mean(_exact(x), dims, correction=min(1, count - 1))
            mean = torch.lerp(self.running_mean, mean.to(self.running_mean.dtype), self.alpha)
            var = torch.lerp(self.running_var, var.to(self.running_var.dtype), self.alpha)
        return F.batch_norm(x, mean, var, self.weight, self.bias, False, 0.0, self.eps)


class GroupedBatchNorm(StatisticsNorm):
    """Normalises every `size` consecutive images with their own batch statistics.

    So several batches (the views of one batch, say) go through a network in one pass, as if one after another.
    """

    size: int | None = None

    def normalise(self, x: Tensor) -> Tensor:
        """See the class; `size` None is one group."""
        parts = (x,) if self.size is None else x.split(self.size)
        out = [self.normalise_group(part) for part in parts]
        return out[0] if len(out) == 1 else torch.cat(out)

    def normalise_group(self, x: Tensor) -> Tensor:
        """One group, shape of `x`."""
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class RobustStatisticsNorm(GroupedBatchNorm):
    """Batch statistics in which images that stand out have little weight, so that a minority cannot move them.

    Every image has a mean and a variance in every channel. How far these are from the medians of the batch, in robust
    deviations (1.4826 times the median distance), averaged over the channels, is how much the image stands out, s; its
    weight is 1 / (1 + (s / 1.3)^8), where 0.8 is usual. All images are normalised. Each layer decides anew: poison that
    shows in none of the first layers may show in a later one.

    Differs from MedBN, which takes the median of all values and their mean squared distance from it: a poisoned
    minority still moves that, and with it the answers to the others, far more (docs/deploy.md).

    Reference:
        The threat: Wu et al., "Uncovering adversarial risks of test-time adaptation" (DIA), ICML 2023. MedBN: Park et
        al., "MedBN: robust test-time adaptation against malicious test samples", CVPR 2024.
    """

    def normalise_group(self, x: Tensor) -> Tensor:
        """See the class; gradients flow through the statistics, not through the weights."""
        values = _exact(x).flatten(2) if x.ndim > 2 else _exact(x)[..., None]
        variances, means = torch.var_mean(values, 2, correction=0)
        weights = _ordinary(torch.cat([means, (variances + self.eps).log()], 1).detach())
        mean = weights @ means
        return _affine(x, mean, weights @ (variances + (means - mean).square()), self)


class RobustBatchNorm(StatisticsNorm):
    """Normalises with statistics that follow the stream slowly, in training as in use.

    While its statistics are updated (`updating_statistics`), they move towards the batch's (biased variance) and the
    moved ones normalise; the gradient flows through the batch's share of them. Otherwise they are used as they are.

    Reference:
        Yuan et al., "Robust Test-Time Adaptation in Dynamic Scenarios" (RoTTA), CVPR 2023, eq. 4 and 5.
    """

    def __init__(self, layer: _BatchNorm, alpha: float) -> None:
        super().__init__(layer)
        self.alpha = alpha

    def normalise(self, x: Tensor) -> Tensor:
        """See the class."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        var, mean = torch.var_mean(_exact(x), [0, *range(2, x.ndim)], correction=0)
        mean = (1 - self.alpha) * self.running_mean + self.alpha * mean.to(self.running_mean.dtype)
        var = (1 - self.alpha) * self.running_var + self.alpha * var.to(self.running_var.dtype)
        self.running_mean.copy_(mean.detach())
        self.running_var.copy_(var.detach())
        return _affine(x, mean, var, self)


class InstanceAwareBatchNorm(StatisticsNorm):
    """Batch norm that follows an image's own statistics where they leave what chance allows.

    The mean and variance of an image (unbiased) differ from those of its distribution by sampling noise; what goes
    beyond `k` standard errors is taken as a shift of that image. While the statistics are updated
    (`updating_statistics`), "the distribution" is the batch, otherwise the running statistics.

    Reference:
        Gong et al., "NOTE: Robust Continual Test-time Adaptation Against Temporal Correlation", NeurIPS 2022, eq. 2-4.
    """

    def __init__(self, layer: _BatchNorm, k: float, momentum: float) -> None:
        super().__init__(layer)
        self.k, self.momentum = k, momentum

    def normalise(self, x: Tensor) -> Tensor:
        """See the class; images of one pixel have no statistics of their own."""
        dims = list(range(2, x.ndim))
        pixels = x[0, 0].numel()
        mean, var = self.running_mean, self.running_var
        if self.training:
            count = x.numel() // x.shape[1]
            var, mean = torch.var_mean(_exact(x), [0, *dims], correction=min(1, count - 1))
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(var.detach().to(self.running_var.dtype), self.momentum)
        shape = (1, -1, *(1 for _ in dims))
        mean, var = mean.view(shape), var.view(shape)
        if pixels > 1:
            own_var, own_mean = torch.var_mean(_exact(x), dims, correction=1, keepdim=True)
            noise_mean = self.k * ((var + self.eps) / pixels).sqrt()
            noise_var = self.k * (var + self.eps) * (2 / (pixels - 1)) ** 0.5
            mean = mean + _beyond(own_mean - mean, noise_mean)
            var = (var + _beyond(own_var - var, noise_var)).relu()
        return _affine(x, mean, var, self)


def _exact(x: Tensor) -> Tensor:
    """Activations as their statistics are taken: under autocast too in float32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _ordinary(described: Tensor) -> Tensor:
    """Weights of images, that sum to one, by how little they stand out: (B,) from numbers of each, (B, D)."""
    distance = (described - described.quantile(0.5, 0)).abs()
    width = (1.4826 * distance.quantile(0.5, 0)).clamp(min=1e-6)
    weights = 1 / (1 + ((distance / width).clamp(max=1e3).mean(1) / 1.3) ** 8)
    return weights / weights.sum()


def _beyond(x: Tensor, width: Tensor) -> Tensor:
    """Soft shrinkage: how far x is outside of [-width, width]."""
    return (x - width).relu() - (-x - width).relu()


def _affine(x: Tensor, mean: Tensor, var: Tensor, layer: StatisticsNorm) -> Tensor:
    """Normalises with statistics of shape (C,) or (B or 1, C, 1, ...), and rescales; gradients reach the statistics.

    The result has the type of `x`, whatever that of the statistics.
    """
    shape = (1, -1, *(1,) * (x.ndim - 2))
    mean, var = (s.view(shape) if s.ndim == 1 else s for s in (mean, var))
    scale = (var + layer.eps).rsqrt()
    if layer.weight is None:
        return ((x - mean) * scale).to(x.dtype)
    scaled = torch.addcmul(layer.bias.view(shape), x - mean, scale * layer.weight.view(shape))
    return scaled.to(x.dtype)


_NORMS = (
    _BatchNorm,
    StatisticsNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every normalisation layer (batch, layer, group, instance norm), in module order."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, _NORMS))


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Every batch norm of the model, in module order."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def affine_parameters(model: nn.Module, skip: Sequence[str] = ()) -> list[nn.Parameter]:
    """Scale and shift of every normalisation layer, in module order.

    Args:
        model: The network, perhaps in a module that holds nothing else with parameters.
        skip: Names of modules whose normalisation layers are left out, as the network inside such wrappers knows them
            ("layer4", "blocks.11"). If that left nothing, nothing is left out.
    """
    everything = [(name, p) for name, m in layers(model) for p in (m.weight, m.bias) if isinstance(p, nn.Parameter)]
    prefix = ""
    while len(inner := [(name, m) for name, m in model.named_children() if [*m.parameters()]]) == 1:
        prefix, model = f"{prefix}{inner[0][0]}.", inner[0][1]
    skipped = tuple(f"{prefix}{name}." for name in skip)
    return [p for name, p in everything if not f"{name}.".startswith(skipped)] or [p for _, p in everything]


def per_image(model: nn.Module) -> bool:
    """Whether images go through the network independently of each other: it has no batch norm of any kind."""
    return not any(isinstance(module, _BatchNorm | StatisticsNorm) for module in model.modules())


def use_batch_statistics(model: nn.Module) -> None:
    """Every batch norm normalises with the statistics of the current batch (biased variance), in train and eval mode.

    The running statistics are dropped. Layers of other kinds have no batch statistics and stay as they are.
    """
    for layer in batch_norms(model):
        layer.track_running_stats = False
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None


def use_robust_statistics(network: nn.Module) -> int:
    """Whatever normalises with plain batch statistics does so with robust ones (`RobustStatisticsNorm`) from now on.

    Returns:
        The number of layers. Those with running or mixed statistics stay as they are.
    """
    count = 0
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, RobustStatisticsNorm):
                continue
            if isinstance(child, GroupedBatchNorm) or (isinstance(child, _BatchNorm) and child.running_mean is None):
                setattr(module, name, RobustStatisticsNorm(child))
                count += 1
    return count


def replace_batch_norms(model: nn.Module, build: Callable[[_BatchNorm], nn.Module]) -> nn.Module:
    """Puts `build(layer)` in the place of every batch norm; returns the model (which may itself be one)."""
    if isinstance(model, _BatchNorm):
        return build(model)
    for name, child in model.named_children():
        setattr(model, name, replace_batch_norms(child, build))
    return model


@contextmanager
def statistics_per(model: nn.Module, size: int) -> Iterator[None]:
    """Within, every `GroupedBatchNorm` takes its statistics over `size` consecutive images."""
    grouped = [module for module in model.modules() if isinstance(module, GroupedBatchNorm)]
    for module in grouped:
        module.size = size
    try:
        yield
    finally:
        for module in grouped:
            module.size = None


@contextmanager
def updating_statistics(*models: nn.Module) -> Iterator[None]:
    """Within, batch norms that keep statistics normalise with the batch's and take them in, as in training.

    Only the normalisation layers are switched; dropout stays off.
    """
    switched = [m for model in models for m in model.modules() if isinstance(m, (_BatchNorm, StatisticsNorm))]
    for layer in switched:
        layer.training = True
    try:
        yield
    finally:
        for layer in switched:
            layer.training = False
