"""RMT: a robust mean teacher with contrastive learning and source replay (Doebler et al., CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms, prototypes, teacher
from tta.adapter import Adapter, Requirements, StepInfo
from tta.contrast import info_nce, projector
from tta.features import classifier, features_and_logits
from tta.objectives import symmetric_cross_entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import CottaViews


@register("rmt")
class RMT(Adapter):
    """The student agrees with its teacher on the images and on views of them, and keeps near the source.

    Near the source in two ways: an image, its view and the source prototype nearest to it are drawn together, away from
    other images; and labelled source images are replayed. Student and teacher answer together: the sum of their logits.

    Updates: every weight and bias. State: student, teacher, projector of the contrastive loss, optimiser.
    Answers: before the update, student and teacher. Cost: student 3F 3B (images, views, as many source images; 2F 2B
    without replay), teacher 1F, and once one F per source image; a warm-up costs 2F 1B per image of it.
    Needs: source data with labels, a linear classifier.
    Memory: six models with Adam (student, teacher, source value, gradient, two moments) and the projector; the
    activations of three batches.
    Differs from the published code: source images are drawn with replacement, as many as the batch has; classes without
    source images have no prototype; the optimiser starts afresh after the warm-up; the warm-up is off by default.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR10-C setting, batches of 200 images, without the warm-up."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Weight of the teacher's past in its moving average.
        momentum: float = 0.999
        #: Weights of self-training, of the contrastive loss and of the replayed source; 0 is the source-free variant.
        self_training: float = 1.0
        contrastive: float = 1.0
        replay: float = 1.0
        #: Of the contrastive loss.
        temperature: float = 0.1
        projection: int = 128
        #: Source images on which student and teacher are trained beforehand, with a rising rate, and their batch size.
        warm_up: int = 0
        warm_up_batch: int = 200
        #: Whether each image of the view has a draw of its own, and whether half of them are mirrored.
        per_image: bool = False
        flip: bool = True

        @classmethod
        def cifar10(cls) -> RMT.Config:
            """Published for CIFAR10-C and CIFAR100-C, batches of 200."""
            return cls(warm_up=50_000)

        @classmethod
        def imagenet(cls) -> RMT.Config:
            """Published for ImageNet-C: ResNet-50, batches of 64."""
            optimiser = SGD(lr=0.01, momentum=0.9, nesterov=True)
            return cls(optimiser=optimiser, warm_up=50_000, warm_up_batch=64)

    config: Config
    prototypes: Tensor
    requires = Requirements(source_data=True)
    updates = "all weights"
    cost = "4F 3B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; everything is learned, with a projector for the contrastive loss."""
        norms.use_batch_statistics(model)
        head = classifier(model)
        self.projector = projector(head.in_features, self.config.projection, head.weight, self.generator)
        return [*model.parameters(), *self.projector.parameters()]

    def start(self, source_data: SourceData | None) -> None:
        """Makes teacher and source prototypes, and warms up if wanted."""
        assert source_data is not None, "checked by the requirements"
        self.source = source_data
        labels = source_data.needed_labels(self.name)
        features, logits = prototypes.source_features(self.model, source_data)
        self._answer_checked(logits, features)
        means, counts = prototypes.class_means(features, labels.to(features.device), logits.shape[1])
        self.register_buffer("prototypes", means[counts > 0])
        self.teacher = self.copy_of(self.model)
        self.transform = CottaViews(per_image=self.config.per_image, flip=self.config.flip)
        self.warm_up()

    @property
    def network(self) -> nn.Module:
        """Student and teacher answer together."""
        return SummedLogits(self.model, self.teacher)

    def networks(self) -> list[nn.Module]:
        """Without the projector, which sees no images."""
        return [self.model, self.teacher]

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """One round of self-training, contrastive learning and replay."""
        config = self.config
        with torch.no_grad():
            target = self.teacher(x)
            views = self.transform.apply(x, self.transform.draw(1, x, self.host_generator), self.generator)
        features, logits = features_and_logits(self.model, x)
        features_view, logits_view = features_and_logits(self.model, views)
        agreement = symmetric_cross_entropy(target, logits) + symmetric_cross_entropy(target, logits_view)
        near = prototypes.nearest(features.detach(), self.prototypes)
        embeddings = [self.projector(f) for f in (near, features, features_view)]
        loss = config.self_training * agreement.mean() / 2
        loss = loss + config.contrastive * info_nce(embeddings, config.temperature)
        if config.replay:
            source, labels = self.replayed(x)
            loss = loss + config.replay * F.cross_entropy(self.model(source), labels)
        self.update(loss)
        teacher.follow_network(self.teacher, self.model, config.momentum)
        return logits.detach() + target, StepInfo(loss=loss.detach(), used=len(x), updated=True)

    def replayed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Source images and their labels, as many as there are images in the batch."""
        source, labels = self.source.draw(len(x), x, self.host_generator)
        assert labels is not None, "checked at the start"
        return source, labels

    def warm_up(self) -> None:
        """Trains student and teacher to agree on source images, with a linearly rising learning rate."""
        size = self.config.warm_up_batch
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = self.config.optimiser.build(parameters)
        steps = self.config.warm_up // size
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = self.config.optimiser.lr * (step + 1) / steps
            x, _ = self.source.draw(size, parameters[0], self.host_generator)
            target = self.teacher(x)
            with torch.enable_grad():
                symmetric_cross_entropy(target, self.model(x)).mean().backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            teacher.follow_network(self.teacher, self.model, self.config.momentum)


class SummedLogits(nn.Module):
    """Answers with the sum of the logits of several networks."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return torch.stack([network(x) for network in self.networks]).sum(0)
