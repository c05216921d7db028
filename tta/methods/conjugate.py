"""Conjugate pseudo-labels: the loss at test time that suits the training loss (Goyal et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import norms, objectives
from tta.adapter import Adapter, Requirements, StepInfo
from tta.errors import TTAError
from tta.optimisers import SGD, Optimiser
from tta.registry import register


@register("conjugate")
class ConjugatePL(Adapter):
    """Steps down the training loss at its conjugate pseudo-label, then answers.

    For a model trained with cross-entropy this is the entropy of the prediction at a temperature; for one trained with
    the poly-1 loss, `epsilon` is that loss's.

    Updates: scale and shift of every normalisation layer. State: those and the optimiser. Answers: after the update
    (`predict` answers with what was learned so far). Cost: 2 forwards, 1 backward. Needs: affine normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch.
    Differs from the published code: layer and group norm are adapted too, dropout is off, the pseudo-label is a closed
    form instead of the solution of a linear system.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR setting, batches of 200 images, for a model trained with cross-entropy."""

        optimiser: Optimiser = SGD(lr=1e-3, momentum=0.9, nesterov=True)
        #: The logits are divided by it. The paper chooses it per data set, on corruptions held out for that.
        temperature: float = 1.0
        #: Of the poly-1 loss that the model was trained with, CE + epsilon (1 - p_y); 0 is cross-entropy.
        epsilon: float = 0.0

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.epsilon < 0:
                raise TTAError(
                    "conjugate: temperature is above 0 and epsilon at least 0,"
                    f" got temperature={self.temperature}, epsilon={self.epsilon}"
                )

        @classmethod
        def cifar10_poly(cls) -> ConjugatePL.Config:
            """CIFAR-10-C, a ResNet-26 trained with the poly-1 loss, batches of 200 images."""
            return cls(epsilon=6.0)

        @classmethod
        def imagenet_poly(cls) -> ConjugatePL.Config:
            """ImageNet-C, a ResNet-50 trained with the poly-1 loss, batches of 200 images."""
            return cls(epsilon=8.0)

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift"
    cost = "2F 1B"
    answers = "after"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model)

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Steps down the conjugate loss, then answers."""
        logits = self.model(x) / self.config.temperature
        loss = objectives.conjugate(logits, self.config.epsilon).mean()
        self.update(loss)
        with torch.no_grad():
            return self.model(x), StepInfo(loss=loss.detach(), used=len(x), updated=True)
