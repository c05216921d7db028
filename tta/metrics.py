"""Metrics of predictions: error, calibration, likelihood. Sums on the device, read when a domain ends.

Every metric here is a mean over images of a few numbers per image, or (the calibration error) a function of such
means. So one mechanism serves all: the numbers are summed per group, a group being a domain, and the sums of two parts
of a stream add up. Images without a label (-1) count nowhere. What needs the single images (worst class, worst window,
risk and coverage) is computed from the records, in `tta.record_metrics`; label maps have `tta.label_maps`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tta.errors import TTAError


class Metric:
    """A quantity of the predictions, for several groups of images at once.

    Args:
        groups: Number of groups.
        device: Where the predictions are.

    Attributes:
        name: In results.
        unit: "%", "nats" or "".
        higher_is_better: Direction.
        width: How many numbers are summed.
    """

    name: str
    unit = ""
    higher_is_better = False
    width = 1

    def __init__(self, groups: int = 1, device: torch.device | str = "cpu") -> None:
        double = torch.float32 if torch.device(device).type == "mps" else torch.float64
        self.sums = torch.zeros(groups, self.width, dtype=double, device=device)
        self.n = torch.zeros(groups, dtype=double, device=device)

    def update(self, logits: Tensor, y: Tensor, group: Tensor | None = None) -> None:
        """Adds a batch, without waiting for the device.

        Args:
            logits: Unnormalised scores, shape (B, K).
            y: Classes, int64, shape (B,); -1 for an image without a label.
            group: Group of each image, int64, shape (B,); all in group 0 if not given.
        """
        group = torch.zeros_like(y) if group is None else group
        scored = y >= 0
        values = self.values(logits, y.clamp(min=0)).to(self.sums.dtype)
        # A product with the membership adds in a fixed order; index_add would not, on CUDA.
        member = ((group == torch.arange(len(self.n), device=y.device)[:, None]) & scored).to(self.sums.dtype)
        self.sums += member @ values.where(scored[:, None], 0)
        self.n += member.sum(1)

    def values(self, logits: Tensor, y: Tensor) -> Tensor:
        """The numbers of each image, shape (B, width)."""
        raise NotImplementedError

    def compute(self) -> Tensor:
        """The metric of each group, shape (groups,); NaN for a group without images."""
        return (self.sums / self.n[:, None])[:, 0]

    def merge(self, other: Metric) -> None:
        """Adds what another instance of the same metric has seen.

        Raises:
            TTAError: The other is another metric, or has another number of groups.
        """
        if type(other) is not type(self) or other.sums.shape != self.sums.shape:
            raise TTAError(
                f"cannot merge {type(other).__name__} with sums {tuple(other.sums.shape)} into {type(self).__name__}"
                f" with {tuple(self.sums.shape)}; merge the same metric with the same groups"
            )
        self.sums += other.sums.to(self.sums.device)
        self.n += other.n.to(self.n.device)


class Error(Metric):
    """Share of images whose most likely class is not theirs, in %."""

    name, unit = "error", "%"

    def values(self, logits: Tensor, y: Tensor) -> Tensor:
        """100 for a wrong answer, 0 for a right one."""
        return (logits.argmax(1) != y)[:, None] * 100.0


class NLL(Metric):
    """Mean negative log-likelihood of the true class, in nats."""

    name, unit = "nll", "nats"

    def values(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy with the true class."""
        return F.cross_entropy(logits.float(), y, reduction="none")[:, None]


class Brier(Metric):
    """Mean squared distance between the predicted distribution and the true class, summed over classes: 0 to 2.

    Reference:
        Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.
    """

    name = "brier"

    def values(self, logits: Tensor, y: Tensor) -> Tensor:
        """Squared distance."""
        return squared_distance(logits.float().softmax(1), y)[:, None]


class ECE(Metric):
    """Expected calibration error with 15 bins of equal width, in %.

    The mean over images of the gap between confidence (probability of the predicted class) and accuracy in the image's
    bin; bin m holds the confidences in ((m - 1) / 15, m / 15].

    Reference:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 5.
    """

    name, unit = "ece", "%"
    bins = 15
    width = 2 * bins

    def values(self, logits: Tensor, y: Tensor) -> Tensor:
        """Per bin: the confidence, and whether the answer is right."""
        confidence, prediction = logits.float().softmax(1).max(1)
        place = (confidence * self.bins).ceil().long().sub_(1).clamp_(0, self.bins - 1)
        inside = F.one_hot(place, self.bins)
        return torch.cat([inside * confidence[:, None], inside * (prediction == y)[:, None]], 1)

    def compute(self) -> Tensor:
        """Mean gap of the bins, each weighted by its images."""
        confidence, correct = self.sums.split(self.bins, 1)
        return 100 * (confidence - correct).abs().sum(1) / self.n


def squared_distance(probs: Tensor, y: Tensor) -> Tensor:
    """Squared distance between a predicted distribution and the true class, summed over classes.

    Args:
        probs: Probabilities, shape (B, K).
        y: Classes, int64, shape (B,).

    Returns:
        0 to 2, shape (B,).

    >>> squared_distance(torch.tensor([[0.75, 0.25]]), torch.tensor([1]))
    tensor([1.1250])
    """
    # |p - e_y|^2 = |p|^2 - 2 p_y + 1
    return probs.square().sum(1) - 2 * probs.gather(1, y[:, None])[:, 0] + 1


#: The metrics of every evaluation, in the order of the results.
METRICS: tuple[type[Metric], ...] = (Error, ECE, NLL, Brier)
