"""DeYO: learn from images whose prediction depends on the shape of the object (Lee et al., ICLR 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms
from tta.adapter import Requirements, StepInfo
from tta.errors import TTAError
from tta.methods.selective import LAST_LAYERS, Selective
from tta.objectives import entropy
from tta.optimisers import SGD, Adam, Optimiser
from tta.registry import register


@register("deyo")
class DeYO(Selective):
    """Minimises the weighted entropy of images that are sure, and less sure once the object's shape is destroyed.

    The pseudo-label probability difference (PLPD) is how much of the predicted class's probability an image loses when
    its patches are shuffled, its pixels are shuffled, or its centre is hidden.

    Updates: scale and shift of the normalisation layers but those near the output. State: those, the optimiser, the
    random generator. Answers: before the update. Cost: 1 forward, 1 forward of the sure images, 1 backward; with layer
    or group norm and less than half of the images selected, 1 forward 1 backward of those instead of the backward.
    No backward where none is selected. Needs: affine normalisation layers.
    Memory: the model; source value, gradient and optimiser of what is learned; the activations of a batch.
    Differs from the published code: dropout is off, `reset` works, the margins follow the number of classes in every
    setting. As there, the second forward takes the batch statistics of the sure images alone.
    """

    @dataclass(frozen=True)
    class Config:
        """The CIFAR-10-C setting of Doebler et al.'s benchmark, batches of 200 images."""

        optimiser: Optimiser = Adam(lr=1e-3)
        #: An image is sure if its entropy is below this share of the largest possible, log K.
        entropy_margin: float = 0.5
        #: Its weight falls with its entropy from this share of log K on.
        weight_margin: float = 0.4
        #: Smallest PLPD of an image that is learned from.
        plpd: float = 0.2
        #: How the shape is destroyed.
        destroy: Literal["patch", "pixel", "occlusion"] = "patch"
        #: Patches per side; side of the hidden centre as a share of the image's.
        patches: int = 4
        hidden: float = 0.5
        #: Modules whose normalisation layers are not adapted.
        skip: tuple[str, ...] = LAST_LAYERS

        def __post_init__(self) -> None:
            if self.destroy not in ("patch", "pixel", "occlusion"):
                raise TTAError(f"deyo: destroy is patch, pixel or occlusion, got {self.destroy!r}")
            if self.patches < 2:
                raise TTAError(f"deyo: patches is at least 2 per side, got {self.patches}")

        @classmethod
        def cifar10(cls) -> DeYO.Config:
            """CIFAR-10-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def cifar100(cls) -> DeYO.Config:
            """CIFAR-100-C, batches of 200 images (Doebler et al.'s benchmark)."""
            return cls()

        @classmethod
        def imagenet(cls) -> DeYO.Config:
            """The published ImageNet-C setting (mild), ResNet-50, batches of 64 images."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9), plpd=0.3)

        @classmethod
        def imagenet_wild(cls) -> DeYO.Config:
            """The published setting for ResNet-50 with group norm under label shift or mixed shifts."""
            return cls(optimiser=SGD(lr=2.5e-4, momentum=0.9), plpd=0.2)

    config: Config
    requires = Requirements(affine_norm=True)
    updates = "norm scale and shift, not of the last layers"
    cost = "2F 1B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Batch statistics; the affine parameters are learned, but for the last layers'."""
        norms.use_batch_statistics(model)
        return norms.affine_parameters(model, skip=self.config.skip)

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, selects, and steps down the weighted entropy of the selected answers."""
        logits = self.look(x)
        index, plpd = self.select(x, logits.detach())
        chosen = self.selected(x, logits, index)
        if len(index) == 0:
            return logits, StepInfo()
        values = entropy(chosen)
        scale = math.log(logits.shape[1])
        weights = torch.exp(self.config.weight_margin * scale - values.detach()) + torch.exp(plpd)
        loss = (weights * values).mean()
        self.update(loss)
        return logits, StepInfo(loss=loss.detach(), used=len(index), updated=True)

    @torch.no_grad()
    def select(self, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Which images to learn from, shape (N,), and their PLPD."""
        sure = (entropy(logits) < self.config.entropy_margin * math.log(logits.shape[1])).nonzero()[:, 0]
        if len(sure) == 0:
            return sure, logits.new_zeros(0)
        label = logits[sure].argmax(1, keepdim=True)
        destroyed = self.model(self.destroyed(x[sure]))
        plpd = (logits[sure].softmax(1).gather(1, label) - destroyed.softmax(1).gather(1, label))[:, 0]
        shaped = plpd > self.config.plpd
        return sure[shaped], plpd[shaped]

    def destroyed(self, x: Tensor) -> Tensor:
        """The images without the shape of their objects, same shape; `x` is not written to."""
        if self.config.destroy == "patch":
            return shuffle_patches(x, self.config.patches, self.patch_orders(len(x), self.config.patches**2))
        if self.config.destroy == "pixel":
            order = self.pixel_order(x.shape[-2] * x.shape[-1]).to(x.device)
            return x.flatten(2)[:, :, order].view_as(x)
        return hide_centre(x, self.config.hidden)

    def patch_orders(self, images: int, patches: int) -> Tensor:
        """An order of the patches for every image, shape (images, patches)."""
        return torch.rand(images, patches, generator=self.host_generator).argsort(1)

    def pixel_order(self, pixels: int) -> Tensor:
        """One order of the pixels for the whole batch, shape (pixels,)."""
        return torch.randperm(pixels, generator=self.host_generator)


def shuffle_patches(x: Tensor, patches: int, orders: Tensor) -> Tensor:
    """Cuts images into patches x patches pieces and puts piece orders[b, i] in place i.

    Sides that are no multiple of `patches` are scaled down to one, and the result back up.

    Args:
        x: Shape (B, C, H, W).
        patches: Pieces per side.
        orders: Permutations, shape (B, patches ** 2).
    """
    b, c, h, w = x.shape
    height, width = max(h // patches, 1), max(w // patches, 1)
    pieces = _resized(x, height * patches, width * patches).reshape(b, c, patches, height, patches, width)
    pieces = pieces.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    rows = torch.arange(b, device=x.device)[:, None]
    pieces = pieces[rows, orders.to(x.device)].view(b, patches, patches, c, height, width)
    return _resized(pieces.permute(0, 3, 1, 4, 2, 5).reshape(b, c, height * patches, width * patches), h, w)


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[-2:] == (height, width):
        return x
    wide = x if x.element_size() > 2 else x.float()  # PyTorch resizes no half-precision images on the CPU
    return F.interpolate(wide, (height, width), mode="bilinear", antialias=True).to(x.dtype)


def hide_centre(x: Tensor, share: float) -> Tensor:
    """Puts each channel's mean over the image in the place of a centred rectangle with that share of the sides."""
    h, w = x.shape[-2:]
    height, width = int(h * share), int(w * share)
    top, left = (h - height) // 2, (w - width) // 2
    out = x.clone()
    out[..., top : top + height, left : left + width] = x.mean((2, 3), keepdim=True)
    return out
