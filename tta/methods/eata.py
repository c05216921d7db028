"""ETA and EATA: learn from reliable images that are not redundant, and forget little (Niu et al., ICML 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms
from tta.adapter import Requirements, StepInfo
from tta.errors import TTAError
from tta.methods.selective import Selective
from tta.objectives import entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData


@register("eta")
class ETA(Selective):
    """Minimises the weighted entropy of the images that are sure enough and unlike what was learned from before.

    Updates: scale and shift of every normalisation layer. State: those, the optimiser, the moving average of the
    predictions learned from. Answers: before the update. Cost: 1 forward, 1 backward; with layer or group norm and less
    than half of the images selected, 1 forward, and 1 forward 1 backward of the selected ones. No backward where none
    is. Needs: affine normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch, or
    of its selected images.
    Differs from the published code: layer and group norm are adapted too, dropout is off, `reset` forgets the moving
    average as well.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR-10-C setting (Doebler et al.'s benchmark), batches of 200 images."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: An image is reliable if its entropy is below this share of the largest possible, log K.
        entropy_margin: float = 0.4
        #: It is redundant if the cosine between its prediction and the moving average is not below this.
        similarity_margin: float = 0.4
        #: Weight of the past in the moving average.
        momentum: float = 0.9

        @classmethod
        def cifar10(cls) -> ETA.Config:
            """CIFAR-10-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def cifar100(cls) -> ETA.Config:
            """CIFAR-100-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls(similarity_margin=0.1)

        @classmethod
        def imagenet(cls) -> ETA.Config:
            """The published ImageNet-C setting, ResNet-50, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9), similarity_margin=0.05)

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift"
    cost = "1F 1B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model)

    def start(self, source_data: SourceData | None) -> None:
        """Nothing has been learned from yet."""
        super().start(source_data)
        self.memory["mean"] = None

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, selects, and steps down the weighted entropy of the selected answers."""
        logits = self.look(x)
        index = self.select(logits.detach())
        chosen = self.selected(x, logits, index)
        if len(index) == 0:
            return logits, StepInfo()
        values = entropy(chosen)
        weights = torch.exp(self.margin(logits) - values.detach())
        loss = (weights * values).mean() + self.penalty()
        self.update(loss)
        return logits, StepInfo(loss=loss.detach(), used=len(index), updated=True)

    def margin(self, logits: Tensor) -> float:
        """Largest entropy of a reliable image, in nats."""
        return self.config.entropy_margin * math.log(logits.shape[1])

    def select(self, logits: Tensor) -> Tensor:
        """Which images to learn from, shape (N,); takes their predictions into the moving average."""
        probs = logits.softmax(1)
        chosen = entropy(logits) < self.margin(logits)
        mean = self.memory["mean"]
        if mean is not None:
            mean = mean.to(probs)
            chosen &= F.cosine_similarity(mean[None], probs).abs() < self.config.similarity_margin
        index = chosen.nonzero()[:, 0]
        if len(index):
            new = probs[index].mean(0)
            self.memory["mean"] = new if mean is None else torch.lerp(new, mean, self.config.momentum)
        return index

    def penalty(self) -> Tensor | float:
        """What is added to the loss."""
        return 0.0


@register("eata")
class EATA(ETA):
    """ETA with an anchor: parameters that matter to the source data (by their Fisher information) are held back.

    Updates: scale and shift of every normalisation layer. State: as ETA; the Fisher information and the source's value
    of those parameters are constants. Answers: before the update. Cost: as ETA, and once, when the adapter is made,
    1 forward and 1 backward of every source image. Needs: affine normalisation layers, source images (no labels;
    the paper takes 2000).
    Memory: as ETA, and the Fisher information of what is learned.
    Differs from the published code: as ETA; source images are taken in the given order.
    """

    @dataclass(frozen=True)
    class Config(ETA.Config):
        """The published CIFAR-10-C setting (Doebler et al.'s benchmark), batches of 200 images."""

        #: Weight of the penalty.
        fisher_weight: float = 1.0
        #: Source images per batch when the Fisher information is computed.
        fisher_batch: int = 64

        def __post_init__(self) -> None:
            if self.fisher_batch < 1:
                raise TTAError(f"eata: fisher_batch is at least 1, got {self.fisher_batch}")

        @classmethod
        def cifar10(cls) -> EATA.Config:
            """CIFAR-10-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def cifar100(cls) -> EATA.Config:
            """CIFAR-100-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls(similarity_margin=0.1)

        @classmethod
        def imagenet(cls) -> EATA.Config:
            """The published ImageNet-C setting, ResNet-50, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9), similarity_margin=0.05, fisher_weight=2000.0)

        @classmethod
        def imagenet_benchmark(cls) -> EATA.Config:
            """ImageNet-C as in Doebler et al.'s benchmark: with Nesterov momentum."""
            optimiser = SGD(lr=2.5e-4, momentum=0.9, nesterov=True)
            return cls(optimiser=optimiser, similarity_margin=0.05, fisher_weight=2000.0)

    config: Config
    source: Tensor
    fisher: Tensor
    requires = Requirements(affine_norm=True, source_data=True)
    cost = "1F 1B; once 1F 1B per source image"

    def start(self, source_data: SourceData | None) -> None:
        """Computes the Fisher information."""
        super().start(source_data)
        assert source_data is not None
        self.register_buffer("source", self.adapted().detach().clone())
        self.register_buffer("fisher", self.fisher_information(source_data))

    def adapted(self) -> Tensor:
        """All adapted values in one vector."""
        return torch.cat([p.flatten() for p in self.model.parameters() if p.requires_grad])

    def fisher_information(self, source_data: SourceData) -> Tensor:
        """Mean over batches of the squared gradient of each batch's mean loss against its own hard labels.

        This is the published estimate. (The squared gradients of single images, whose mean is the usual one, are larger
        by about the size of a batch; the published weights are meant for this one.)
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        total, batches = torch.zeros_like(self.adapted()), 0
        for x, _ in source_data.batches(self.config.fisher_batch, like=parameters[0]):
            with torch.enable_grad():
                logits = self.model(x)
                loss = F.cross_entropy(logits, self._answer_checked(logits, x).argmax(1))
                gradient = torch.autograd.grad(loss, parameters)
            total += torch.cat([g.flatten() for g in gradient]).square()
            batches += 1
        return total / batches

    def penalty(self) -> Tensor:
        """Squared distance from the source, weighted by the Fisher information."""
        return self.config.fisher_weight * (self.fisher * (self.adapted() - self.source).square()).sum()
