"""Whether test-time adaptation would help: methods x streams, over time, and against their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tta.cells import Cell
from tta.harm import against_source
from tta.intervals import bootstrap
from tta.record_metrics import mistakes
from tta.records import scored
from tta.results import Results
from tta.stress import Entry, harm_rate, matrix
from tta.tails import window_means

#: Points of a line over time, at most, and the share of the stream that a window is.
POINTS, SHARE = 160, 20


def adaptation(cells: Sequence[Cell], results: Results, natural: bool = False) -> dict[str, Any]:
    """All that is told of the methods.

    Args:
        cells: With scenarios, those of the method "source" among them.
        results: Of these cells, with records.
        natural: Whether every domain has images of its own; otherwise the same image comes back in all of them.
    """
    entries = matrix(cells, results)
    names = list(dict.fromkeys(cell.method for cell in cells))
    return {
        "entries": [_entry(entry, cells, results, natural) for entry in entries],
        "methods": [_method(name, [entry for entry in entries if entry.method == name]) for name in names],
        "over_time": over_time(cells, results),
    }


def _entry(entry: Entry, cells: Sequence[Cell], results: Results, natural: bool) -> dict[str, Any]:
    """An entry of the matrix with the paired interval of its difference and the flips against the source model."""
    low = high = negative = positive = math.nan
    if not entry.failed:
        pairs = [
            (scored(results.records[str(cell)]), scored(results.records[str(source)]))
            for cell in cells
            if _is(cell, entry) and (source := Cell("source", cell.seed, cell.scenario)) in cells
        ]
        differences = [100.0 * mistakes(ours) - 100.0 * mistakes(theirs) for ours, theirs in pairs]
        images = [ours["index"] + (ours["domain"].astype(np.int64) << 40 if natural else 0) for ours, _ in pairs]
        low, high = bootstrap(np.concatenate(differences), np.concatenate(images))
        flips = [against_source(ours, theirs) for ours, theirs in pairs]
        negative = float(np.mean([one.negative_flips for one in flips]))
        positive = float(np.mean([one.positive_flips for one in flips]))
    found = asdict(entry) | {"low": low, "high": high, "negative_flips": negative, "positive_flips": positive}
    return found


def _is(cell: Cell, entry: Entry) -> bool:
    assert cell.scenario is not None
    place = (cell.method, cell.scenario.name, cell.scenario.batch_size)
    return place == (entry.method, entry.stream, entry.batch_size)


def _method(name: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """A method over all streams: mean error and cost, where it harms most, and how often."""
    known = [entry for entry in entries if not entry.failed]
    worst = max(known, key=lambda entry: entry.difference, default=None)
    return {
        "method": name,
        "error": _mean([entry.error for entry in known]),
        "difference": _mean([entry.difference for entry in known]),
        "worst": math.nan if worst is None else worst.difference,
        "worst_stream": "" if worst is None else worst.stream,
        "worst_batch_size": 0 if worst is None else worst.batch_size,
        "harm_rate": harm_rate(entries),
        "forward_equivalents": _mean([entry.forward_equivalents for entry in known]),
        "milliseconds_per_image": _mean([1000 * entry.seconds / entry.batch_size for entry in known]),
        "scenarios": len(entries),
        "ran": len(known),
        "reason": next((entry.failed for entry in entries if entry.failed), ""),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def over_time(cells: Sequence[Cell], results: Results) -> dict[str, Any]:
    """The error in a sliding window along the first stream with the first seed, for every method that ran on it."""
    first = cells[0]
    assert first.scenario is not None
    lines = []
    records: dict[str, np.ndarray] = {}
    size = 1
    for cell in cells:
        if (cell.scenario, cell.seed) != (first.scenario, first.seed) or str(cell) not in results.records:
            continue
        records = scored(results.records[str(cell)])
        size = max(10, len(records["label"]) // SHARE)
        errors = window_means(100.0 * mistakes(records), size)
        chosen = np.unique(np.linspace(0, len(errors) - 1, min(POINTS, len(errors))).round().astype(int))
        places = [[int(i) + min(size, len(records["label"])), float(errors[i])] for i in chosen]
        lines.append({"method": cell.method, "points": places})
    return {
        "stream": first.scenario.name,
        "batch_size": first.scenario.batch_size,
        "seed": first.seed,
        "window": size,
        "n": len(records.get("label", ())),
        "boundaries": _boundaries(records, _domains(first, results)) if lines else [],
        "lines": lines,
    }


def _domains(cell: Cell, results: Results) -> list[str]:
    """Names of the domains of a cell's stream."""
    entry = next(one for one in results.provenance["cells"] if one["cell"] == str(cell))
    return [domain["name"] for domain in results.provenance["protocols"][entry["protocol"]]["domains"]]


def _boundaries(records: dict[str, np.ndarray], names: Sequence[str]) -> list[dict[str, Any]]:
    """Where a visit begins, and to which domain; "" where one visit mixes several."""
    position = records["position"]
    starts = np.flatnonzero(np.r_[True, position[1:] != position[:-1]])
    found = []
    for start, end in zip(starts, [*starts[1:], len(position)], strict=True):
        here = np.unique(records["domain"][start:end])
        found.append({"start": int(start), "domain": names[here[0]] if len(here) == 1 else ""})
    return found
