"""CMF: ROID's losses, with a Kalman filter over the weights (Lee & Chang, ICLR 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tta import teacher
from tta.methods.roid import ROID
from tta.optimisers import SGD
from tta.registry import register
from tta.source_data import SourceData

#: Number of adapted values of the model for which the published process noise was chosen (ViT-B).
_VALUES_OF_VIT = 38400


@register("cmf")
class CMF(ROID):
    """Keeps a hidden model that drifts towards the source and takes in the learned weights as noisy measurements.

    Updates: scale and shift of every normalisation layer. State: as ROID, and the hidden model with its variance.
    Answers: before the update, as ROID. Cost: as ROID. Needs: affine normalisation layers.
    Memory: as ROID, and the hidden value of what is learned.
    Differs from the published code: as ROID; `reset` resets the variance, too.
    """

    @dataclass(frozen=True)
    class Config(ROID.Config):
        """The published CIFAR setting, batches of 200 images, but for a draw per image instead of per view."""

        #: Weight of the hidden model against the source in its drift.
        drift: float = 0.99
        #: Weight of the present weights against the hidden model's after an update.
        hidden_momentum: float = 0.99
        #: Process noise of a model with 38,400 adapted values; it is taken in proportion to their number.
        process_noise: float = 0.005

        @classmethod
        def cifar10(cls) -> CMF.Config:
            """Published for CIFAR-10-C, batches of 200 images."""
            return cls(per_image=False)

        @classmethod
        def cifar100(cls) -> CMF.Config:
            """Published for CIFAR-100-C, batches of 200 images."""
            return cls(per_image=False)

        @classmethod
        def imagenet(cls) -> CMF.Config:
            """Published for ImageNet-C, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9, nesterov=True), per_image=False)

    config: Config

    def start(self, source_data: SourceData | None) -> None:
        """Makes the anchor and the hidden model."""
        super().start(source_data)
        self.hidden: nn.Module = self.copy_of(self.model)
        self.memory["variance"] = 0.0

    def consolidate(self) -> None:
        """Predict, measure, update; then go a little of the way to the hidden model."""
        learned, hidden, source = (self.adapted(network) for network in (self.model, self.hidden, self.anchor))
        noise = self.config.process_noise * sum(p.numel() for p in learned) / _VALUES_OF_VIT
        teacher.follow(hidden, source, self.config.drift)
        variance = self.config.drift**2 * self.memory["variance"] + noise
        keep = max((1 - noise) / (variance + 1 - noise), 0.89)  # the published bounds
        keep = 1.0 if keep >= 0.9999 else keep
        self.memory["variance"] = keep * variance
        teacher.follow(hidden, learned, keep)
        teacher.follow(learned, hidden, self.config.hidden_momentum)
