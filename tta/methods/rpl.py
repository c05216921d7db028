"""RPL: self-training with a loss that forgives wrong labels (Rusak et al., TMLR 2022)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter, Requirements, StepInfo
from tta.errors import TTAError
from tta.objectives import generalised_cross_entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register


@register("rpl")
class RPL(Adapter):
    """Steps down the generalised cross-entropy of the answers with their own hard labels.

    Updates: scale and shift of every normalisation layer. State: those and the optimiser. Answers: before the update.
    Cost: 1 forward, 1 backward. Needs: affine normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch.
    Differs from the published code: layer and group norm are adapted too, dropout is off.
    """

    @dataclass(frozen=True)
    class Config:
        """The CIFAR-10-C setting of Doebler et al.'s benchmark, batches of 200 images."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: From cross-entropy (towards 0) to mean absolute error (1).
        q: float = 0.8

        def __post_init__(self) -> None:
            if not 0 < self.q <= 1:
                raise TTAError(f"rpl: q is in (0, 1], got {self.q}")

        @classmethod
        def cifar10(cls) -> RPL.Config:
            """CIFAR-10-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def cifar100(cls) -> RPL.Config:
            """CIFAR-100-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def imagenet(cls) -> RPL.Config:
            """ImageNet-C and CCC: ResNet-50, batches of 64 images (Press et al.'s code)."""
            return cls(optimiser=SGD(lr=5e-4, momentum=0.9))

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift"
    cost = "1F 1B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model)

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, then steps down the loss."""
        logits = self.model(x)
        loss = generalised_cross_entropy(logits, self.config.q).mean()
        self.update(loss)
        return logits, StepInfo(loss=loss.detach(), used=len(x), updated=True)
