"""Whether the classes of a stream come at random, or images of a class together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

#: Images after which a batch counts half among the batches that the next one is compared with, and after which a
#: comparison counts half in the verdict.
POOL, VERDICT = 256, 512
#: How much more than chance the classes must change from batch to batch, as a logarithm. Shuffled streams were below
#: 0.4 and correlated ones over 0.7, on the development corruptions.
ORDERED = 0.5


class ClassOrder:
    """Compares what the source model sees in a batch with what it saw before under the same style.

    Two samples of the same classes differ by a chi-square whose expectation is known, however often the source model
    errs. More than that, again and again, and images of a class come together. A change of style (another corruption
    makes the source model see other classes) begins the comparison anew, but not the verdict.

    It does not find a stream that begins with a run of one class, before that run ends.
    """

    def __init__(self) -> None:
        #: Counts of the classes of late, the chi-squares of late and what chance would have made of them.
        self.memory: dict[str, Any] = {"pool": None, "found": 0.0, "chance": 0.0}

    def take(self, classes: Tensor, count: int, anew: bool) -> None:
        """Takes in a batch that was looked at.

        Args:
            classes: What the source model says, int64, (B,).
            count: Number of classes.
            anew: Whether the style has changed since the batch before.
        """
        ours, now = self.memory, torch.bincount(classes.cpu(), minlength=count).double()
        pool = None if anew or ours["pool"] is None else torch.as_tensor(ours["pool"], dtype=torch.float64)
        if pool is not None:
            found, chance = chi_square(pool, now)
            kept = 0.5 ** (len(classes) / VERDICT)
            ours.update(found=kept * ours["found"] + found, chance=kept * ours["chance"] + chance)
            now = now + pool * 0.5 ** (len(classes) / POOL)
        ours["pool"] = now.tolist()

    @property
    def ordered(self) -> bool | None:
        """Whether images of a class come together; None as long as no two batches could be compared."""
        return self.excess > ORDERED if self.memory["chance"] > 0 else None

    @property
    def excess(self) -> float:
        """Logarithm of the chi-squares over their expectation, 0 where nothing is known."""
        return math.log((self.memory["found"] + 2) / (self.memory["chance"] + 2))


def chi_square(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Pearson's chi-square of homogeneity of two vectors of counts, (K,), and its degrees of freedom.

    >>> chi_square(torch.tensor([4.0, 0.0, 4.0]), torch.tensor([4.0, 0.0, 4.0]))
    (0.0, 1.0)
    """
    both = torch.stack([first, second])[:, first + second > 0]
    expected = both.sum(1, keepdim=True) * both.sum(0) / both.sum()
    return float(((both - expected).square() / expected).sum()), float(both.shape[1] - 1)
