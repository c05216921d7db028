"""MEMO: make the mean prediction over views of one image certain, then answer (Zhang et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter, StepInfo
from tta.objectives import marginal_entropy
from tta.optimisers import SGD, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.view_kinds import views_of


@register("memo")
class MEMO(Adapter):
    """Adapts the source model to every image on its own: a step on its views, the answer, and back to the source.

    Updates: every parameter, for one image. State: the random generator. Answers: after the update, with the image
    itself; `predict` does the same and leaves no trace. Cost: per image, 1 forward and 1 backward per view and step,
    1 forward. Memory: four models (student, source, gradient, momentum), the activations of all views. Needs: nothing;
    batches of one image lose nothing.
    Differs from the published code: the views of ImageNet images are padded crops, not resized ones; values are not
    rounded to 8 bits between the operations of a view.
    """

    @dataclass(frozen=True)
    class Config:
        """The setting of Doebler et al.'s benchmark for CIFAR: batch norm mixed with the views' statistics."""

        optimiser: Optimiser = SGD(lr=0.005, momentum=0.9, nesterov=True)
        #: Views per image, their kind (see `tta.view_kinds`), whether half are mirrored; updates per image.
        views: int = 32
        kind: str = "augmix"
        flip: bool = True
        steps: int = 1
        #: Weight of the batch in batch norm statistics; models without batch norm are not concerned.
        alpha: float = 0.1

        @classmethod
        def cifar10(cls) -> MEMO.Config:
            """The published CIFAR-10 setting: ResNet-26 with group norm, no momentum."""
            return cls(optimiser=SGD(lr=0.005, momentum=0.0))

        @classmethod
        def imagenet(cls) -> MEMO.Config:
            """The published ImageNet setting for ResNet-50: 64 views, source statistics weigh as much as 16 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.0), views=64, alpha=1 / 17)

    config: Config
    updates = "all weights, for one image"
    cost = "33F 32B"
    answers = "after"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Mixed batch norm statistics; every parameter is adapted."""
        alpha = self.config.alpha
        self.model = norms.replace_batch_norms(model, lambda layer: norms.MixedBatchNorm(layer, alpha))
        return list(self.model.parameters())

    def start(self, source_data: SourceData | None) -> None:
        """Makes the views, and keeps the parameters to go back to."""
        self.transform = views_of(self.config.kind, self.config.flip)
        self.anchor = self.copy_of(self.model)

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """One image after the other."""
        return self.answer(x), StepInfo(used=len(x), updated=True)

    @torch.enable_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Adapts to each image, answers it and forgets it."""
        return torch.cat([self.adapted(image) for image in x.split(1)])

    def adapted(self, image: Tensor) -> Tensor:
        """The logits (1, K) of one image (1, C, H, W) after the model has adapted to it."""
        try:
            for _ in range(self.config.steps):
                self.update(marginal_entropy(self.model(self.views(image))))
            with torch.no_grad():
                return self.model(image)
        finally:
            self.forget()

    def views(self, image: Tensor) -> Tensor:
        """The views of one image, shape (V, C, H, W)."""
        draws = self.transform.draw(self.config.views, image, self.host_generator)
        return self.transform.apply(image, draws, self.generator)

    @torch.no_grad()
    def forget(self) -> None:
        """Back to the source model, with a fresh optimiser."""
        torch._foreach_copy_(list(self.model.parameters()), list(self.anchor.parameters()))
        self.optimiser = self._fresh_optimiser()
