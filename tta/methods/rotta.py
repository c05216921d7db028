"""RoTTA: learn from a class-balanced, recent memory under slow statistics (Yuan et al., CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import memory, norms, teacher
from tta.adapter import Adapter, Requirements, StepInfo
from tta.objectives import cross_entropy
from tta.optimisers import Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import CottaViews


@register("rotta")
class RoTTA(Adapter):
    """A teacher answers and fills a memory; now and then the student learns the teacher's predictions on the memory.

    Statistics of batch norm layers follow the memory slowly, so that single images and streams sorted by class do no
    harm. Images are counted one by one: a batch is answered at once, then offered to the memory image by image, and an
    update falls due wherever `frequency` images have come, also inside a batch.

    Updates: scale and shift of the normalisation layers; statistics of the student's and the teacher's batch norms.
    State: those, teacher, optimiser and a memory of `capacity` images. Answers: before the update, with the teacher.
    Cost: 1F; per update teacher 1F and student 1F 1B over the memory (so 3F 1B where capacity equals frequency).
    Needs: affine normalisation layers. Waits for the device once per batch, as the memory decides image by image.
    Memory: the model; of what is learned, teacher, source value, gradient and optimiser; `capacity` images; the
    activations of as many.
    Differs from the published code: layer and group norm are adapted too; age weights are not rounded to float32.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting, the same for CIFAR10-C and CIFAR100-C (batches of 64)."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: Images in memory, and images between updates.
        capacity: int = 64
        frequency: int = 64
        #: Weight of the teacher's past in its moving average (1 - nu).
        momentum: float = 0.999
        #: Weight of the memory in the batch-norm statistics.
        alpha: float = 0.05
        #: What age and uncertainty count when an image has to leave the memory.
        timeliness: float = 1.0
        uncertainty: float = 1.0
        #: Whether each image of the augmented memory has a draw of its own, and whether half of them are mirrored.
        per_image: bool = False
        flip: bool = True

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift, norm statistics"
    cost = "1F, +2F 1B per image in memory and update"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Slow statistics; the affine parameters are learned."""
        self.model = norms.replace_batch_norms(model, lambda layer: norms.RobustBatchNorm(layer, self.config.alpha))
        return norms.affine_parameters(self.model)

    def start(self, source_data: SourceData | None) -> None:
        """Makes the teacher and an empty memory."""
        config = self.config
        self.teacher = self.copy_of(self.model)
        self.transform = CottaViews(per_image=config.per_image, flip=config.flip)
        self.rule: memory.Rule = memory.CSTU(config.capacity, config.timeliness, config.uncertainty)
        self.memory = {"bank": memory.empty()}

    @property
    def network(self) -> nn.Module:
        """The teacher answers."""
        return self.teacher

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, fills the memory, and learns wherever an update is due."""
        with torch.no_grad():
            logits = self.answer(x)
            probs = logits.softmax(1)
            entropy = -(probs * (probs + 1e-6).log()).sum(1)
        labels, uncertainties = logits.argmax(1).tolist(), entropy.tolist()
        bank, info = self.memory["bank"], StepInfo()
        for start, end, due in memory.until_due(bank["clock"], len(x), self.config.frequency):
            part = slice(start, end)
            self.rule.add(bank, x[part], labels[part], uncertainties[part], logits.shape[1], self.host_generator)
            if due:
                info = self.learn()
        return logits, info

    def learn(self) -> StepInfo:
        """One update on the memory: the student on views of it, the teacher on the images as they are."""
        x, config = memory.images(self.memory["bank"]), self.config
        views = self.transform.apply(x, self.transform.draw(1, x, self.host_generator), self.generator)
        with norms.updating_statistics(self.model, self.teacher):
            target = self.teacher(x)
            logits = self.model(views)
        age = torch.tensor(memory.ages(self.memory["bank"]), device=x.device, dtype=x.dtype) / config.capacity
        loss = (torch.sigmoid(-age) * cross_entropy(target, logits)).mean()
        self.update(loss)
        teacher.follow_network(self.teacher, self.model, config.momentum)
        return StepInfo(loss=loss.detach(), used=len(x), updated=True)
