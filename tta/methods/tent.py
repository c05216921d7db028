"""TENT: minimise the entropy of the predictions (Wang et al., ICLR 2021)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter, Requirements, StepInfo
from tta.objectives import entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register


@register("tent")
class Tent(Adapter):
    """Learns scale and shift of the normalisation layers from each batch, under the batch's own statistics.

    Updates: scale and shift of every normalisation layer. State: those and the optimiser. Answers: before the update.
    Cost: 1 forward, 1 backward per step. Needs: affine normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch.
    Differs from the published code: layer and group norm are adapted too, dropout is off, the caller's model stays
    untouched. The published `episodic` is the reset policy "batch" of the evaluation.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR-10-C setting, batches of 200 images."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Updates per batch; the answer comes from the last forward pass.
        steps: int = 1

        @classmethod
        def imagenet(cls) -> Tent.Config:
            """The published ImageNet-C setting, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9))

        @classmethod
        def imagenet_benchmark(cls) -> Tent.Config:
            """ImageNet-C as in Doebler et al.'s benchmark and in CoTTA's comparison: with Nesterov momentum."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9, nesterov=True))

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift"
    cost = "1F 1B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model)

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, then steps down the mean entropy of the answers."""
        for _ in range(self.config.steps):
            logits = self.model(x)
            loss = entropy(logits).mean()
            self.update(loss)
        return logits, StepInfo(loss=loss.detach(), used=len(x), updated=True)
