"""Batched test-time views: many augmented copies of a batch in a few tensor operations, one draw per view or per image.

A transform is a frozen description with two halves. `draw` makes the random parameters of `count` views on the host,
from a CPU generator, so that nothing waits for the device; `apply` is deterministic but for its pixel noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Draws = dict[str, Tensor]

BRIGHTNESS, CONTRAST, SATURATION, HUE, GAMMA = range(5)
#: Values of the views that are made at a time on the CPU, so that they stay in its cache.
BLOCK = 2**19
_GREY = (0.2989, 0.587, 0.114)  # the weights of torchvision's rgb_to_grayscale


@dataclass(frozen=True)
class CottaViews:
    """The augmentation that CoTTA averages its teacher over (and that RoTTA, SANTA and RMT use).

    Colour jitter of brightness, contrast, saturation, hue and gamma in random order; a rotation, shift and scaling of
    the edge-padded image; a slight blur; a horizontal flip; white noise.

    Reference:
        Wang et al., "Continual Test-Time Domain Adaptation", CVPR 2022, published code; there adopted from KATANA
        (Nguyen et al.). The published draw is one per view for the whole batch.
    """

    #: Whether every image of a view has a draw of its own (otherwise one per view, as published).
    per_image: bool = True
    #: Whether half of the views are mirrored; False where a mirrored image is another class.
    flip: bool = True
    #: Ranges of the five colour operations, in the order of the constants above.
    ranges: Sequence[tuple[float, float]] = ((0.6, 1.4), (0.7, 1.3), (0.5, 1.5), (-0.06, 0.06), (0.7, 1.3))
    #: Largest rotation in degrees, largest shift as a share of the image, scale range.
    degrees: float = 15.0
    shift: float = 1 / 8
    scale: tuple[float, float] = (0.9, 1.1)
    #: Range of the blur's standard deviation in pixels, standard deviation of the noise.
    sigma: tuple[float, float] = (0.001, 0.5)
    noise: float = 0.005
    #: What lies beyond the image: its edge ("border") or its mirror image ("reflection").
    padding: Literal["border", "reflection"] = "border"

    def draw(self, count: int, x: Tensor, generator: torch.Generator) -> Draws:
        """The parameters of `count` views of a batch: tensors of shape (count * B, ...) or, per view, (count, ...).

        Args:
            count: Number of views V.
            x: The batch, shape (B, C, H, W); only its shape is used.
            generator: A generator on the CPU.
        """
        n = count * len(x) if self.per_image else count

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(n, *shape, generator=generator) * (high - low) + low

        pixels = torch.tensor([x.shape[-1], x.shape[-2]]) * self.shift
        return {
            "order": torch.rand(n, 5, generator=generator).argsort(1),
            "factors": torch.stack([uniform(low, high) for low, high in self.ranges], 1),
            "angle": uniform(-self.degrees, self.degrees),
            "translate": (uniform(-1, 1, 2) * pixels).round(),
            "scale": uniform(*self.scale),
            "sigma": uniform(*self.sigma),
            "flip": uniform(0, 1) < (0.5 if self.flip else 0.0),
        }

    def apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None = None) -> Tensor:
        """The views, shape (V * B, C, H, W): all images of the first view, then those of the second, and so on.

        Args:
            x: Images in [0, 1], shape (B, C, H, W). Not written to.
            draws: What `draw` returned, or a slice of it along the first dimension that covers whole views.
            generator: Source of the pixel noise, on the device of `x`; no noise without it.
        """
        views = len(draws["angle"]) // (len(x) if self.per_image else 1)
        out = x.new_empty((views, *x.shape))
        if x.device.type == "cpu":
            size = max(1, BLOCK // x[0].numel())
            blocks = [(slice(v, v + 1), slice(b, b + size)) for v in range(views) for b in range(0, len(x), size)]
        else:
            blocks = [(slice(0, views), slice(0, len(x)))]
        for which, images in blocks:
            part = x[images].expand(out[which, images].shape)
            out[which, images] = self._apply(part, self._rows(draws, which, images, len(x)), generator)
        return out.view(-1, *x.shape[1:])

    def _rows(self, draws: Draws, views: slice, images: slice, batch: int) -> Draws:
        """The draws of some views of some images."""
        if not self.per_image:
            return {key: value[views] for key, value in draws.items()}
        by_view = {key: value.view(-1, batch, *value.shape[1:]) for key, value in draws.items()}
        return {key: value[views, images].flatten(0, 1) for key, value in by_view.items()}

    def _apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None) -> Tensor:
        """`apply` to V views of B images, shape (V, B, C, H, W), the images of all views being there already."""
        images = x.reshape(len(draws["angle"]), -1, *x.shape[2:])  # N draws, each for the images it holds for
        images = jitter(images, draws["order"], draws["factors"])
        margin = 2 if self.sigma[1] > 0 else 0
        images = warp(images, draws, margin, self.padding)
        if margin:
            images = blur(images, draws["sigma"])
        if self.noise and generator is not None:
            each = images.view(len(x), -1)
            white = torch.empty_like(each)
            for row in white:  # one by one, so that the noise of a view does not depend on how views are chunked
                row.normal_(generator=generator)
            each.add_(white, alpha=self.noise)
        return images.clamp_(0, 1).view(x.shape)


@dataclass(frozen=True)
class ShiftViews:
    """Mild views that keep the image sharp: whole-pixel shifts of the edge-padded image, and mirror images."""

    per_image: bool = True
    flip: bool = True
    #: Largest shift as a share of the image: 2 pixels of 32.
    shift: float = 1 / 16

    def draw(self, count: int, x: Tensor, generator: torch.Generator) -> Draws:
        """As `CottaViews.draw`."""
        n = count * len(x) if self.per_image else count
        reach = torch.tensor([int(x.shape[-1] * self.shift), int(x.shape[-2] * self.shift)])
        shift = (torch.rand(n, 2, generator=generator) * (2 * reach + 1)).floor() - reach
        return {"translate": shift, "flip": torch.rand(n, generator=generator) < (0.5 if self.flip else 0.0)}

    def apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None = None) -> Tensor:
        """As `CottaViews.apply`; there is no noise."""
        b, _, h, w = x.shape
        n = len(draws["flip"])
        rows = torch.arange(h) - draws["translate"][:, 1:].long()
        columns = torch.arange(w) - draws["translate"][:, :1].long()
        columns = torch.where(draws["flip"][:, None], columns.flip(1), columns)
        rows, columns = rows.clamp_(0, h - 1).to(x.device), columns.clamp_(0, w - 1).to(x.device)
        images = torch.arange(b, device=x.device)
        if self.per_image:
            image = images.repeat(n // b)
            return x[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
        return torch.cat([x[:, :, row[:, None], column] for row, column in zip(rows, columns, strict=True)])


def jitter(images: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Colour jitter: five operations, each clamped to [0, 1], in the order of each draw.

    Args:
        images: Shape (N, M, C, H, W): N draws, each applied to M images. Not written to.
        order: Permutations of the five operations, shape (N, 5), on the CPU.
        factors: Their strengths, indexed by operation, shape (N, 5), on the CPU.
    """
    out = images.clone(memory_format=torch.contiguous_format)
    factors = factors.to(images)[:, :, None, None, None, None]
    placed = torch.arange(len(out))  # which draw lies where: at each stage, the draws of one operation lie together
    for stage in range(5):
        operations = order[placed, stage]
        if len(out) > 1:
            operations, moves = operations.sort()
            out, placed = out.index_select(0, moves.to(out.device, non_blocking=True)), placed[moves]
        counts = operations.bincount(minlength=5).tolist()
        strengths = factors[placed.to(out.device, non_blocking=True)]
        for operation, part, factor in zip(range(5), out.split(counts), strengths.split(counts), strict=True):
            if len(part):
                _recolour(part, operation, factor[:, operation])
    return out if len(out) == 1 else out.index_select(0, placed.argsort().to(out.device, non_blocking=True))


