"""Metrics of label maps: a class per pixel, of logits (B, K, H, W). Counts on the device, read when a domain ends."""

from __future__ import annotations

import torch
from torch import Tensor

from tta.errors import TTAError
from tta.metrics import Metric

#: Label of pixels that count nowhere; so do negative labels.
IGNORED = 255


class MapMetric(Metric):
    """A quantity of the confusion matrix of the pixels, for several groups of images at once.

    The number of classes is that of the first logits. `n` counts images.

    Args:
        groups: Number of groups.
        device: Where the predictions are.

    Attributes:
        counts: Pixels by group, true class and predicted class, int64, shape (groups, K, K); None before the first
            batch.
    """

    unit = "%"

    def __init__(self, groups: int = 1, device: torch.device | str = "cpu") -> None:
        super().__init__(groups, device)
        self.counts: Tensor | None = None

    def update(self, logits: Tensor, y: Tensor, group: Tensor | None = None) -> None:
        """Adds a batch, without waiting for the device.

        Args:
            logits: Unnormalised scores, shape (B, K, H, W).
            y: Class of every pixel, integer, shape (B, H, W); 255 and negative ones are ignored.
            group: Group of each image, int64, shape (B,); all in group 0 if not given.
        """
        groups, classes = len(self.n), logits.shape[1]
        group = torch.zeros(len(y), dtype=torch.int64, device=y.device) if group is None else group
        if self.counts is None:
            self.counts = torch.zeros(groups, classes, classes, dtype=torch.int64, device=logits.device)
        place = (group[:, None, None] * classes + y.long()) * classes + logits.argmax(1)
        # Ignored pixels are counted in a place of their own, so that nothing has to be selected.
        place = place.where((y >= 0) & (y != IGNORED), self.counts.numel()).flatten()
        counted = self.counts.new_zeros(self.counts.numel() + 1).scatter_add_(0, place, torch.ones_like(place))
        self.counts += counted[:-1].view_as(self.counts)
        self.n += (group == torch.arange(groups, device=group.device)[:, None]).sum(1)

    def merge(self, other: Metric) -> None:
        """Adds what another metric of the same kind has counted.

        Raises:
            TTAError: It is of another kind, or has other groups or classes.
        """
        super().merge(other)
        theirs = getattr(other, "counts", None)
        if self.counts is None or theirs is None:
            self.counts = theirs.clone() if self.counts is None and theirs is not None else self.counts
            return
        if self.counts.shape != theirs.shape:
            raise TTAError(f"cannot merge {self.counts.shape[1]} classes with {theirs.shape[1]}")
        self.counts += theirs

    def compute(self) -> Tensor:
        """The metric of each group, shape (groups,); NaN for a group without pixels."""
        if self.counts is None:
            return torch.full_like(self.n, torch.nan)
        return self.of_counts(self.counts.to(self.n.dtype))

    def whole(self) -> float:
        """The metric of the pixels of all groups; NaN without pixels."""
        return float("nan") if self.counts is None else self.of_counts(self.counts.sum(0, keepdim=True).double()).item()

    def of_counts(self, counts: Tensor) -> Tensor:
        """The metric of confusion matrices, (groups, K, K)."""
        raise NotImplementedError


class PixelError(MapMetric):
    """Share of pixels whose most likely class is not theirs, in %."""

    name = "error"

    def of_counts(self, counts: Tensor) -> Tensor:
        """What is not on the diagonal."""
        right = counts.diagonal(dim1=1, dim2=2).sum(1)
        return 100 * (1 - right / counts.sum((1, 2)))


class MeanIoU(MapMetric):
    """Mean intersection over union, in %: per class the pixels that are and are said to be of it, over those that are
    or are said to be; averaged over the classes that occur in the labels or in the answers. Higher is better.

    Reference:
        Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010, section 4.1.
    """

    name = "miou"
    higher_is_better = True

    def of_counts(self, counts: Tensor) -> Tensor:
        """Mean of diagonal over row plus column minus diagonal."""
        both = counts.diagonal(dim1=1, dim2=2)
        either = counts.sum(1) + counts.sum(2) - both
        return 100 * (both / either).nanmean(1)


#: The metrics of every evaluation on label maps, in the order of the results.
MAP_METRICS: tuple[type[MapMetric], ...] = (PixelError, MeanIoU)
