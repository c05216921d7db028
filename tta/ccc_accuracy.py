"""How often a source model is right under two corruptions at once: what the paths of CCC are found on.

Measured once per pair, whole severities only, and kept in a file: an interrupted measurement continues.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import corruptions
from corruptions import jpeg
from corruptions.randomness import image_keys
from tta import files, provenance
from tta.data.images import ImageData
from tta.errors import TTAError
from tta.random_crops import random_crops

if TYPE_CHECKING:
    from tta.ccc import Node

#: Whole severities, 0 (not applied) to 5, and the quarters between them.
WHOLE, QUARTERS = np.arange(6), np.arange(21) / 4
#: One corruption at one whole severity; None for none.
Damage = tuple[str, int] | None


class Accuracies:
    """Accuracy of a source model under pairs of corruptions, measured when it is asked for.

    A row (first corruption, its severity) is measured at a time, the images corrupted once for all that follow, and
    written to the file when it is done.

    Args:
        model: Images (B, C, H, W) in [0, 1] to logits (B, K), preprocessing inside.
        data: The clean images.
        folder: Where the file is kept; see `cache_folder`. None keeps nothing.
        images: On how many images of the data, at most.
        batch_size: Images at a time; the accuracies hardly depend on it.
        seed: Seed of the choice of images and of the corruptions.
        crop: As in `CCC`.
        store_jpeg: As in `CCC`.
        device: Where to compute.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        *,
        folder: Path | None = None,
        images: int = 500,
        batch_size: int = 100,
        seed: int = 0,
        crop: bool = False,
        store_jpeg: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        from tta.cells import weights_hash

        if images < 1 or batch_size < 1:
            raise TTAError(f"accuracies need at least one image, not {min(images, batch_size)}")
        self.model, self.data, self.batch_size, self.seed = model, data, batch_size, seed
        self.crop, self.store_jpeg, self.device = crop, store_jpeg, torch.device(device)
        order = torch.argsort(image_keys(seed, "ccc calibration", 0, torch.arange(len(data))), stable=True)
        self.index = order[:images]
        self.definition: dict[str, Any] = {
            "weights": weights_hash(model),
            "data": data.fingerprint,
            "images": len(self.index),
            "seed": seed,
            "crop": crop,
            "store_jpeg": store_jpeg,
            "device": self.device.type,
            "frost": corruptions.frost_source(),
            "versions": [torch.__version__, np.__version__],
        }
        self.key = provenance.digest(self.definition)
        self.file = None if folder is None else folder / f"ccc-{self.key[:16]}.json"
        self.cells: dict[str, float] = self._load()

    def surface(self, first: str, second: str) -> np.ndarray:
        """Accuracy in %, shape (21, 21): first corruption at severities 0, 1/4, ... 5 down, second one across."""
        self.measure([(first, second)])
        whole = np.array([[self.cells[cell_name(*cell)] for cell in row] for row in grid(first, second)])
        weights = np.maximum(0, 1 - np.abs(QUARTERS[:, None] - WHOLE))  # bilinear
        return weights @ whole @ weights.T

    def along(self, nodes: list[Node]) -> float:
        """Mean accuracy along a path, in %."""
        surface = self.surface(nodes[0].first, nodes[0].second)
        return float(np.mean([surface[int(4 * node.first_severity), int(4 * node.second_severity)] for node in nodes]))

    def measure(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Measures what is missing of some ordered pairs of corruptions.

        Raises:
            CorruptionError: There is no such corruption.
        """
        rows: dict[Damage, dict[Damage, None]] = {}
        for pair in pairs:
            for name in pair:
                corruptions.get(name)
            for cell in (cell for row in grid(*pair) for cell in row):
                if cell_name(*cell) not in self.cells:
                    rows.setdefault(cell[0], {})[cell[1]] = None
        for first, seconds in rows.items():
            found = self._row(first, list(seconds))
            self.cells.update({cell_name(first, second): value for second, value in zip(seconds, found, strict=True)})
            self._save()

    @torch.no_grad()
    def _row(self, first: Damage, seconds: list[Damage]) -> list[float]:
        """Accuracy under `first` and then each of `seconds`, in %."""
        correct = torch.zeros(len(seconds), dtype=torch.int64, device=self.device)
        training = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            for x, y, keys in self._batches():
                damaged = self._damage(x, first, keys)
                for number, second in enumerate(seconds):
                    images = self._damage(damaged, second, keys)
                    if self.store_jpeg is not None:
                        images = jpeg.roundtrip(images, self.store_jpeg)
                    correct[number] += (self.model(images.float().div_(255)).argmax(1) == y).sum()
        finally:
            for module, mode in training.items():
                module.training = mode
        return [100 * count / len(self.index) for count in correct.tolist()]

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images, uint8, labels, and what keys the randomness of each image."""
        for index in self.index.split(self.batch_size):
            x = self.data.images(index).to(self.device)
            if self.crop:
                x = random_crops(x, image_keys(self.seed, "ccc crop", 0, index))
            yield x, self.data.labels[index].to(self.device), index

    def _damage(self, x: Tensor, damage: Damage, keys: Tensor) -> Tensor:
        return x if damage is None else corruptions.corrupt(x, *damage, seed=self.seed, index=keys)

    def _load(self) -> dict[str, float]:
        if self.file is None or not self.file.is_file():
            return {}
        try:
            content = json.loads(self.file.read_text())
            return {str(name): float(value) for name, value in content["cells"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TTAError(f"{self.file} is damaged ({error}); remove it, and it is measured again") from error

    def _save(self) -> None:
        if self.file is not None:
            files.folder(self.file.parent, "the cache folder")
            files.write(self.file, json.dumps({"definition": self.definition, "cells": self.cells}, indent=1))


def grid(first: str, second: str) -> list[list[tuple[Damage, Damage]]]:
    """The cells of a pair at whole severities. Those where the first one is not applied belong to all pairs."""
    return [[((first, s) if s else None, (second, t) if t else None) for t in range(6)] for s in range(6)]


def cell_name(first: Damage, second: Damage) -> str:
    """The name of a cell in the file; the same for one corruption alone, whether it is the first or the second.

    >>> cell_name(("fog", 2), ("snow", 1)), cell_name(None, ("fog", 2)), cell_name(("fog", 2), None)
    ('fog@2>snow@1', 'fog@2', 'fog@2')
    """
    return ">".join(f"{one[0]}@{one[1]}" for one in (first, second) if one is not None) or "clean"


def cache_folder() -> Path:
    """Where measured accuracies are kept: the environment variable TTA_CACHE, else ~/.cache/tta."""
    return Path(os.environ.get("TTA_CACHE") or Path.home() / ".cache" / "tta")