def _recolour(x: Tensor, operation: int, factor: Tensor) -> Tensor:
    """One colour operation in place, on images (N, M, C, H, W) with factors (N, 1, 1, 1, 1), as torchvision defines it.

    Buffers are used again where they can be: on the CPU a fresh one costs more than the arithmetic in it.
    """
    if operation == BRIGHTNESS:
        return x.mul_(factor).clamp_(0, 1)
    if operation == GAMMA:
        return x.clamp_(1e-8, 1).pow_(factor).clamp_(0, 1)
    if operation == CONTRAST:
        mean = _grey(x.mean((3, 4), keepdim=True)).mean(2, keepdim=True)
        return x.mul_(factor).add_(mean * (1 - factor)).clamp_(0, 1)
    if x.shape[2] != 3:  # grey images have neither saturation nor hue
        return x
    if operation == SATURATION:
        grey = _grey(x).mul_(1 - factor)
        return x.mul_(factor).add_(grey).clamp_(0, 1)
    return _turn_hue(x, factor)


def _grey(x: Tensor) -> Tensor:
    """Luma with the channel kept, shape (N, M, 1, H, W)."""
    if x.shape[2] != 3:
        return x
    return (x[:, :, :1] * _GREY[0]).add_(x[:, :, 1:2], alpha=_GREY[1]).add_(x[:, :, 2:], alpha=_GREY[2])


