"""Crop selection: look at the image where it is most striking, so that a shift of a pixel changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.registry import register
from tta.source_data import SourceData
from tta.vit import vision_transformer


@register("crop_select")
class CropSelect(Adapter):
    """Answers from the crops that a fixed filter of the pixels likes best, wherever they are in the image.

    When the camera moves by a pixel, the best crops move along, and the model sees the same pixels as before, unless a
    best crop leaves the frame or a better one enters: with one crop of offsets 0 to n per axis, about 4 / n of the
    images. Averaging the probabilities of several crops and of their mirror images softens these cases too. A crop's
    score is the response of a random filter at its centre: it depends on the crop's pixels alone, and hardly prefers
    the rim of the image.

    Updates: nothing. State: none. Cost: 1 forward per crop and 1 per mirror image. Needs: nothing; a network that takes
    images of one size only needs fit="resize".
    Memory: the model; crops are made one at a time, and no activations are kept.
    Differs from the published code: none was published when this was written. The paper's principle and its guarantee
    are kept (the choice depends on the content of a crop only); the filter and the mean are ours.

    Reference:
        Shifman & Weiss, "Lost in translation: modern neural networks still struggle with small realistic image
        transformations" (robust inference by crop selection, RICS), ECCV 2024.
    """

    @dataclass(frozen=True)
    class Config:
        """How large the crops are, how many, and how they are brought to the network."""

        #: What a crop leaves out, as a share of the image's sides: 2 pixels of 32.
        margin: float = 1 / 16
        #: Crops per image, the best ones; all where there are fewer.
        crops: int = 9
        #: Whether the mirror image of every crop is averaged as well; False where it is another class.
        flip: bool = True
        #: "native" hands over the crop as it is, "resize" enlarges it to the size of the image.
        fit: Literal["native", "resize"] = "native"
        #: Side of the filter, odd, and the seed of its weights.
        filter: int = 7
        seed: int = 0

        def __post_init__(self) -> None:
            if not 0 <= self.margin < 1 or self.crops < 1 or self.filter % 2 == 0:
                raise TTAError(
                    "crop_select: margin is a share from 0 to 1, crops at least 1 and filter odd; got"
                    f" {self.margin}, {self.crops} and {self.filter}"
                )
            if self.fit not in ("native", "resize"):
                raise TTAError(f"crop_select: fit is native or resize, got {self.fit!r}")

    config: Config
    cost = "18F"
    kernel: Tensor

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Looks whether the model takes images of any size."""
        vit = vision_transformer(model)
        if vit is not None and self.config.fit == "native" and not getattr(vit, "dynamic_img_size", False):
            raise TTAError('crop_select: this vision transformer takes images of one size only: set fit="resize"')
        return []

    def start(self, source_data: SourceData | None) -> None:
        """Draws the filter; its weights sum to zero, so that brightness does not matter."""
        side = self.config.filter
        weight = torch.randn(side, side, generator=torch.Generator().manual_seed(self.config.seed))
        self.register_buffer("kernel", (weight - weight.mean())[None, None].to(self.generator.device))

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Log of the mean probabilities over the best crops."""
        rows, columns = self.places(x)
        image = torch.arange(len(x), device=x.device)[:, None, None]
        found = []
        for row, column in zip(rows.unbind(1), columns.unbind(1), strict=True):
            crop = x[image, :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2).contiguous()
            if self.config.fit == "resize":
                crop = F.interpolate(crop, x.shape[-2:], mode="bilinear", align_corners=False)
            found += [
                self.model(each).log_softmax(1) for each in ((crop, crop.flip(3)) if self.config.flip else (crop,))
            ]
        return torch.stack(found).logsumexp(0) - math.log(len(found))

    def places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (B, M, h) and columns (B, M, w) of each image's best crops, from the best on."""
        height, width = x.shape[-2:]
        down, right = (int(self.config.margin * side + 0.5) for side in (height, width))
        h, w = height - down, width - right
        score = self.score(x)[:, h // 2 : h // 2 + down + 1, w // 2 : w // 2 + right + 1].flatten(1)
        best = score.topk(min(self.config.crops, score.shape[1])).indices
        rows = (best // (right + 1))[..., None] + torch.arange(h, device=x.device)
        columns = (best % (right + 1))[..., None] + torch.arange(w, device=x.device)
        return rows, columns

    def score(self, x: Tensor) -> Tensor:
        """The filter's response at every pixel, shape (B, H, W)."""
        grey = x.mean(1, keepdim=True).to(self.kernel.dtype)
        return F.conv2d(grey, self.kernel, padding=self.config.filter // 2)[:, 0]
