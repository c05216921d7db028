"""Shift consistency: whether a model says the same when the camera moves by a pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.streams import Data, to_unit


class ShiftConsistency(NamedTuple):
    """How the predictions of a model stand small shifts.

    Attributes:
        consistency: Share of the images whose prediction is the same under all shifts as without one, in %.
        adversarial_flip_rate: Share of the images that at least one shift turns into another class, in %: 100 minus
            the consistency.
        mean_flip_rate: Share of the shifted images whose prediction is another than without a shift, in %, over all
            images and shifts.
        adversarial_error: Share of the images that are wrong without a shift or under at least one, in %.
        shifts: Number of shifts of every image.
        n: Images.
    """

    consistency: float
    adversarial_flip_rate: float
    mean_flip_rate: float
    adversarial_error: float
    shifts: int
    n: int


@torch.no_grad()
def shift_consistency(
    model: nn.Module,
    data: Data,
    pixels: int = 1,
    *,
    crop: int | None = None,
    diagonal: bool = True,
    batch_size: int = 64,
) -> ShiftConsistency:
    """Shifts every image by up to `pixels` in all directions and counts the predictions that change.

    What comes into view at the edge is real only in the crop of a larger image. So give data with a margin and `crop`,
    the side that the model takes, where you can. Without it the images are shifted as a whole, and mirrored pixels
    (without repeating the edge) fill the gap, which can itself change a prediction.

    Args:
        model: The network, or an adapter, which is asked with `predict` and does not learn. Where its answers depend on
            the batch, all images of a batch are shifted together.
        data: Images and labels.
        pixels: Largest shift along each axis.
        crop: Side of the square in the middle of the images that is given to the model, moved within the image.
        diagonal: Whether both axes are shifted together: the 8 neighbours of a pixel for `pixels=1`, else its 4.
        batch_size: Images at a time; each goes through the model once per shift and once more.

    Raises:
        TTAError: No images, or images that are too small for the shifts.

    Reference:
        Azulay & Weiss, "Why do deep convolutional networks generalize so poorly to small image transformations?", JMLR
        20, 2019; Zhang, "Making convolutional networks shift-invariant again", ICML 2019 (consistency); Shifman &
        Weiss, "Lost in translation", ECCV 2024 (adversarial one-pixel shifts, of crops).

    >>> import tta
    >>> shift_consistency(tta.load_source("digits"), tta.load_data("digits", limit=20)).shifts
    8
    """
    if len(data) == 0 or pixels < 1:
        raise TTAError(
            f"{data.name} has {len(data)} images to be shifted by {pixels} pixels; give at least one of each"
        )
    ask = model.predict if isinstance(model, Adapter) else model
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    training = {module: module.training for module in model.modules()}
    model.eval()
    shifts = offsets(pixels, diagonal)
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    try:
        for index in torch.arange(len(data)).split(batch_size):
            x = framed(to_unit(data.images(index), data.name, device), pixels, crop)
            side = x.shape[2] - 2 * pixels, x.shape[3] - 2 * pixels
            y = data.labels[index].to(device)
            answers = [ask(window(x, dy + pixels, dx + pixels, side)).argmax(1) for dy, dx in [(0, 0), *shifts]]
            flipped = torch.stack([answer != answers[0] for answer in answers[1:]])
            wrong = torch.stack([answer != y for answer in answers]).any(0)
            counts += torch.stack([flipped.any(0).sum(), flipped.sum(), wrong.sum()])
    finally:
        for module, mode in training.items():
            module.training = mode
    once, all_flips, wrong_once = (100 * count / len(data) for count in counts.tolist())
    return ShiftConsistency(100 - once, once, all_flips / len(shifts), wrong_once, len(shifts), len(data))


def offsets(pixels: int, diagonal: bool = True) -> list[tuple[int, int]]:
    """All shifts (down, right) of up to so many pixels, without that by none.

    >>> offsets(1, diagonal=False)
    [(-1, 0), (0, -1), (0, 1), (1, 0)]
    """
    steps = range(-pixels, pixels + 1)
    return [(dy, dx) for dy in steps for dx in steps if (dy or dx) and (diagonal or not (dy and dx))]


def framed(x: Tensor, pixels: int, crop: int | None) -> Tensor:
    """Images with a margin of `pixels` around what the model sees.

    Args:
        x: Images, (B, C, H, W).
        pixels: Width of the margin.
        crop: Side of the square in the middle that the model sees; None for the whole image, whose margin is mirrored.

    Returns:
        Shape (B, C, side + 2 * pixels, side + 2 * pixels).
    """
    height, width = x.shape[2:]
    if crop is None:
        if min(height, width) <= pixels:
            raise TTAError(f"images of {height} x {width} cannot be shifted by {pixels} pixels; give larger ones")
        return F.pad(x, [pixels] * 4, mode="reflect")
    if crop < 1 or crop + 2 * pixels > min(height, width):
        raise TTAError(
            f"a crop of {crop} cannot move by {pixels} pixels within {height} x {width}; give images of at least"
            f" {crop + 2 * pixels}, or a smaller crop"
        )
    top, left = (height - crop) // 2 - pixels, (width - crop) // 2 - pixels
    return window(x, top, left, (crop + 2 * pixels, crop + 2 * pixels))


def window(x: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """The part of images (B, C, H, W) that begins at (top, left)."""
    return x[..., top : top + size[0], left : left + size[1]]
