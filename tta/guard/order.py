"""Whether the classes of a stream come at random, or images of a class together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

#: Images after which a batch counts half among the batches that the next one is compared with, and after which a
#: comparison counts half in the verdict.
POOL, VERDICT = 256, 512
#: Images that are compared at a time: of several batches, if they are small.
ENOUGH = 48
#: How much more than chance the classes must change from batch to batch, as a logarithm, on average. Shuffled streams
#: stayed below 0.52 and correlated ones over 0.7, on the development corruptions.
ORDERED = 0.6


class ClassOrder:
    """Compares what the source model sees in a batch with what it saw before under the same style.

    Two samples of the same classes differ by a chi-square whose expectation is known, however often the source model
    errs. More than that, again and again, and images of a class come together. A change of style (another corruption
    makes the source model see other classes) begins the comparison anew, but not the verdict; and since a slight one
    may be overlooked the verdict is a mean of logarithms, to which a single large difference matters little.

    It does not find a stream that begins with a run of one class, before that run ends.
    """

    def __init__(self) -> None:
        #: Counts of the classes of late, and of those that are still to be compared with them; the mean of the
        #: logarithms of late with its weight.
        self.memory: dict[str, Any] = {"pool": None, "next": None, "excess": 0.0, "weight": 0.0}

    def take(self, classes: Tensor, count: int, anew: bool) -> None:
        """Takes in a batch that was looked at.

        Args:
            classes: What the source model says, int64, (B,).
            count: Number of classes.
            anew: Whether the style has changed since the batch before.
        """
        ours, now = self.memory, torch.bincount(classes.cpu(), minlength=count).double()
        if anew:
            ours.update(pool=None, next=None)
        if ours["next"] is not None:
            now = now + ours["next"]
        ours["next"] = now
        if now.sum() >= ENOUGH:
            self._compare(now, float(now.sum()))
            ours["next"] = None

    def _compare(self, now: Tensor, images: float) -> None:
        ours, pool = self.memory, self.memory["pool"]
        if pool is not None:
            found, chance = chi_square(pool, now)
            if chance > 0:
                weight = 0.5 ** (images / VERDICT) * ours["weight"] + 1
                excess = math.log((found + 2) / (chance + 2))
                ours.update(excess=ours["excess"] + (excess - ours["excess"]) / weight, weight=weight)
            now = now + pool * 0.5 ** (images / POOL)
        ours["pool"] = now

    @property
    def ordered(self) -> bool | None:
        """Whether images of a class come together; None before the second comparison, since one tells little."""
        return self.memory["excess"] > ORDERED if self.memory["weight"] > 1 else None


def chi_square(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Pearson's chi-square of homogeneity of two vectors of counts, (K,), and its degrees of freedom.

    >>> chi_square(torch.tensor([4.0, 0.0, 4.0]), torch.tensor([4.0, 0.0, 4.0]))
    (0.0, 1.0)
    """
    both = torch.stack([first, second])[:, first + second > 0]
    expected = both.sum(1, keepdim=True) * both.sum(0) / both.sum()
    return float(((both - expected).square() / expected).sum()), float(both.shape[1] - 1)
