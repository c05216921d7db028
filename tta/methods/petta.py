"""PeTTA: sense how far the model has diverged and adapt the more carefully (Hoang et al., NeurIPS 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import memory, norms, prototypes, teacher
from tta.adapter import Adapter, Requirements, StepInfo
from tta.features import features_and_logits
from tta.objectives import cross_entropy, symmetric_cross_entropy
from tta.optimisers import Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import CottaViews


@register("petta")
class PeTTA(Adapter):
    """RoTTA's memory and slow statistics, with a teacher and a regularisation that react to drift.

    The divergence of the stream, g = 1 - exp(-d) in [0, 1], compares the running mean of the teacher's features of each
    class with the source's (d: squared distance in units of the source's variance, mean over features and the classes
    in the batch). The student keeps its direction from the source with a weight of g * `regularisation`, and the
    teacher follows it at a rate of (1 - g) * (1 - `momentum`). An update follows every batch.

    Updates: scale and shift of the normalisation layers; statistics of batch norms. State: student, teacher, the source
    weights under the statistics of the stream, optimiser, a memory of `capacity` images, class means of features.
    Answers: before the update, with the teacher. Cost: 1F and, over the memory, 4F 2B per batch (teacher, source
    weights, student on images and views); once one F per source image.
    Needs: affine normalisation layers, source data (unlabelled will do), a linear classifier. Waits for the device once
    per batch, as the memory decides image by image.
    Memory: the model; of what is learned, teacher, source value, gradient and optimiser; `capacity` images; the
    activations of twice as many.
    Differs from the published code: layer and group norm are adapted too; a class to which fewer than two source images
    are assigned has the mean and variance of all of them. The paper weighs distances by the covariance of the features,
    the code and this by their variances.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting of CIFAR10-C and CIFAR100-C, batches of 64 images."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Images in memory.
        capacity: int = 64
        #: Weight of the teacher's past in its moving average without divergence (1 - alpha_0).
        momentum: float = 0.999
        #: Weight of the regularisation at full divergence (lambda_0), and of the predictions of the source weights.
        regularisation: float = 10.0
        anchoring: float = 1.0
        #: Weight of the memory in the batch-norm statistics, and of a batch in the class means.
        alpha: float = 0.05
        feature_rate: float = 0.05
        #: Agree with the teacher in both directions on images and views; otherwise follow it on the views.
        symmetric: bool = True
        #: What age and uncertainty count when an image has to leave the memory.
        timeliness: float = 1.0
        uncertainty: float = 1.0
        #: Whether each image of the augmented memory has a draw of its own, and whether half of them are mirrored.
        per_image: bool = False
        flip: bool = True

        @classmethod
        def imagenet(cls) -> PeTTA.Config:
            """Published for ImageNet-C: ResNet-50, batches of 64."""
            return cls(symmetric=False)

    config: Config
    source_means: Tensor
    source_variances: Tensor
    feature_means: Tensor
    requires = Requirements(affine_norm=True, source_data=True)
    updates = "norm scale and shift, norm statistics"
    cost = "1F, +4F 2B per image in memory and batch"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Slow statistics; the affine parameters are learned."""
        self.model = norms.replace_batch_norms(model, lambda layer: norms.RobustBatchNorm(layer, self.config.alpha))
        return norms.affine_parameters(self.model)

    def start(self, source_data: SourceData | None) -> None:
        """Makes the teacher, a copy of the source, the source's class statistics and an empty memory."""
        assert source_data is not None, "checked by the requirements"
        config = self.config
        features, logits = prototypes.source_features(self.model, source_data)
        self._answer_checked(logits, features)
        labels = logits.argmax(1)
        means, counts = prototypes.class_means(features, labels, logits.shape[1])
        variances = prototypes.class_variances(features, labels, means)
        rare = (counts < 2)[:, None]
        self.register_buffer("source_means", torch.where(rare, features.mean(0), means))
        self.register_buffer("source_variances", torch.where(rare, features.var(0, correction=0), variances))
        self.register_buffer("feature_means", self.source_means.clone())
        self.teacher, self.original = self.copy_of(self.model), self.copy_of(self.model)
        self.transform = CottaViews(per_image=config.per_image, flip=config.flip)
        self.rule: memory.Rule = memory.CSTU(config.capacity, config.timeliness, config.uncertainty)
        self.memory = {"bank": memory.empty()}

    @property
    def network(self) -> nn.Module:
        """The teacher answers."""
        return self.teacher

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, fills the memory, and learns from it as far as the divergence allows."""
        with torch.no_grad():
            features, logits = features_and_logits(self.teacher, x)
            probs = logits.softmax(1)
            entropy = -(probs * (probs + 1e-6).log()).sum(1)
            labels = logits.argmax(1)
            divergence = self.divergence(labels)
            self.take_in(features, labels)
        bank = self.memory["bank"]
        self.rule.add(bank, x, labels.tolist(), entropy.tolist(), logits.shape[1], self.host_generator)
        images = memory.images(bank)
        loss = self.loss(images, divergence)
        self.update(loss)
        teacher.follow_network(self.teacher, self.model, 1 - (1 - divergence) * (1 - self.config.momentum))
        return logits, StepInfo(loss=loss.detach(), used=len(images), updated=True)

    def divergence(self, labels: Tensor) -> Tensor:
        """How far the classes of a batch, shape (B,), have drifted from the source: a scalar in [0, 1]."""
        present = F.one_hot(labels, len(self.source_means)).amax(0).to(self.source_means.dtype)
        squares = (self.feature_means - self.source_means).square() / (self.source_variances + 1e-6)
        return 1 - torch.exp(-(squares.mean(1) * present).sum() / present.sum())

    def take_in(self, features: Tensor, labels: Tensor) -> None:
        """Moves the mean of the features of every class in the batch, (B, D), towards theirs."""
        means, counts = prototypes.class_means(features.to(self.feature_means.dtype), labels, len(self.feature_means))
        rate = self.config.feature_rate * (counts > 0).to(means.dtype)[:, None]
        self.feature_means.lerp_(means, rate.expand_as(means))

    def loss(self, x: Tensor, divergence: Tensor) -> Tensor:
        """Agreement with the teacher, with the source weights, and closeness to these as far as needed; a scalar."""
        config = self.config
        views = self.transform.apply(x, self.transform.draw(1, x, self.host_generator), self.generator)
        with norms.updating_statistics(self.model, self.teacher, self.original):
            with torch.no_grad():
                target, source = self.teacher(x), self.original(x)
            with torch.set_grad_enabled(config.symmetric):  # otherwise the pass only moves the statistics
                logits = self.model(x)
            logits_view = self.model(views)
        if config.symmetric:
            agreement = symmetric_cross_entropy(target, logits) + symmetric_cross_entropy(target, logits_view)
            loss = agreement.mean() / 2
        else:
            loss = cross_entropy(target, logits_view).mean()
        loss = loss + config.anchoring * cross_entropy(source, logits_view).mean()
        return loss + divergence * config.regularisation * self.turned_away()

    def turned_away(self) -> Tensor:
        """Negative cosine between the learned parameters and the source's, mean over the tensors."""
        pairs = zip(*teacher.adapted(self.model, self.original), strict=True)
        return -torch.stack([F.cosine_similarity(p.flatten(), s.flatten(), dim=0) for p, s in pairs]).mean()
