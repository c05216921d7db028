"""Mild test-time views: the image, its mirror image, and copies moved by a pixel or two or by half a pixel.

They are always the same ones, in the order of their worth, so that a budget of V passes takes the first V. Half a pixel
in both directions is the mean of four neighbours: a view that is also a slight blur, which removes some noise.
"""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor

#: Most views there are.
MOST = 32
#: Shifts in half pixels (x, y), in the order in which they are used; each once as it is and once mirrored.
_SHIFTS = ((0, 0), (1, 1), (4, 4), (-1, -1), (-4, -4), (4, -4), (-4, 4), (1, -1))
_FURTHER = ((-1, 1), (5, 0), (-5, 0), (0, 5), (0, -5), (2, 2), (-2, -2), (2, -2))


def mild_view(x: Tensor, number: int, flip: bool = True) -> Tensor:
    """One view of every image of a batch.

    Args:
        x: Images in [0, 1], shape (B, C, H, W). Not written to.
        number: Which view, from 0, the images themselves.
        flip: Whether views may be mirrored; False where a mirror image is another class.

    Returns:
        Images of the shape of `x`; view 0 is `x` itself.
    """
    mirrored, shift = order(flip)[number]
    return moved(x.flip(-1) if mirrored else x, *shift)


def order(flip: bool) -> list[tuple[bool, tuple[int, int]]]:
    """Whether each view is mirrored, and its shift in half pixels; the mirror image of a view is moved otherwise."""
    shifts = [*_SHIFTS, *_FURTHER]
    if not flip:
        rest = [(x, y) for x, y in itertools.product(range(-3, 4), repeat=2) if (x, y) not in shifts]
        return [(False, shift) for shift in (*shifts, *rest)][:MOST]
    plain = [(False, shift) for shift in shifts]
    mirrored = [(True, (x, y)) for x, y in (*shifts[1:], shifts[0])]
    return [view for pair in zip(plain, mirrored, strict=True) for view in pair]


def moved(x: Tensor, right: int, down: int) -> Tensor:
    """Images moved by half pixels, what comes in repeating the edge.

    Args:
        x: Images, shape (B, C, H, W).
        right: Half pixels to the right (negative: to the left). Odd numbers average two neighbouring columns.
        down: Half pixels downwards. Odd numbers average two neighbouring rows.
    """
    if right == down == 0:
        return x
    h, w = x.shape[-2:]
    reach = max(abs(right), abs(down)) // 2 + 1
    wide = F.pad(x, (reach,) * 4, mode="replicate")
    window = (1 + down % 2, 1 + right % 2)
    top, left = reach - (down + 1) // 2, reach - (right + 1) // 2
    part = wide[..., top : top + h + window[0] - 1, left : left + w + window[1] - 1]
    return part if window == (1, 1) else F.avg_pool2d(part, window, stride=1)