def _turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Adds `turn` (in turns of the colour circle) to the hue, in place, keeping value and saturation."""
    red, green, blue = x.split(1, 2)
    top = torch.maximum(red, green).maximum(blue)
    chroma = top - torch.minimum(red, green).minimum(blue)
    # Hue in sixths of the circle, from the top channel on. Lerp with weights of 0 and 1 chooses, faster than `where`.
    not_red = (top - red).mul_(1e30).clamp_(max=1)
    not_green = (top - green).mul_(1e30).clamp_(max=1)
    from_green = (blue - red).add_(chroma, alpha=2)
    from_blue = (red - green).add_(chroma, alpha=4)
    hue = (green - blue).lerp_(from_green.lerp_(from_blue, not_green), not_red)
    hue.div_(chroma.clamp(min=torch.finfo(x.dtype).tiny)).add_(turn * 6)
    hue.sub_((hue / 6).floor_(), alpha=6)
    # Each channel falls from the top by the chroma times a trapezoid of the hue about its opposite on the circle.
    opposite = x.new_tensor([3.0, 5.0, 1.0]).view(3, 1, 1)
    fall = (hue - opposite).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return torch.addcmul(top, fall, chroma, value=-1, out=x).clamp_(0, 1)


def warp(images: Tensor, draws: Draws, margin: int, padding: str = "border") -> Tensor:
    """Rotation, shift, scaling and mirroring about the centre, bilinear.

    Args:
        images: Shape (N, M, C, H, W).
        draws: angle (degrees), translate (pixels, x then y), scale and flip, each with N rows, on the CPU.
        margin: Pixels to add on every side of the result, for a blur that follows.
        padding: What lies beyond the image, as `grid_sample` names it; "reflection" is about the centre of edge pixels.

    Returns:
        Shape (N, M, C, H + 2 * margin, W + 2 * margin).
    """
    n, m, c, h, w = images.shape
    angle = draws["angle"].double() * (math.pi / 180)
    scale = draws["scale"].double()
    cos, sin = angle.cos() / scale, angle.sin() / scale
    mirror = torch.where(draws["flip"], -1.0, 1.0).double()
    tx, ty = draws["translate"].double().unbind(1)
    centres = padding == "reflection"  # whether -1 and 1 are the centres of the edge pixels or their outer edges
    # From an output position (x, y) relative to the centre to the source position, in units of half the image.
    to_source = torch.stack(
        (
            torch.stack((cos * mirror, sin, -(cos * tx + sin * ty)), 1) * (2 / max(w - centres, 1)),
            torch.stack((-sin * mirror, cos, sin * tx - cos * ty), 1) * (2 / max(h - centres, 1)),
        ),
        1,
    ).to(images)
    y = torch.arange(h + 2 * margin, device=images.device, dtype=images.dtype) - (h + 2 * margin - 1) / 2
    x = torch.arange(w + 2 * margin, device=images.device, dtype=images.dtype) - (w + 2 * margin - 1) / 2
    by_x, by_y, constant = to_source[:, :, None].unbind(3)
    grid = (by_x * x)[:, :, None] + (by_y * y + constant)[..., None]  # (N, 2, H, W): one pass, along rows
    grid = grid.permute(0, 2, 3, 1)
    out = F.grid_sample(images.view(n, m * c, h, w), grid, "bilinear", padding, align_corners=centres)
    return out.view(n, m, c, h + 2 * margin, w + 2 * margin)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a 5 x 5 kernel, without padding.

    Args:
        images: Shape (N, M, C, H + 4, W + 4).
        sigma: Standard deviations in pixels, shape (N,), on the CPU.

    Returns:
        Shape (N, M, C, H, W).
    """
    taps = torch.exp(-0.5 * (torch.arange(3) / sigma.double()[:, None]) ** 2)
    taps = (taps / (2 * taps.sum(1, keepdim=True) - 1)).to(images)
    centre, near, far = taps.split(1, 1)
    n, m, c, h, w = images.shape
    # Along lines without ends: what reaches over the edge of an image lands in the margin, which is cut off.
    line = images.reshape(n, -1)
    for step in (1, w):
        size = line.shape[1] - 4 * step
        shifted = [line.narrow(1, start * step, size) for start in range(5)]
        line = shifted[2] * centre
        line.addcmul_(shifted[1] + shifted[3], near).addcmul_(shifted[0] + shifted[4], far)
    inner = line.as_strided((n, m, c, h - 4, w - 4), (line.stride(0), c * h * w, h * w, w, 1))
    return inner.contiguous()
