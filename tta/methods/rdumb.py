"""RDumb: ETA that starts afresh at regular intervals (Press et al., NeurIPS 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tta.adapter import StepInfo
from tta.errors import TTAError
from tta.methods.eata import ETA
from tta.optimisers import SGD
from tta.registry import register
from tta.source_data import SourceData


@register("rdumb")
class RDumb(ETA):
    """ETA, and after every so many batches everything goes back to the source.

    Updates: scale and shift of every normalisation layer. State: as ETA, and the number of batches since the reset.
    Answers: before the update. Cost: as ETA. Needs: affine normalisation layers.
    Memory: as ETA.
    Differs from the published code: the reset follows the last batch of a period instead of preceding the next one.
    """

    @dataclass(frozen=True)
    class Config(ETA.Config):
        """The CIFAR-10-C setting of Doebler et al.'s benchmark, batches of 200 images."""

        #: Batches from one reset to the next.
        reset_every: int = 1000

        def __post_init__(self) -> None:
            if self.reset_every < 1:
                raise TTAError(f"rdumb: reset_every is at least 1, got {self.reset_every}")

        @classmethod
        def cifar10(cls) -> RDumb.Config:
            """CIFAR-10-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def cifar100(cls) -> RDumb.Config:
            """CIFAR-100-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def imagenet(cls) -> RDumb.Config:
            """The published setting, for ImageNet-C and CCC: ResNet-50, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9), similarity_margin=0.05)

    config: Config

    def start(self, source_data: SourceData | None) -> None:
        """No batch yet."""
        super().start(source_data)
        self.memory["batches"] = 0

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """A step of ETA, then the reset if it is due."""
        logits, info = super().step(x)
        self.memory["batches"] += 1
        due = self.memory["batches"] >= self.config.reset_every
        if due:
            self.reset()
        return logits, info._replace(reset=due)
