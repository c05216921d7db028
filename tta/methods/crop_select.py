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

#: Side of the filter in pixels, and the contrast at which its response is half of the largest.
FILTER, CONTRAST = 3, 0.05


@register("crop_select")
class CropSelect(Adapter):
    """Answers from crops whose places the content of the image decides.

    A fixed random score finds the image's best crop, and the crops are those at even distances from it, a few per axis.
    When the camera moves by a pixel, the best crop moves along, all others with it, and the model sees the same pixels
    as before, unless the best crop leaves the frame or a better one enters (with n offsets per axis, about 2 / n of the
    images for a step along one axis), or a row of the others does. The mean probability over the crops and their mirror
    images softens these cases. The score is a sum of the local contrast at random places of the crop, with random
    signs: it depends on the crop's pixels alone, and all offsets are about as likely to win.

    Updates: nothing. State: none. Cost: 1 forward per crop and 1 per mirror image. Needs: nothing; a network that takes
    images of some sizes only needs fit="resize".
    Memory: the model; crops are made one at a time, and no activations are kept.
    Differs from the published code: none was published when this was written. The paper's principle and its guarantee
    are kept (the choice depends on the content of a crop only); the score and the mean are ours.

    Reference:
        Shifman & Weiss, "Lost in translation: modern neural networks still struggle with small realistic image
        transformations" (robust inference by crop selection, RICS), ECCV 2024.
    """

    @dataclass(frozen=True)
    class Config:
        """How large the crops are, how many, and how they are brought to the network."""

        #: What a crop leaves out, as a share of the image's sides: 2 pixels of 32.
        margin: float = 1 / 16
        #: Crops per axis; all where there are fewer.
        crops: int = 3
        #: Whether the mirror image of every crop is averaged as well; False where it is another class.
        flip: bool = True
        #: "native" hands over the crop as it is, "resize" enlarges it to the size of the image.
        fit: Literal["native", "resize"] = "native"
        #: Number of places that the score is a sum over, and the seed of places, signs and filter.
        terms: int = 64
        score_seed: int = 0

        @classmethod
        def photographs(cls) -> CropSelect.Config:
            """For images that are larger than what the network takes: of 256 pixels, crops of 224."""
            return cls(margin=1 / 8)

        def __post_init__(self) -> None:
            if not 0 <= self.margin < 1 or self.crops < 1 or self.terms < 1:
                raise TTAError(
                    "crop_select: margin is a share from 0 to 1, crops and terms at least 1; got"
                    f" {self.margin}, {self.crops} and {self.terms}"
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
        """Draws the filter, whose weights sum to zero so that brightness does not matter, and the places."""
        generator = torch.Generator().manual_seed(self.config.score_seed)
        weight = torch.randn(FILTER, FILTER, generator=generator)
        weight -= weight.mean()
        self.register_buffer("kernel", (weight / weight.norm())[None, None].to(self.generator.device))
        where = torch.rand(self.config.terms, 2, generator=generator, dtype=torch.float64)
        signs = torch.randint(2, (self.config.terms, 1), generator=generator) * 2.0 - 1
        #: Down and right, as shares of the crop, and the sign.
        self.taps: list[list[float]] = torch.cat((where, signs), 1).tolist()

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
            for each in (crop, crop.flip(3)) if self.config.flip else (crop,):
                found.append(self.seen(each).log_softmax(1))
        return torch.stack(found).logsumexp(0) - math.log(len(found))

    def seen(self, crop: Tensor) -> Tensor:
        """The model's logits, if it takes a crop of that size."""
        try:
            return self.model(crop)
        except RuntimeError as error:
            if self.config.fit == "resize" or self.config.margin == 0 or isinstance(error, torch.OutOfMemoryError):
                raise
            raise TTAError(
                f"crop_select: the model cannot take crops of {crop.shape[2]} x {crop.shape[3]}"
                f' ({str(error).splitlines()[0]}): set fit="resize"'
            ) from error

    def places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The rows (B, M, h) and columns (B, M, w) of each image's crops."""
        height, width = x.shape[-2:]
        down, right = (int(self.config.margin * side + 0.5) for side in (height, width))
        h, w = height - down, width - right
        best = self.score(x, h, w).flatten(1).argmax(1)
        tops = self.lattice(best // (right + 1), down + 1)
        lefts = self.lattice(best % (right + 1), right + 1)
        many, few = tops.shape[1], lefts.shape[1]
        rows = tops.repeat_interleave(few, 1)[..., None] + torch.arange(h, device=x.device)
        columns = lefts.repeat(1, many)[..., None] + torch.arange(w, device=x.device)
        return rows, columns

    def lattice(self, best: Tensor, offsets: int) -> Tensor:
        """The offsets (B, crops) at even distances from the best ones (B,), of so many, as wide apart as fit."""
        crops = min(self.config.crops, offsets)
        distance = offsets // crops
        first = (offsets - crops * distance) // 2
        return first + (best - first)[:, None].remainder(distance) + distance * torch.arange(crops, device=best.device)

    def score(self, x: Tensor, h: int, w: int) -> Tensor:
        """The score of every crop of h x w, by its offsets, shape (B, H - h + 1, W - w + 1)."""
        if min(h, w) < FILTER:
            raise TTAError(f"crop_select: crops of {h} x {w} are too small; give larger images or a smaller margin")
        down, right = x.shape[2] - h, x.shape[3] - w
        with torch.autocast(x.device.type, enabled=False):  # the same pixels must have the same score
            contrast = F.conv2d(x.mean(1, keepdim=True).to(self.kernel.dtype), self.kernel)[:, 0]
        contrast = contrast / (contrast.abs() + CONTRAST)  # so that no strong edge outweighs all the rest
        total = torch.zeros_like(contrast[:, : down + 1, : right + 1])
        for below, beside, sign in self.taps:
            top, left = int(below * (h - FILTER + 1)), int(beside * (w - FILTER + 1))
            total = total.add_(contrast[:, top : top + down + 1, left : left + right + 1], alpha=sign)
        return total
