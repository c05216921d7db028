"""ROID: universal test-time adaptation by certainty and diversity weighting (Marsden et al., WACV 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms, teacher
from tta.adapter import Requirements, StepInfo
from tta.methods.selective import Selective
from tta.objectives import entropy, soft_likelihood_ratio, symmetric_cross_entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import CottaViews


@register("roid")
class ROID(Selective):
    """Minimises the soft likelihood ratio of sure and unusual images, stays near the source, corrects for the prior.

    Images whose prediction is like the average prediction have no weight; the others weigh more the surer and the more
    unusual they are. They also have to be predicted alike in an augmented view. After each update the weights go a
    little of the way back to the source's.

    Updates: scale and shift of every normalisation layer. State: those, the optimiser, the moving average of the
    predictions, the random generator. Answers: before the update, with logits multiplied by the smoothed prior of the
    batch. Cost: 1 forward 1 backward, and about half of each for the views; with layer or group norm and less than half
    of the images with weight, only those go backward, and forward once more. Needs: affine normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch and of
    its views.
    Differs from the published code: the losses are divided by the size of the batch at hand, not by the configured one;
    where all images are equally sure or unusual (a single image) the weight is 1 instead of undefined; by default each
    image has a view of its own. As there, the views are normalised with their own batch statistics.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR setting, batches of 200 images, but for a draw per image instead of per view."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Weight of the present weights against the source's after an update.
        source_momentum: float = 0.99
        #: Weight of the past in the moving average of the predictions.
        momentum: float = 0.9
        #: The smaller, the more the weights differ.
        temperature: float = 1 / 3
        #: Whether augmented views are to be predicted alike; whether answers are corrected for the prior.
        consistency: bool = True
        correct_prior: bool = True
        #: Whether each image has an augmentation of its own, and half of them mirror.
        per_image: bool = True
        flip: bool = True

        @classmethod
        def cifar10(cls) -> ROID.Config:
            """Published for CIFAR-10-C, batches of 200 images."""
            return cls(per_image=False)

        @classmethod
        def cifar100(cls) -> ROID.Config:
            """Published for CIFAR-100-C, batches of 200 images."""
            return cls(per_image=False)

        @classmethod
        def imagenet(cls) -> ROID.Config:
            """Published for ImageNet-C, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9, nesterov=True), per_image=False)

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift"
    cost = "1.5F 1.5B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model)

    def start(self, source_data: SourceData | None) -> None:
        """Makes the anchor."""
        super().start(source_data)
        self.anchor = self.copy_of(self.model)
        self.memory["mean"] = None
        self.transform = CottaViews(
            per_image=self.config.per_image, flip=self.config.flip, sigma=(0, 0), noise=0, padding="reflection"
        )

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, steps down the weighted losses, and goes a little of the way back."""
        logits = self.look(x)
        weights = self.weigh(logits.detach())
        index = weights.nonzero()[:, 0]
        chosen, weights = self.selected(x, logits, index), weights[index]
        loss = (weights * soft_likelihood_ratio(chosen)).sum() / len(x)
        if self.config.consistency:
            disagreement = symmetric_cross_entropy(self.model(self.view(x[index])), chosen)
            loss = loss + (weights * disagreement).sum() / len(x)
        self.update(loss)
        self.consolidate()
        return self.corrected(logits.detach()), StepInfo(loss=loss.detach(), used=len(index), updated=True)

    def answer(self, x: Tensor) -> Tensor:
        """The corrected logits."""
        return self.corrected(self.model(x))

    def weigh(self, logits: Tensor) -> Tensor:
        """The weight of each image, shape (B,); takes the predictions into the moving average."""
        probs = logits.softmax(1)
        mean = self.memory["mean"]
        mean = torch.full_like(probs[0], 1 / probs.shape[1]) if mean is None else mean.to(probs)
        diversity = _spread(1 - F.cosine_similarity(mean[None], probs))
        certainty = _spread(-entropy(logits))
        self.memory["mean"] = torch.lerp(probs.mean(0), mean, self.config.momentum)
        weights = torch.exp(diversity * certainty / self.config.temperature)
        return weights * (diversity >= diversity.mean())

    def view(self, x: Tensor) -> Tensor:
        """One augmented view of each image."""
        draws = self.transform.draw(1, x, self.host_generator)
        return self.transform.apply(x, draws, self.generator)

    def consolidate(self) -> None:
        """Goes a little of the way back to the source."""
        teacher.follow(self.adapted(self.model), self.adapted(self.anchor), self.config.source_momentum)

    def adapted(self, network: nn.Module) -> list[nn.Parameter]:
        """The parameters of a network that are learned in the model."""
        pairs = zip(network.parameters(), self.model.parameters(), strict=True)
        return [p for p, ours in pairs if ours.requires_grad]

    def corrected(self, logits: Tensor) -> Tensor:
        """The logits times the batch's mean prediction, smoothed: the more so, the smaller the batch.

        This multiplies logits, as published, not probabilities.
        """
        if not self.config.correct_prior:
            return logits
        prior, classes = logits.softmax(1).mean(0, keepdim=True), logits.shape[1]
        smooth = max(1 / len(logits), 1 / classes) / prior.max()
        return logits * (prior + smooth) / (1 + smooth * classes)


def _spread(values: Tensor) -> Tensor:
    """Values from 0 (the least) to 1 (the greatest); 0 where all are equal."""
    low, high = values.aminmax()
    return (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)
