"""SHOT, online: sure and diverse predictions under a fixed classifier (Liang et al., ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter, StepInfo
from tta.features import classifier
from tta.objectives import confidence, entropy, negative_diversity
from tta.optimisers import SGD, Optimiser
from tta.registry import register


@register("shot")
class SHOT(Adapter):
    """Maximises information: each prediction sure, their mean diverse; confident predictions also serve as labels.

    Updates: every parameter but the classifier's. State: those and the optimiser. Answers: before the update.
    Cost: 1 forward, 1 backward. Needs: a linear classifier as the last layer.
    Memory: four models (student, source value, gradient, momentum); the activations of a batch.
    Differs from the published code: the paper adapts offline, over epochs, with labels from class centroids; this is
    the online form of Zhao et al.'s benchmark. Dropout is off; the running statistics, which that code updates but does
    not use, are dropped; a batch without a confident prediction has no label term instead of an undefined one.
    """

    @dataclass(frozen=True)
    class Config:
        """Weights as in Zhao et al.'s benchmark, which searches for the learning rate of each data set."""

        optimiser: Optimiser = SGD(lr=1e-3, momentum=0.9, nesterov=True)
        #: Predictions above this confidence serve as labels; weight of their cross-entropy (0: SHOT-IM).
        threshold: float = 0.9
        label_weight: float = 0.3
        #: Weight of entropy and diversity.
        information_weight: float = 1.0

        @classmethod
        def information(cls) -> SHOT.Config:
            """SHOT-IM: information maximisation alone."""
            return cls(label_weight=0.0)

    config: Config
    updates = "all but the classifier"
    cost = "1F 1B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; everything but the classifier is learned."""
        norms.use_batch_statistics(model)
        fixed = {id(p) for p in classifier(model).parameters()}
        return [p for p in model.parameters() if id(p) not in fixed]

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, then steps down the loss."""
        logits = self.model(x)
        loss = self.config.information_weight * (entropy(logits).mean() + negative_diversity(logits))
        if self.config.label_weight:
            sure = (confidence(logits.detach()) > self.config.threshold).to(logits.dtype)
            loss_of_each = F.cross_entropy(logits, logits.detach().argmax(1), reduction="none")
            loss = loss + self.config.label_weight * (loss_of_each * sure).sum() / sure.sum().clamp(min=1)
        self.update(loss)
        return logits, StepInfo(loss=loss.detach(), used=len(x), updated=True)
