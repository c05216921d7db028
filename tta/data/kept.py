"""Images that are computed once: a benchmark shows the same corrupted images to every method."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from tta.data.images import ImageData, Index, positions


class Kept(ImageData):
    """A data set whose images are kept in memory once they have been asked for.

    Args:
        data: The images to keep, all of one shape. They take N * C * H * W bytes where they are returned.
    """

    def __init__(self, data: ImageData) -> None:
        self.data = data
        self.take_classes(data)
        self.name, self.shape = data.name, data.shape
        self.labels, self.keys, self.note = data.labels, data.keys, data.note
        self._images: Tensor | None = None
        self._there = torch.zeros(len(data.labels), dtype=torch.bool)

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`; a copy."""
        chosen = positions(index, len(self))
        missing = chosen[~self._there[chosen]].unique()
        if len(missing):
            fresh = self.data.images(missing)
            if self._images is None:
                self._images = fresh.new_empty(len(self), *fresh.shape[1:])
            self._images[missing.to(fresh.device)] = fresh
            self._there[missing] = True
        if self._images is None:  # nothing was ever asked for
            return self.data.images(chosen)
        return self._images[chosen.to(self._images.device)]

    @cached_property
    def fingerprint(self) -> str:
        """That of the data."""
        return self.data.fingerprint
