"""The grid: the source model on clean images and under every corruption at every severity, and what is read off it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tta.bench import run_cells
from tta.cell_job import Watch, failure
from tta.cells import Cell
from tta.errors import TTAError
from tta.intervals import bootstrap
from tta.pairing import Images, Sample
from tta.record_metrics import mistakes, stream_values
from tta.records import Arrays
from tta.reporting.lab import GridLab, Spot
from tta.results import Results
from tta.setup import CLEAN

#: Images at a time.
BATCH = 64
#: The family of natural domains.
NATURAL = "natural"


@dataclass(frozen=True)
class Part:
    """The answers of the source model under one corruption at one severity, in the order of the images."""

    corruption: str
    severity: float
    records: Arrays


@dataclass(frozen=True)
class Grid:
    """The answers of the source model on clean images and under corruptions.

    Attributes:
        clean: On the images as they are.
        parts: Under every corruption at every severity.
        metric: "error", or "error_balanced" where the data set asks for it.
        natural: Whether the parts are natural domains, each with images of its own.
    """

    clean: Part
    parts: tuple[Part, ...]
    metric: str
    natural: bool = False

    def sample(self, parts: Sequence[Part]) -> Sample:
        """What the mean error over parts is computed from: every part counts the same."""
        return Images(tuple(f"{p.corruption}@{p.severity:g}" for p in parts), joined(parts)).sample(self.metric)

    def error(self, parts: Sequence[Part]) -> dict[str, Any]:
        """Mean error over parts in %, its 95 % interval, and the answers it is computed from."""
        sample = self.sample(parts)
        low, high = bootstrap(*sample)
        return {"error": float(sample.values @ sample.weights), "low": low, "high": high, "n": len(sample.values)}

    def of(self, corruption: str) -> list[Part]:
        """The parts of a corruption."""
        return [part for part in self.parts if part.corruption == corruption]

    @property
    def corruptions(self) -> list[str]:
        """Names of the corruptions, in their order."""
        return list(dict.fromkeys(part.corruption for part in self.parts))


def joined(parts: Sequence[Part]) -> dict[str, np.ndarray]:
    """The records of several parts as those of one visit; the part is the domain."""
    fields = {field: np.concatenate([part.records[field] for part in parts]) for field in parts[0].records}
    numbers = [np.full(len(part.records["label"]), number) for number, part in enumerate(parts)]
    return {**fields, "domain": np.concatenate(numbers), "position": np.zeros_like(fields["position"])}


def cells(names: Sequence[str], severities: Sequence[float], seed: int) -> list[Cell]:
    """The rows of the grid: clean images, and a corruption each."""
    rows = [Spot(arrangement="stored", batch_size=BATCH)]
    rows += [
        Spot(arrangement="stored", batch_size=BATCH, corruption=name, severities=tuple(severities)) for name in names
    ]
    return [Cell("source", seed, row) for row in rows]


def run_grid(
    lab: GridLab, rows: Sequence[Cell], metric: str, out: Path | None, watch: Watch, natural: bool = False
) -> tuple[Grid, Results]:
    """Runs the rows that are not finished yet.

    Args:
        lab: Gives model and images.
        rows: What `cells` returned.
        metric: Of the grid.
        out: Folder for finished rows.
        watch: Sees the progress.
        natural: Whether every row has images of its own, so that none of them comes back.

    Raises:
        TTAError: The model fails on a row.
    """
    results = run_cells(rows, lab, out=out, watch=watch)
    reason = failure(results)
    if reason is not None:
        raise TTAError(f"the source model fails: {reason}")
    parts, before = [], 0
    for cell in rows:
        assert isinstance(cell.scenario, Spot)
        records = results.records[str(cell)]
        for number, severity in enumerate(cell.scenario.severities):
            here = records["domain"] == number
            fields = {k: array[here] for k, array in records.items()}
            if natural:
                fields["index"] = fields["index"] + before
                before += int(here.sum())
            parts.append(Part(cell.scenario.corruption, severity, fields))
    clean = next(part for part in parts if part.corruption == CLEAN)
    return Grid(clean, tuple(part for part in parts if part.corruption != CLEAN), metric, natural), results


def robustness(grid: Grid) -> dict[str, Any]:
    """Clean error, mean corrupted error, and the errors by corruption, family and cell."""
    names = grid.corruptions
    return {
        "clean": grid.error([grid.clean]),
        "corrupted": {**grid.error(grid.parts), "cells": len(grid.parts)},
        "corruptions": [
            {"corruption": name, "family": NATURAL if grid.natural else family(name), **grid.error(grid.of(name))}
            for name in names
        ],
        "families": [
            {"family": one, "corruptions": members, **grid.error([p for p in grid.parts if p.corruption in members])}
            for one, members in ({NATURAL: names} if grid.natural else _families(names)).items()
        ],
        "grid": [
            {"corruption": p.corruption, "severity": p.severity, **grid.error([p]), **_told(p)} for p in grid.parts
        ],
    }  # fmt: skip


def _told(part: Part) -> dict[str, float]:
    found = stream_values(part.records)
    return {name: found[name] for name in ("ece", "nll", "aurc")}


def family(name: str) -> str:
    """The family of a corruption; "stored" for one that is only known from files."""
    import corruptions

    return corruptions.get(name).family if name in corruptions.names() else "stored"


def _families(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(family(name), []).append(name)
    return found


def classes(grid: Grid, names: Sequence[str]) -> list[dict[str, Any]]:
    """Error of every class under the corruptions, the worst first, and what it is most often taken for.

    Args:
        grid: Of the source model.
        names: Of the classes.
    """
    records = joined(grid.parts)
    wrong, clean_wrong, label = mistakes(records), mistakes(grid.clean.records), records["label"]
    found = []
    for number in np.unique(label).tolist():
        here, clean_here = label == number, grid.clean.records["label"] == number
        images = records["index"][here]
        # a single image resampled is always the same: no interval, rather than one of no width
        low, high = bootstrap(100.0 * wrong[here], images) if images.min() < images.max() else (math.nan, math.nan)
        taken = np.bincount(records["prediction"][here & wrong]) if (here & wrong).any() else np.zeros(1, int)
        other = int(taken.argmax()) if taken.any() else None
        found.append(
            {
                "class": number, "name": _name(names, number), "error": float(100 * wrong[here].mean()),
                "low": low, "high": high, "clean_error": _share(clean_wrong[clean_here]),
                "images": int(clean_here.sum()), "n": int(here.sum()),
                "taken_for": None if other is None else _name(names, other),
                "taken_share": float(100 * taken.max() / here.sum()),
            }
        )  # fmt: skip
    return sorted(found, key=lambda one: -one["error"])


def _share(wrong: np.ndarray) -> float:
    """In %; no number where there is no image, as a natural domain may lack classes."""
    return float(100 * wrong.mean()) if len(wrong) else math.nan


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else str(number)
