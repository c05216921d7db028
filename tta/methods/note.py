"""NOTE: instance-aware batch norm and prediction-balanced reservoir sampling (Gong et al., NeurIPS 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import memory, norms
from tta.adapter import Adapter, Requirements, StepInfo
from tta.objectives import entropy
from tta.optimisers import Adam, Optimiser
from tta.registry import register
from tta.source_data import SourceData


@register("note")
class NOTE(Adapter):
    """Simulates an i.i.d. stream: a memory balanced over predicted classes and uniform over time teaches the model.

    Batch norms take an image's own statistics where those differ from the running ones by more than chance allows.
    Images are counted one by one: a batch is answered at once, then offered to the memory image by image, and an update
    falls due wherever `frequency` images have come, also inside a batch.

    Updates: scale and shift of the batch norms, running statistics. State: those, optimiser and a memory of `capacity`
    images. Answers: before the update, each image on its own. Cost: 1F; per update 1F 1B over the memory (so 2F 1B
    where capacity equals frequency). Needs: batch norm layers with running statistics. Waits for the device once per
    batch, as the memory decides image by image.
    Memory: the model; source value, gradient and optimiser of what is learned; `capacity` images; the activations
    of as many.
    Differs from the published code: that trains its source models with these layers, here any model gets them; it
    predicts an image when it comes, also between two updates of one batch, here one pass answers a batch; its loss is
    also divided by the number of classes, which Adam undoes. A memory of one image waits for a second.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting, the same for CIFAR10-C, CIFAR100-C and ImageNet-C."""

        optimiser: Optimiser = Adam(lr=1e-4)
        #: Images in memory, and images between updates.
        capacity: int = 64
        frequency: int = 64
        #: Standard errors by which an image's statistics may differ from the running ones by chance.
        k: float = 4.0
        #: Weight of the memory in the running statistics.
        bn_momentum: float = 0.01

    config: Config
    requires = Requirements(batch_norm=True, affine_norm=True)
    updates = "norm scale and shift, norm statistics"
    cost = "1F, +1F 1B per image in memory and update"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Instance-aware batch norms, whose affine parameters are learned."""
        config = self.config
        self.model = norms.replace_batch_norms(
            model, lambda layer: norms.InstanceAwareBatchNorm(layer, config.k, config.bn_momentum)
        )
        aware = [m for m in self.model.modules() if isinstance(m, norms.InstanceAwareBatchNorm)]
        return [p for layer in aware for p in (layer.weight, layer.bias) if isinstance(p, nn.Parameter)]

    def start(self, source_data: SourceData | None) -> None:
        """Makes an empty memory."""
        self.rule: memory.Rule = memory.PBRS(self.config.capacity)
        self.memory = {"bank": memory.empty()}

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, fills the memory, and learns wherever an update is due."""
        with torch.no_grad():
            logits = self.model(x)
        labels = logits.argmax(1).tolist()
        bank, info = self.memory["bank"], StepInfo()
        for start, end, due in memory.until_due(bank["clock"], len(x), self.config.frequency):
            part = slice(start, end)
            self.rule.add(bank, x[part], labels[part], [0.0] * (end - start), logits.shape[1], self.host_generator)
            if due and len(memory.slots(bank)) > 1:
                info = self.learn()
        return logits, info

    def learn(self) -> StepInfo:
        """One step down the mean entropy of the memory, which also moves the running statistics."""
        x = memory.images(self.memory["bank"])
        with norms.updating_statistics(self.model):
            loss = entropy(self.model(x)).mean()
        self.update(loss)
        return StepInfo(loss=loss.detach(), used=len(x), updated=True)
