"""NEO: move the features of the stream back to the origin (Murphy et al., ICLR 2026)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.adapter import Adapter, StepInfo
from tta.features import LearningLayer, learning, replace_classifier
from tta.registry import register


class CentredClassifier(LearningLayer):
    """A linear classifier of features minus the mean of all features that it has learned from."""

    weight: Tensor
    bias: Tensor | None
    mean: Tensor
    count: Tensor

    def __init__(self, layer: nn.Linear, rate: float | None) -> None:
        super().__init__()
        self.weight, self.bias, self.rate = layer.weight, layer.bias, rate
        dtype = torch.promote_types(layer.weight.dtype, torch.float32)
        self.register_buffer("mean", torch.zeros_like(layer.weight[0], dtype=dtype))
        self.register_buffer("count", torch.zeros((), dtype=dtype, device=layer.weight.device))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, D); learns from them if `learning`."""
        if self.learning:
            with torch.no_grad():
                self.count += len(features)
                rate = len(features) / self.count if self.rate is None else self.rate
                self.mean.lerp_(features.to(self.mean.dtype).mean(0), torch.as_tensor(rate).to(self.mean))
        return F.linear(features - self.mean.to(features.dtype), self.weight, self.bias)


@register("neo")
class NEO(Adapter):
    """Subtracts the running mean of the features in front of the classifier: no gradient, no hyper-parameter.

    A shift of the inputs mostly moves all features by one vector; trained networks have theirs centred at the origin
    (neural collapse), so the mean over the stream is that vector. Published for vision transformers, runs on every
    network with a linear classifier. Where the source's features have another mean (after a ReLU, say), it does harm.

    Updates: one vector, the mean of the features. State: that vector and the number of images. Answers: after the
    update; `predict` uses the mean as it is. Cost: 1 forward. Needs: a linear classifier.
    Memory: the model and one vector; no activations are kept.
    Differs from the published code: nothing but the bookkeeping.
    """

    @dataclass(frozen=True)
    class Config:
        """The published method."""

        #: Weight of each batch in the mean; None counts every image of the stream alike.
        rate: float | None = None

        @classmethod
        def continual(cls) -> NEO.Config:
            """NEO-Continual, for domains that change."""
            return cls(rate=0.1)

    config: Config
    updates = "mean of the features"
    cost = "1F"
    answers = "after"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Puts the centred classifier in place."""
        self.model = replace_classifier(model, lambda layer: CentredClassifier(layer, self.config.rate))
        return []

    @torch.no_grad()
    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Learns the mean and answers, in one pass."""
        with learning(self.model):
            return self.model(x), StepInfo(used=len(x))
