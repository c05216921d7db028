"""T3A: classify by prototypes made of the surest features of the stream (Iwasawa & Matsuo, NeurIPS 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.adapter import Adapter, StepInfo
from tta.features import LearningLayer, learning, replace_classifier
from tta.objectives import entropy
from tta.registry import register


class PrototypeClassifier(LearningLayer):
    """Classifies by prototypes: per class, the mean direction of its supports, of which it keeps the surest.

    Supports (K, M, D) are features of length one with the entropy (K, M) of the source classifier's prediction, sorted;
    empty places are zero, with entropy infinity. The rows of the source classifier are the first supports.
    """

    weight: Tensor
    bias: Tensor | None
    supports: Tensor
    entropies: Tensor

    def __init__(self, layer: nn.Linear, size: int) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        classes, width = layer.weight.shape
        self.register_buffer("supports", layer.weight.new_zeros(classes, size, width))
        dtype = torch.promote_types(layer.weight.dtype, torch.float32)
        self.register_buffer("entropies", torch.full_like(self.supports[..., 0], torch.inf, dtype=dtype))
        self.add(layer.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, D); keeps them as supports first if `learning`."""
        if self.learning:
            self.add(features)
        return F.linear(features, self.prototypes().to(features.dtype))

    def prototypes(self) -> Tensor:
        """One vector of length one per class, shape (K, D)."""
        return F.normalize(self.supports.sum(1), dim=1)

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """Takes features (B, D) as supports of their predicted classes and keeps the surest of every class."""
        classes, size, width = self.supports.shape
        logits = F.linear(features.to(self.weight.dtype), self.weight, self.bias).to(self.entropies.dtype)
        label = torch.arange(classes, device=logits.device).repeat_interleave(size)
        label = torch.cat((label, logits.argmax(1)))
        uncertainty = torch.cat((self.entropies.flatten(), entropy(logits)))
        order = uncertainty.argsort(stable=True)
        order = order[label[order].argsort(stable=True)]  # by class, the surest first
        label, uncertainty = label[order], uncertainty[order]
        first = torch.searchsorted(label, torch.arange(classes, device=label.device))
        # Every class has `size` or more rows, so its first `size` places after its start are its own.
        kept = (first[:, None] + torch.arange(size, device=label.device)).flatten()
        rows = torch.cat((self.supports.flatten(0, 1), F.normalize(features, dim=1).to(self.supports.dtype)))
        self.supports.copy_(rows[order[kept]].view(classes, size, width))
        self.entropies.copy_(uncertainty[kept].view(classes, size))


@register("t3a")
class T3A(Adapter):
    """Replaces the classifier by prototypes that follow the stream; no gradient.

    Each image becomes a support of the class that the source classifier predicts; each class keeps the supports of
    least entropy. Logits are the products of features and the supports' mean directions.

    Updates: the classifier. State: K x M features, the classifier's rows among them. Answers: after the update;
    `predict` uses the prototypes as they are. Cost: 1 forward. Needs: a linear classifier.
    Memory: the model and the supports; no activations are kept.
    Differs from the published code: the supports lie in a bank of fixed size, normalised; unlimited supports (M = -1)
    are not offered, because memory would grow without end.
    """

    @dataclass(frozen=True)
    class Config:
        """The setting of "On pitfalls of test-time adaptation" (Zhao et al., ICML 2023)."""

        #: Supports per class (M); the paper chooses from 1, 5, 20, 50, 100.
        supports: int = 100

        @classmethod
        def imagenet(cls) -> T3A.Config:
            """As run on ImageNet-C with a ViT-B/16 by Niu et al. (FOA), ICML 2024."""
            return cls(supports=20)

    config: Config
    updates = "classifier"
    cost = "1F"
    answers = "after"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Puts the prototypes in the place of the classifier."""
        self.model = replace_classifier(model, lambda layer: PrototypeClassifier(layer, self.config.supports))
        return []

    @torch.no_grad()
    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Takes the batch's supports and answers, in one pass."""
        with learning(self.model):
            return self.model(x), StepInfo(used=len(x))

    def export(self) -> nn.Module:
        """A copy of the network with the prototypes as an ordinary linear classifier without bias."""

        def linear(layer: PrototypeClassifier) -> nn.Linear:
            weight = layer.prototypes()
            plain = nn.Linear(weight.shape[1], len(weight), bias=False, device=weight.device, dtype=weight.dtype)
            plain.weight.data.copy_(weight)
            return plain

        network = super().export()
        if isinstance(network, PrototypeClassifier):
            return linear(network).requires_grad_(False).eval()
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, PrototypeClassifier):
                    setattr(module, name, linear(child))
        return network.requires_grad_(False).eval()
