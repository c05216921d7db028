"""CoTTA: learn from an augmentation-averaged teacher, restore weights at random (Wang et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tta import norms, teacher
from tta.acceleration import channels_last_is_safe
from tta.adapter import Adapter, StepInfo
from tta.errors import TTAError, unknown
from tta.mild_views import MOST, mild_view
from tta.objectives import confidence, cross_entropy, likelihood_ratio, symmetric_cross_entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import CottaViews

_OBJECTIVES = {
    "cross_entropy": cross_entropy,
    "symmetric": symmetric_cross_entropy,
    "likelihood_ratio": likelihood_ratio,
}
#: What the presets `fast` and `balanced` have in common; the anchor is not asked.
_CHEAP: dict[str, Any] = {
    "momentum": 0.99,
    "gate": 2.0,
    "kind": "mild",
    "objective": "likelihood_ratio",
}


@register("cotta")
class CoTTA(Adapter):
    """The student learns the teacher's predictions; the teacher is the student's moving average and gives the answer.

    Where the source model is unsure of a batch (its mean confidence is under the gate), the teacher's prediction is the
    mean of its logits over augmented views. After each update a random share of the student's weights is set back.

    Published, that is 32 strong random views. `fast` and `balanced` spend less: few mild views, the same ones for what
    is taught and what is answered, and a student that learns from the images that the teacher is surest of.

    Updates: every weight and bias. State: student, teacher and optimiser; the frozen source copy (anchor) is also what
    is restored and what `reset` returns to. Answers: before the update, with the teacher.
    Cost: student 1F 1B of the images it learns from, teacher 1F, anchor 1F (not at gates of 0 or above 1), one F per
    view where the gate opens (the first mild view is the image itself, and the teacher's pass).
    Needs: nothing; with layer norm (ViT) it is known to do harm.
    Memory: six models with Adam (student, teacher, anchor, gradient, two moments); the activations of a batch.
    Views are made `chunk` at a time, and their activations are not kept.
    Differs from the published code: views are computed only if they are used, and the plain teacher pass only if they
    are not; dropout is off; by default each image of a view has a draw of its own (the presets draw as published).
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR10-C setting, but for a draw per image instead of per view."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Weight of the teacher's past in its moving average.
        momentum: float = 0.999
        #: Probability that a weight is set back to the source's after an update.
        restore: float = 0.01
        #: Views are averaged if the source model's mean confidence on the batch is below.
        gate: float = 0.92
        #: "published": random views; "mild": the image, and copies moved by a pixel or two (`tta.mild_views`).
        kind: Literal["published", "mild"] = "published"
        #: Number of views, and whether each image has draws of its own and half of the views are mirrored.
        views: int = 32
        per_image: bool = True
        flip: bool = True
        #: What the student minimises against the teacher: its cross-entropy, the mean of both cross-entropies
        #: ("symmetric"), or the negative log-odds of the teacher's classes ("likelihood_ratio").
        objective: Literal["cross_entropy", "symmetric", "likelihood_ratio"] = "cross_entropy"
        #: Share of each batch that mild views beyond the first are made of: the images with the least margin.
        unsure: float = 1.0
        #: Share of each batch that the student learns from: of each predicted class, those that are surest.
        learn_from: float = 1.0
        #: Views per pass through the teacher; None lets the device decide. Does not change results.
        chunk: int | None = None

        def __post_init__(self) -> None:
            if self.objective not in _OBJECTIVES:
                raise unknown("objective", self.objective, list(_OBJECTIVES))
            if self.kind == "mild" and not 1 <= self.views <= MOST:
                raise TTAError(f"cotta: there are 1 to {MOST} mild views, got views={self.views}")
            for what, share in (("unsure", self.unsure), ("learn_from", self.learn_from)):
                if not 0 < share <= 1:
                    raise TTAError(f"cotta: {what} is a share above 0 and at most 1, got {share}")
            if self.kind == "published" and self.unsure < 1:
                raise TTAError("cotta: views for unsure images only are made of kind='mild', got kind='published'")

        @classmethod
        def cifar10(cls) -> CoTTA.Config:
            """Published for CIFAR10-C: WRN-28-10, batches of 200."""
            return cls(per_image=False)

        @classmethod
        def cifar100(cls) -> CoTTA.Config:
            """Published for CIFAR100-C: ResNeXt-29, batches of 200."""
            return cls(per_image=False, gate=0.72)

        @classmethod
        def fast(cls) -> CoTTA.Config:
            """Ours, 3 forward-equivalents: two mild views, a third of the images (docs/performance.md)."""
            return cls(**_CHEAP, views=2, learn_from=1 / 3)

        @classmethod
        def balanced(cls) -> CoTTA.Config:
            """Ours, 8 forward-equivalents: six mild views, two thirds of the images (docs/performance.md)."""
            return cls(**_CHEAP, views=6, learn_from=2 / 3)

        @classmethod
        def imagenet(cls) -> CoTTA.Config:
            """Published for ImageNet-C: ResNet-50, batches of 64."""
            optimiser = SGD(lr=0.01, momentum=0.9, nesterov=True)
            return cls(optimiser=optimiser, per_image=False, gate=0.1, restore=0.001, objective="symmetric")

    config: Config
    updates = "all weights"
    cost = "3F 1B, or 34F 1B where the gate opens"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics in all three networks; every parameter called weight or bias is learned, as published."""
        norms.use_batch_statistics(model)
        if channels_last_is_safe(model):
            model.to(memory_format=torch.channels_last)  # the faster layout, same results
        return [p for name, p in model.named_parameters() if name.rpartition(".")[2] in ("weight", "bias")]

    def start(self, source_data: SourceData | None) -> None:
        """Makes the teacher and the anchor."""
        self.anchor = self.copy_of(self.model)
        self.teacher = norms.replace_batch_norms(self.copy_of(self.model), norms.GroupedBatchNorm)
        self.transform = CottaViews(per_image=self.config.per_image, flip=self.config.flip)

    @property
    def network(self) -> nn.Module:
        """The teacher answers."""
        return self.teacher

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """One round of the paper's algorithm 1."""
        answer = self.answer(x)
        surest = self.surest(answer)
        target, taught = (answer, x) if surest is None else (answer[surest], x[surest])
        logits = self.model(taught)
        loss = _OBJECTIVES[self.config.objective](target, logits).mean()
        self.update(loss)
        teacher.follow(list(self.teacher.parameters()), list(self.model.parameters()), self.config.momentum)
        self.restore()
        return answer, StepInfo(loss=loss.detach(), used=len(taught), updated=True)

    def surest(self, answer: Tensor) -> Tensor | None:
        """Which images the student learns from, shape (N,), as many of each predicted class as its share; None for all.

        Where only the surest of all are learned from, classes that are easy crowd out the others, and the predictions
        narrow down in long streams.
        """
        if self.config.learn_from == 1:
            return None
        if answer.ndim > 2:
            raise TTAError("cotta: learn_from below 1 chooses among images, and this model predicts label maps: use 1")
        sure, predicted = confidence(answer), answer.argmax(1)
        rivals = predicted[:, None] == predicted
        rank = (rivals & (sure > sure[:, None])).sum(1) / rivals.sum(1)  # 0 for the surest of a class
        return (rank - 1e-3 * sure).topk(max(1, round(self.config.learn_from * len(answer))), largest=False).indices

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """The teacher's logits, averaged over views where the anchor is unsure of the batch."""
        if not self.gate_open(x):
            return self.teacher(x)
        return self.averaged(x) if self.config.kind == "published" else self.mildly_averaged(x)

    def gate_open(self, x: Tensor) -> bool:
        """Whether the views are wanted; the one place where the host waits for the device, as the method requires."""
        gate = self.config.gate
        if self.config.views == 0 or gate <= 0:
            return False
        return gate > 1 or bool(confidence(self.anchor(x)).mean() < gate)

    def averaged(self, x: Tensor) -> Tensor:
        """Mean of the teacher's logits over the views, a chunk of views per pass, each with its own statistics."""
        views = self.config.views
        draws = self.transform.draw(views, x, self.host_generator)
        rows = len(draws["angle"]) // views
        chunk = self.config.chunk or (1 if x.device.type == "cpu" else 8)
        total: Tensor | None = None
        with norms.statistics_per(self.teacher, len(x)):
            for start in range(0, views, chunk):
                part = {key: value[start * rows : (start + chunk) * rows] for key, value in draws.items()}
                logits = self.teacher(self.transform.apply(x, part, self.generator))
                logits = logits.view(-1, len(x), *logits.shape[1:]).sum(0)
                total = logits if total is None else total.add_(logits)
        assert total is not None
        return total.div_(views)

    def mildly_averaged(self, x: Tensor) -> Tensor:
        """Mean of the teacher's logits over the mild views; of images with a clear margin, those of the first view."""
        views, unsure = self.config.views, self.config.unsure
        logits = self.teacher(x)
        if unsure == 1:
            return self.with_views(x, logits) / views
        first, second = logits.softmax(1).topk(2, dim=1).values.unbind(1)
        margin = (first - second).view(len(x), -1).mean(1)
        rivals = margin.topk(max(1, round(unsure * len(x))), largest=False).indices
        return logits.index_copy(0, rivals, self.with_views(x[rivals], logits[rivals]) / views)

    def with_views(self, x: Tensor, total: Tensor) -> Tensor:
        """The logits of the first view and of the further ones, summed; each view has batch statistics of its own."""
        for number in range(1, self.config.views):
            total = total + self.teacher(mild_view(x, number, self.config.flip))
        return total

    def restore(self) -> None:
        """Sets a random share of the student's weights back to the source's."""
        if self.config.restore:
            source = dict(self.anchor.named_parameters())
            adapted = [(p, source[name]) for name, p in self.model.named_parameters() if p.requires_grad]
            masks = self.restore_masks([p for p, _ in adapted])
            teacher.restore([p for p, _ in adapted], [s for _, s in adapted], masks)

    def restore_masks(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        """Which weights to set back: 1 or 0 for every value of the parameters."""
        return teacher.restore_masks(parameters, self.config.restore, self.generator)
