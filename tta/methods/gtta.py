"""GTTA: create intermediate domains and train on them (Marsden et al., WACV 2024); the mixup variant."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter, Requirements, StepInfo
from tta.objectives import confidence
from tta.optimisers import Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData


@register("gtta")
class GTTA(Adapter):
    """Trains on labelled source images mixed with test images, then on the confident pseudo-labels of the batch.

    Each source image is mixed with the test image whose prediction is most like its own and keeps its label. Test
    images are trained on if their confidence reaches the square root of the average confidence so far.

    Updates: every weight and bias. State: those, the optimiser, the average confidence. Answers: between the update on
    the source and the one on the test images; `predict` answers with the model as it is.
    Cost: 4F 2B per step (source and test images once without gradient, mixed and test images once with it).
    Needs: source data with labels.
    Memory: five models with Adam (student, source value, gradient, two moments), the source data; the activations of
    two batches.
    Differs from the published code: of its two ways to intermediate domains only mixup is here; the style transfer it
    uses for ImageNet needs networks that are trained for it. Source images are drawn with replacement, as many as the
    batch has. A batch without a confident image has a loss of 0 on its test images, not NaN.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR10-C and CIFAR100-C setting, batches of 200 images."""

        optimiser: Optimiser = Adam(lr=1e-5)
        #: Share of the test image in a mixed one.
        mixup: float = 1 / 3
        #: Weight of the past in the average confidence, and where that starts.
        momentum: float = 0.9
        confidence: float = 0.9
        #: Pairs of updates per batch.
        steps: int = 1

    config: Config
    confidence: Tensor
    requires = Requirements(source_data=True)
    answers = "after"
    updates = "all weights"
    cost = "4F 2B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; everything is learned."""
        norms.use_batch_statistics(model)
        return list(model.parameters())

    def start(self, source_data: SourceData | None) -> None:
        """Keeps the source images, and an average confidence."""
        assert source_data is not None, "checked by the requirements"
        source_data.needed_labels(self.name)
        self.source = source_data
        like = next(self.model.parameters())
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.register_buffer("confidence", torch.tensor(self.config.confidence, dtype=dtype, device=like.device))

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Trains on mixed source images, answers, and trains on what is sure."""
        for step in range(self.config.steps):
            with torch.no_grad():
                logits = self.model(x)
                if step == 0:
                    labels, sure = self.pseudo_labels(logits)
                source, source_labels = self.replayed(x)
                alike = self.model(source).softmax(1) @ logits.softmax(1).T
                mixed = torch.lerp(source, x[alike.argmax(1)], self.config.mixup)
            loss_source = F.cross_entropy(self.model(mixed), source_labels)
            self.update(loss_source)
            logits = self.model(x)
            each = F.cross_entropy(logits, labels, reduction="none")
            loss = (each * sure).sum() / sure.sum().clamp(min=1)
            self.update(loss)
        return logits, StepInfo(loss=(loss_source + loss).detach(), used=sure.sum(), updated=True)

    def pseudo_labels(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The predicted classes and which of them are sure, both of shape (B,); moves the average confidence."""
        sureness = confidence(logits)
        self.confidence.lerp_(sureness.mean().to(self.confidence.dtype), 1 - self.config.momentum)
        return logits.argmax(1), sureness >= self.confidence.sqrt()

    def replayed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Source images and their labels, as many as there are images in the batch."""
        source, labels = self.source.draw(len(x), x, self.host_generator)
        assert labels is not None, "checked at the start"
        return source, labels
