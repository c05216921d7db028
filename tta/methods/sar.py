"""SAR: sharpness-aware and reliable entropy minimisation, with recovery (Niu et al., ICLR 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta import norms
from tta.adapter import Requirements, StepInfo
from tta.errors import TTAError
from tta.methods.selective import LAST_LAYERS, Selective
from tta.objectives import entropy
from tta.optimisers import SAM, SGD
from tta.registry import register
from tta.source_data import SourceData


@register("sar")
class SAR(Selective):
    """Minimises the entropy of reliable images at the sharpest point nearby; starts afresh when it has got too low.

    An image is reliable if its entropy is below a margin, here and at the sharpest point. A low moving average of the
    loss is the sign of a collapse to few classes.

    Updates: scale and shift of the normalisation layers but those near the output. State: those, the optimiser, the
    moving average of the loss. Answers: before the update. Cost: 2 forwards, 2 backwards; with layer or group norm the
    second of each, and with few reliable images the first backward, are of the reliable images only. Needs: affine
    normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch.
    Differs from the published code: a recovery clears the moving average (there it is put back, so that the model
    is reset again and again until the average has risen; `keep_average=True` is that); after a recovery SGD's momentum
    goes on as there, and with `keep_momentum=False` it is cleared, as was probably meant. Dropout is off.
    """

    @dataclass(frozen=True)
    class Config:
        """The CIFAR-10-C setting of Doebler et al.'s benchmark, batches of 200 images."""

        optimiser: SAM = SAM(SGD(lr=1e-3, momentum=0.9), rho=0.05)
        #: An image is reliable if its entropy is below this share of the largest possible, log K.
        entropy_margin: float = 0.4
        #: The model recovers when the moving average of the loss is below (nats); 0 is never. Weight of its past.
        recover: float = 0.2
        momentum: float = 0.9
        #: What survives a recovery.
        keep_average: bool = False
        keep_momentum: bool = True
        #: Modules whose normalisation layers are not adapted.
        skip: tuple[str, ...] = LAST_LAYERS

        def __post_init__(self) -> None:
            if not isinstance(self.optimiser, SAM):
                raise TTAError(f"sar: the optimiser is a SAM, such as SAM(SGD(lr=1e-3)), got {self.optimiser!r}")

        @classmethod
        def cifar10(cls) -> SAR.Config:
            """CIFAR-10-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def cifar100(cls) -> SAR.Config:
            """CIFAR-100-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def imagenet(cls) -> SAR.Config:
            """The published ImageNet-C setting, ResNet-50 with batch or group norm, batches of 64 images."""
            return cls(optimiser=SAM(SGD(lr=2.5e-4, momentum=0.9)), keep_average=True)

        @classmethod
        def imagenet_benchmark(cls) -> SAR.Config:
            """ImageNet-C with ResNet-50 as in Doebler et al.'s benchmark: a recovery forgets the average."""
            return cls(optimiser=SAM(SGD(lr=2.5e-4, momentum=0.9)))

        @classmethod
        def imagenet_vit(cls) -> SAR.Config:
            """The published ImageNet-C setting, ViT-B, batches of 64 images."""
            return cls(optimiser=SAM(SGD(lr=1e-3, momentum=0.9)), keep_average=True)

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift, not of the last layers"
    cost = "2F 2B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned, but for the last layers'."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model, skip=self.config.skip)

    def start(self, source_data: SourceData | None) -> None:
        """No loss has been seen yet."""
        super().start(source_data)
        self.memory["average"] = None

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, steps, and recovers if need be."""
        logits = self.look(x)
        reliable = entropy(logits.detach()) < self.margin(logits)
        chosen, seen = logits, x
        if self.per_image:
            index = reliable.nonzero()[:, 0]
            chosen, seen, reliable = self.selected(x, logits, index), x[index], reliable[index]
        if len(seen) == 0:
            self.coast()
            return logits, StepInfo(updated=True, reset=self.watch(0.0, 0))
        loss, count = self.learn(seen, chosen, reliable)
        reset = self.watch(*torch.stack((loss, count)).tolist())  # the host waits, as the method requires
        return logits, StepInfo(loss=loss, used=count, updated=True, reset=reset)

    def learn(self, x: Tensor, logits: Tensor, reliable: Tensor) -> tuple[Tensor, Tensor]:
        """One step of sharpness-aware minimisation; the loss at the sharpest point, and the number of its images."""
        _mean(entropy(logits), reliable).backward()
        with self.config.optimiser.uphill(self.adapted()):
            values = entropy(self.model(x))
            reliable = reliable & (values.detach() < self.margin(logits))
            loss = _mean(values, reliable)
            loss.backward()
        self.descend()
        return loss.detach(), reliable.sum().to(loss.dtype)

    def coast(self) -> None:
        """A step without a gradient, by momentum alone, as the published code takes it where nothing is reliable."""
        for p in self.adapted():
            p.grad = torch.zeros_like(p)
        self.descend()

    def descend(self) -> None:
        """The step of the base optimiser."""
        assert self.optimiser is not None
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def adapted(self) -> list[nn.Parameter]:
        """The parameters that are learned."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def watch(self, loss: float, count: float) -> bool:
        """Averages the loss of `count` images, and recovers if it is too low; says whether."""
        average, momentum = self.memory["average"], self.config.momentum
        if count:
            average = loss if average is None else momentum * average + (1 - momentum) * loss
        self.memory["average"] = average
        if average is None or average >= self.config.recover:
            return False
        optimiser = self.optimiser
        self.reset()
        if self.config.keep_momentum:
            self.optimiser = optimiser
        if self.config.keep_average:
            self.memory["average"] = average
        return True

    def margin(self, logits: Tensor) -> float:
        """Largest entropy of a reliable image, in nats."""
        return self.config.entropy_margin * math.log(logits.shape[1])


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values under the mask; 0, and no gradient, where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
