"""Which images were answered wrongly, in a few bytes: so that two reports can be compared image by image."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from tta.errors import TTAError
from tta.intervals import percentiles, resampled_means
from tta.pairing import Images
from tta.reporting.grid import Grid


def pack(grid: Grid, fingerprint: str, seed: int, stored: bool) -> dict[str, Any]:
    """The answers of the source model on the whole grid, a bit each.

    Where every part has images of its own, `parts` says where these begin and end among all.

    Args:
        grid: All its parts in the order of the images.
        fingerprint: Of the clean images.
        seed: Of the corruptions.
        stored: Whether the corrupted images were read from files.
    """
    every = (grid.clean, *grid.parts)
    names = [f"{part.corruption}@{part.severity:g}" for part in every]
    labels = [part.records["label"] for part in (every if grid.natural else every[:1])]
    ends = np.cumsum([0, *(len(each) for each in labels)]).tolist()
    return {
        "fingerprint": fingerprint,
        "seed": seed,
        "stored": stored,
        "n": ends[-1],
        "labels": _text(np.concatenate(labels).astype("<i4").tobytes()),
        "wrong": {name: _bits(part.records) for name, part in zip(names, every, strict=True)},
        "parts": dict(zip(names, pairwise(ends), strict=True)) if grid.natural else {},
    }


def _bits(records: Any) -> str:
    return _text(np.packbits(records["prediction"] != records["label"]).tobytes())


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def unpack(answers: dict[str, Any], cells: list[str]) -> Images:
    """The answers of some cells as labelled images, one domain per cell; a wrong prediction is -1."""
    n, parts = answers["n"], answers["parts"]
    labels = np.frombuffer(base64.b64decode(answers["labels"]), "<i4")[:n]
    index = [np.arange(*parts.get(cell, (0, n))) for cell in cells]
    wrong = []
    for cell, here in zip(cells, index, strict=True):
        packed = np.frombuffer(base64.b64decode(answers["wrong"][cell]), np.uint8)
        wrong.append(np.unpackbits(packed, count=len(here)).astype(bool))
    every = labels[np.concatenate(index)]
    records = {
        "label": every,
        "prediction": np.where(np.concatenate(wrong), -1, every),
        "index": np.concatenate(index),
        "domain": np.repeat(np.arange(len(cells)), [len(here) for here in index]),
        "position": np.zeros(len(every), int),
    }
    return Images(tuple(cells), records)


def compare_reports(ours: dict[str, Any], theirs: dict[str, Any], resamples: int = 2000) -> dict[str, Any]:
    """Another report beside this one: clean error, mean corrupted error, and each corruption that both have.

    Args:
        ours: Content of this report.
        theirs: Content of the other; a positive difference means that it errs more often.
        resamples: Of the bootstrap.

    Returns:
        `lines`, one for "clean", "corrupted" and every corruption; paired on the same images where both reports are of
        the same images under the same corruptions, else without interval and `note` says why.

    Raises:
        TTAError: Reports that have nothing in common.
    """
    both = common_cells(ours["metric"], ours["data"]["classes"], ours["answers"]["wrong"], theirs)
    shifted = [key for key in both if not key.startswith("clean@")]
    note = _unpaired(ours["answers"], theirs["answers"])
    names = list(dict.fromkeys(key.rpartition("@")[0] for key in shifted))
    groups = {"clean": [key for key in both if key.startswith("clean@")], "corrupted": shifted}
    groups |= {name: [key for key in shifted if key.rpartition("@")[0] == name] for name in names}
    return {
        "model": theirs["model"]["name"],
        "sha256": theirs["model"]["sha256"],
        "data": theirs["data"]["name"],
        "paired": not note,
        "note": note,
        "left_out": len(ours["answers"]["wrong"]) + len(theirs["answers"]["wrong"]) - 2 * len(both),
        "lines": [_line(name, keys, ours, theirs, not note, resamples) for name, keys in groups.items()],
    }


def common_cells(metric: str, classes: int, cells: Iterable[str], theirs: dict[str, Any]) -> list[str]:
    """The cells, CORRUPTION@SEVERITY, that another report has too.

    Args:
        metric: Of this report.
        classes: How many its data have.
        cells: Of this report.
        theirs: Content of the other.

    Raises:
        TTAError: The other is on data with other classes, in another metric, or has no corruption in common.
    """
    about = theirs["data"]
    if classes != about["classes"]:
        raise TTAError(
            f"the report to compare with is on {about['name']} with {about['classes']} classes, this one has {classes};"
            " give one on the same data"
        )
    if metric != theirs["metric"]:
        raise TTAError(f"this report is in {metric}, the other in {theirs['metric']}; they cannot be compared")
    both = [key for key in cells if key in theirs["answers"]["wrong"]]
    if not any(not key.startswith("clean@") for key in both):
        raise TTAError(
            "the two reports have no corruption at the same severity in common; give both the same --domains"
        )
    return both


def _unpaired(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Why two reports cannot be paired; empty if they can."""
    told = {"fingerprint": "other images", "n": "another number of images", "seed": "another seed"}
    told |= {"stored": "stored corruptions against computed ones"}
    found = [words for key, words in told.items() if ours[key] != theirs[key]]
    return "" if not found else f"Not paired, so no intervals: {', '.join(found)}"


def _line(
    name: str, keys: list[str], ours: dict[str, Any], theirs: dict[str, Any], paired: bool, resamples: int
) -> dict[str, Any]:
    metric = ours["metric"]
    mine, its = unpack(ours["answers"], keys), unpack(theirs["answers"], keys)
    a, b = (float(one.values @ one.weights) for one in (mine.sample(metric), its.sample(metric)))
    low = high = math.nan
    if paired:
        low, high = percentiles(resampled_means(*its.sample(metric, minus=mine), resamples=resamples))
    return {"what": name, "ours": a, "theirs": b, "difference": b - a, "low": low, "high": high, "n": len(mine)}
