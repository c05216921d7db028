"""Cells: the units of a benchmark, and where the finished ones are kept.

A cell is one method with one seed in one scenario. Its results depend on nothing outside its key (protocol,
configuration, weights, software), so a stored cell with the same key is the result.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tta
from corruptions import frost_source, ink_source
from tta import files, provenance
from tta.acceleration import PLAIN, Acceleration
from tta.adapter import Adapter
from tta.plugins import source_hash
from tta.records import LAYOUT, load_records, save_records
from tta.registry import configuration, method, split_preset, wrap
from tta.results import Results
from tta.scenarios import Scenario
from tta.streams import Data


@dataclass(frozen=True)
class Cell:
    """A method, as "name" or "name:preset", a seed, the scenario (None for the only one), and how networks are run."""

    method: str
    seed: int
    scenario: Scenario | None = None
    acceleration: Acceleration = PLAIN

    @property
    def needs_source_data(self) -> bool:
        """Whether the method does."""
        return method(split_preset(self.method)[0]).requires.source_data

    def configuration(self, mirrors: bool) -> tuple[Any, tuple[Any, ...]]:
        """The hyper-parameters of the method and of its wrappers.

        Raises:
            TTAError: There is no such method or preset.
        """
        name, preset = split_preset(self.method)
        return configuration(name, preset=preset, **self._overrides(mirrors))

    def adapter(self, model: nn.Module, source_data: Data | None, mirrors: bool) -> Adapter:
        """A fresh adapter around the model; it is given source data only if it needs them.

        Where a mirrored image is another class, methods that mirror images are told not to.
        """
        name, preset = split_preset(self.method)
        data = source_data if self.needs_source_data else None
        options = {field.name: getattr(self.acceleration, field.name) for field in fields(self.acceleration)}
        settings = options | self._overrides(mirrors)
        return wrap(model, name, preset=preset, seed=self.seed, source_data=data, **settings)

    def _overrides(self, mirrors: bool) -> dict[str, Any]:
        flips = "flip" in (field.name for field in fields(method(split_preset(self.method)[0]).Config))
        return {"flip": False} if flips and not mirrors else {}

    def __str__(self) -> str:
        where = [] if self.scenario is None else [self.scenario.stream, f"b{self.scenario.batch_size}"]
        where += [self.scenario.reset] if self.scenario is not None and self.scenario.reset != "never" else []
        where += [str(self.acceleration)] if self.acceleration else []
        return "-".join(re.sub(r"[^\w.+]", "-", part) for part in (self.method, *where, str(self.seed)))


class Store:
    """Finished cells in a folder, one .json and one .npz each, written atomically.

    Args:
        out: The folder; made if it is not there. None keeps nothing.
        fresh: Ignore the cells that are there.
    """

    def __init__(self, out: Path | None, fresh: bool = False) -> None:
        self.out, self.fresh = out, fresh
        if out is not None:
            self.cells = files.folder(files.folder(out, "the output folder") / "cells", "the folder of cells")

    def load(self, cell: Cell, key: str) -> Results | None:
        """The results of a finished cell; of a failed one, its reason."""
        if self.out is None or self.fresh or not self._path(cell, key).exists():
            return None
        results = Results.from_json(self._path(cell, key))
        if (records := self._path(cell, key).with_suffix(".npz")).exists():  # label maps and failures have none
            results.records[str(cell)] = load_records(records)
        return results

    def save(self, cell: Cell, key: str, results: Results) -> None:
        """Keeps a finished cell; the .json comes last and says that the cell is complete."""
        if self.out is None:
            return
        if str(cell) in results.records:
            save_records(self._path(cell, key).with_suffix(".npz"), results.records[str(cell)])
        results.to_json(self._path(cell, key))

    def publish(self, results: Results) -> None:
        """Writes results.json and results.csv."""
        if self.out is not None:
            results.to_json(self.out / "results.json")
            results.to_csv(self.out / "results.csv")

    def _path(self, cell: Cell, key: str) -> Path:
        return self.cells / f"{cell}-{key[:12]}.json"


def cell_key(
    cell: Cell,
    config: tuple[Any, tuple[Any, ...]],
    protocol: dict[str, Any],
    weights: str,
    source_data: str | None,
    device: torch.device,
) -> str:
    """Hash of everything that determines the numbers of a cell."""
    code = source_hash(method(split_preset(cell.method)[0]))
    return provenance.digest(
        {
            "method": cell.method,
            "seed": cell.seed,
            "config": provenance.plain(config),
            "protocol": protocol,
            "weights": weights,
            "source_data": source_data,
            "device": device.type,
            "frost": frost_source(),
            "ink": ink_source(),
            "versions": [tta.__version__, torch.__version__, LAYOUT],
            **({"code": code} if code else {}),
            **({"acceleration": provenance.plain(cell.acceleration)} if cell.acceleration else {}),
        }
    )


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the weights: the model's own `sha256` if it tells one, else that of its state."""
    told = getattr(model, "sha256", None)
    if isinstance(told, str):
        return told
    content = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            content.update(name.encode())
            content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def device_of(model: nn.Module) -> torch.device:
    """Where the model is; the CPU if it has no tensors."""
    return next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
