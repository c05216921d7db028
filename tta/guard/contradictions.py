"""Images about which two models contradict each other, described without their classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tta.objectives import entropy

#: Numbers that describe an image, and numbers that describe the batch that it came in.
OF_IMAGE, OF_BATCH = 6, 10
#: Log-odds are cut off here: beyond, they tell rounding.
SURE = 9.0


def contradictions(ours: Tensor, theirs: Tensor) -> Tensor:
    """Which images two models give different classes, bool, shape (B,)."""
    return ours.argmax(1) != theirs.argmax(1)


def describe(ours: Tensor, theirs: Tensor, appearance: Tensor) -> Tensor:
    """Every image of a batch in numbers that may tell which of two models is right about it.

    Of the image: what either model gives its own class and the other's (log-odds), and both entropies. Of the batch:
    the share of contradictions, the mean entropy of either model, the entropies of their mean predictions (low where
    one class prevails), four numbers of its appearance, and its size. Entropies are shares of log K, so that numbers
    learned on some images fit others.

    Args:
        ours: Logits of the adapter, (B, K).
        theirs: Logits of the source model.
        appearance: Of the batch, (4,), see `Style.describe`.

    Returns:
        (B, 16).
    """
    ours, theirs = ours.float(), theirs.float()
    pairs = (ours.softmax(1), theirs.softmax(1))
    classes = (ours.argmax(1, keepdim=True), theirs.argmax(1, keepdim=True))
    odds = [_log_odds(p.gather(1, c))[:, 0] for p in pairs for c in classes]
    unit = 1 / math.log(ours.shape[1])
    unsure = [entropy(logits) * unit for logits in (ours, theirs)]
    prevailing = [-(p.mean(0) * p.mean(0).clamp(min=1e-9).log()).sum() * unit for p in pairs]
    apart = contradictions(ours, theirs).float().mean()
    size = torch.full_like(apart, math.log2(len(ours)))
    batch = torch.stack([apart, unsure[0].mean(), unsure[1].mean(), *prevailing, *appearance.to(ours), size])
    return torch.cat([torch.stack([*odds, *unsure], 1), batch.expand(len(ours), -1)], 1)


def _log_odds(p: Tensor) -> Tensor:
    return (p.clamp(1e-9, 1 - 1e-7)).logit().clamp(-SURE, SURE)
