"""One picture under every corruption, or of every domain, with what the model said of it."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from tta.reporting.grid import Grid, Part
from tta.reporting.lab import ReportLab
from tta.setup import CLEAN
from tta.streams import to_unit

#: Pictures are made no larger than this, and all of them take no more bytes.
SIDE, BUDGET = 96, 1_300_000


def examples(grid: Grid, lab: ReportLab, seed: int) -> dict[str, Any]:
    """Pictures of one image, and the answers to them.

    The image is of middle difficulty: right when clean if there is such a one, and wrong in as many cells as the median
    of all images. So it was not picked to look bad.

    Args:
        grid: Of the source model.
        lab: Gives the images.
        seed: Of the corruptions.

    Returns:
        `index` of the image, its `label`, and `cells` with corruption, severity, prediction, confidence in %, whether
        it is right, and the `png` in base64; the highest severities first, as many as fit.
    """
    index = middle(grid)
    severities = sorted({part.severity for part in grid.parts}, reverse=True)
    parts = [grid.clean] + [part for severity in severities for part in grid.parts if part.severity == severity]
    found, spent = [], 0
    for part in parts:
        png = _png(lab, part, index, seed)
        spent += len(png)
        if spent > BUDGET:
            break
        found.append(_told(part, index, lab.images.classes) | {"png": png})
    label = int(lab.images.labels[index])
    return {"index": index, "label": _name(lab.images.classes, label), "cells": found}


def one_of_each(grid: Grid, lab: ReportLab, seed: int) -> dict[str, Any]:
    """Pictures of one image of every natural domain, and the answers to them.

    The first of each domain, of the class that most images of the reference have, among the classes that all domains
    have. So they were not picked to look bad.

    Args:
        grid: Of the source model.
        lab: Gives the images.
        seed: Not used, for the images are as they are.

    Returns:
        As `examples`; `index` is the place in the reference.
    """
    parts = (grid.clean, *grid.parts)
    labels = [part.records["label"] for part in parts]
    common = np.array(sorted(set.intersection(*(set(one.tolist()) for one in labels))) or labels[0][:1].tolist())
    label = int(common[np.argmax([(labels[0] == one).sum() for one in common])])
    found = []
    for part, own in zip(parts, labels, strict=True):
        place = int((own == label).argmax())
        if own[place] == label:
            found.append(_told(part, place, lab.images.classes) | {"png": _png(lab, part, place, seed)})
    return {
        "index": int((labels[0] == label).argmax()), "label": _name(lab.images.classes, label), "cells": found,
    }  # fmt: skip


def middle(grid: Grid) -> int:
    """Position of the image of middle difficulty."""
    wrong = np.stack([part.records["prediction"] != part.records["label"] for part in grid.parts]).sum(0)
    right = grid.clean.records["prediction"] == grid.clean.records["label"]
    distance = np.abs(wrong - np.median(wrong[right] if right.any() else wrong)) + 1e6 * (~right & right.any())
    return int(distance.argmin())


def _told(part: Part, index: int, classes: tuple[str, ...]) -> dict[str, Any]:
    records = part.records
    return {
        "corruption": part.corruption,
        "severity": part.severity,
        "prediction": _name(classes, int(records["prediction"][index])),
        "confidence": float(100 * records["confidence"][index]),
        "right": bool(records["prediction"][index] == records["label"][index]),
    }


def _png(lab: ReportLab, part: Part, index: int, seed: int) -> str:
    """The picture in base64, no larger than it has to be."""
    images = lab.images if part.corruption == CLEAN else lab.shifted(part.corruption, part.severity, seed)
    x = to_unit(images.images(torch.tensor([index])), images.name, "cpu")[0]
    array = (x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 or _grey(array) else array)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _grey(array: np.ndarray) -> bool:
    return bool((array == array[:, :, :1]).all())


def _name(classes: tuple[str, ...], number: int) -> str:
    return classes[number] if number < len(classes) else str(number)
