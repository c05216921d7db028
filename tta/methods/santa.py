"""SANTA: align with the source model's predictions and prototypes (Chakrabarty et al., TMLR 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import norms, prototypes
from tta.adapter import Adapter, Requirements, StepInfo
from tta.contrast import info_nce, projector
from tta.features import classifier, features_and_logits
from tta.objectives import cross_entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import CottaViews


@register("santa")
class SANTA(Adapter):
    """Minimises the surprise of the source model at the predictions, and contrasts images around source prototypes.

    The first is the cross-entropy -sum p log q with p of the student, on the image and on a view of it, and q of the
    anchor (the source model under batch statistics) on the image. The second draws an image, its view and the nearest
    source prototype together, away from other images.

    Updates: scale and shift of the normalisation layers. State: those, the projector of the contrastive loss, the
    optimiser. Answers: before the update. Cost: student 2F 2B, anchor 1F, and once one F per source image.
    Needs: affine normalisation layers, source data with labels, a linear classifier.
    Memory: the model; of what is learned, anchor, gradient and optimiser; the same of the projector; the activations
    of two batches.
    Differs from the published code: classes without source images have no prototype.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting of CIFAR10-C and CIFAR100-C, batches of 200 images."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Weights of the two losses.
        self_training: float = 1.0
        contrastive: float = 1.0
        #: Of the contrastive loss.
        temperature: float = 0.1
        projection: int = 128
        #: Whether each image of the view has a draw of its own, and whether half of them are mirrored.
        per_image: bool = False
        flip: bool = True

        @classmethod
        def imagenet(cls) -> SANTA.Config:
            """Published for ImageNet-C: ResNet-50, batches of 64."""
            return cls(optimiser=SGD(lr=0.01, momentum=0.9, nesterov=True))

    config: Config
    prototypes: Tensor
    requires = Requirements(affine_norm=True, source_data=True)
    updates = "norm scale and shift"
    cost = "3F 2B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned, and a projector for the contrastive loss."""
        norms.use_batch_statistics(model)
        head = classifier(model)
        self.projector = projector(head.in_features, self.config.projection, head.weight, self.generator)
        return [*norms.affine_parameters(model), *self.projector.parameters()]

    def start(self, source_data: SourceData | None) -> None:
        """Makes the anchor and the source prototypes."""
        assert source_data is not None, "checked by the requirements"
        labels = source_data.needed_labels(self.name)
        features, logits = prototypes.source_features(self.model, source_data)
        self._answer_checked(logits, features)
        means, counts = prototypes.class_means(features, labels.to(features.device), logits.shape[1])
        self.register_buffer("prototypes", means[counts > 0])
        self.anchor = self.copy_of(self.model)
        self.transform = CottaViews(per_image=self.config.per_image, flip=self.config.flip)

    def networks(self) -> list[nn.Module]:
        """Without the projector, which sees no images."""
        return [self.model, self.anchor]

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, then steps down both losses."""
        config = self.config
        with torch.no_grad():
            source = self.anchor(x)
            views = self.transform.apply(x, self.transform.draw(1, x, self.host_generator), self.generator)
        features, logits = features_and_logits(self.model, x)
        features_view, logits_view = features_and_logits(self.model, views)
        surprise = cross_entropy(logits, source) + cross_entropy(logits_view, source)
        near = prototypes.nearest(features.detach(), self.prototypes)
        embeddings = [self.projector(f) for f in (near, features, features_view)]
        loss = config.self_training * surprise.mean() / 2
        loss = loss + config.contrastive * info_nce(embeddings, config.temperature)
        self.update(loss)
        return logits, StepInfo(loss=loss.detach(), used=len(x), updated=True)
