"""Images that are computed once: a benchmark shows the same corrupted images to every method."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tta.data.images import ImageData, Index, positions

#: Images that are computed at a time when all are wanted.
PART = 64


class Kept(ImageData):
    """A data set whose images are kept in memory once they have been asked for.

    Args:
        data: The images to keep, all of one shape. They take N * C * H * W bytes where they are returned.
        file: Where another process may have put them (`write`); they are read from there if it has.
    """

    def __init__(self, data: ImageData, file: Path | None = None) -> None:
        self.data, self.file = data, file
        self.take_classes(data)
        self.name, self.shape = data.name, data.shape
        self.labels, self.keys, self.note = data.labels, data.keys, data.note
        self._images: Tensor | None = None
        self._there = torch.zeros(len(data.labels), dtype=torch.bool)

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`; a copy."""
        chosen = positions(index, len(self))
        if self.file is not None and not self._there.all() and self.file.exists():
            # copy on write, so that torch may have it; nobody writes
            self._images = torch.from_numpy(np.load(self.file, mmap_mode="c"))
            self._there[:] = True
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

    def write(self) -> None:
        """Computes the images and puts them where other processes look for them, all at once.

        A disk that cannot take them is no failure: then each process computes them.
        """
        assert self.file is not None
        parts = [self.images(part).cpu() for part in torch.arange(len(self)).split(PART)]
        draft = self.file.with_suffix(f".{os.getpid()}")
        try:
            with draft.open("wb") as stream:
                np.save(stream, torch.cat(parts).numpy())
            draft.replace(self.file)
        except OSError:
            draft.unlink(missing_ok=True)

    @cached_property
    def fingerprint(self) -> str:
        """That of the data."""
        return self.data.fingerprint
