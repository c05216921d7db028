"""SoTTA: learn from confident images of every class, sharpness-aware (Gong et al., NeurIPS 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import memory, norms
from tta.adapter import Adapter, Requirements, StepInfo
from tta.objectives import confidence
from tta.optimisers import SAM, Adam
from tta.registry import register
from tta.source_data import SourceData


@register("sotta")
class SoTTA(Adapter):
    """Keeps confident images, as many of each class as of others, and minimises their entropy now and then.

    Images are counted one by one: a batch is answered at once, then offered to the memory image by image, and an update
    falls due wherever `frequency` images have come, also inside a batch. The step is sharpness-aware: its gradient is
    taken where the entropy is sharpest nearby.

    Updates: scale and shift of the normalisation layers (but the top layers of ResNets and ViTs), running statistics.
    State: those, optimiser and a memory of `capacity` images. Answers: before the update, with the running statistics.
    Cost: 1F; per update 2F 2B over the memory (so 3F 2B where it is full and capacity equals frequency).
    Needs: affine normalisation layers. Waits for the device once per batch, as the memory decides image by image.
    Memory: the model; source value, gradient and optimiser of what is learned; `capacity` images; the activations
    of as many.
    Differs from the published code: that predicts an image when it comes, for the memory, and again when 64 have come,
    for the answer; here one pass before the updates of the batch does both, which is the same where batches end with
    an update or before. Group norm is adapted too. A memory of one image waits for a second.
    """

    @dataclass(frozen=True)
    class Config:
        """The published CIFAR10-C setting."""

        optimiser: SAM = SAM(base=Adam(lr=1e-3), rho=0.05)
        #: Images in memory, and images between updates.
        capacity: int = 64
        frequency: int = 64
        #: Confidence from which an image is kept.
        threshold: float = 0.99
        #: Weight of the memory in the running statistics, which take it in twice per update.
        bn_momentum: float = 0.2
        #: Modules that are not adapted, where the model has them.
        skip: tuple[str, ...] = ("layer4", "blocks.9", "blocks.10", "blocks.11", "norm")

        @classmethod
        def cifar100(cls) -> SoTTA.Config:
            """Published for CIFAR100-C."""
            return cls(threshold=0.66)

        @classmethod
        def imagenet(cls) -> SoTTA.Config:
            """Published for ImageNet-C."""
            return cls(threshold=0.33)

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift, norm statistics"
    cost = "1F, +2F 2B per image in memory and update"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Running statistics; the affine parameters are learned."""
        for layer in norms.batch_norms(model):
            layer.momentum = self.config.bn_momentum
        return norms.affine_parameters(model, self.config.skip)

    def start(self, source_data: SourceData | None) -> None:
        """Makes an empty memory."""
        self.rule: memory.Rule = memory.HUS(self.config.capacity, self.config.threshold)
        self.memory = {"bank": memory.empty()}

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, fills the memory, and learns wherever an update is due."""
        with torch.no_grad():
            logits = self.model(x)
        labels, sure = logits.argmax(1).tolist(), confidence(logits).tolist()
        bank, info = self.memory["bank"], StepInfo()
        for start, end, due in memory.until_due(bank["clock"], len(x), self.config.frequency):
            part = slice(start, end)
            self.rule.add(bank, x[part], labels[part], sure[part], logits.shape[1], self.host_generator)
            if due and len(memory.slots(bank)) > 1:
                info = self.learn()
        return logits, info

    def learn(self) -> StepInfo:
        """One sharpness-aware step down the mean entropy of the memory; both passes update the running statistics."""
        assert self.optimiser is not None, "prepare() returned the affine parameters"
        x = memory.images(self.memory["bank"])
        adapted = [p for p in self.model.parameters() if p.requires_grad]
        with norms.updating_statistics(self.model):
            _entropy(self.model(x)).backward()
            with self.config.optimiser.uphill(adapted):
                loss = _entropy(self.model(x))
                loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return StepInfo(loss=loss.detach(), used=len(x), updated=True)


def _entropy(logits: Tensor) -> Tensor:
    """Mean entropy, with the published guard of the logarithm."""
    probs = logits.softmax(1)
    return -(probs * (probs + 1e-6).log()).sum(1).mean()
