"""Measuring a report: the grid, the temperature, the shifts and the streams, each kept as it is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tta
from tta import provenance
from tta.bench import grid, run_cells
from tta.cell_job import Watch
from tta.cells import device_of, weights_hash
from tta.data.images import ImageData, Subset
from tta.errors import TTAError
from tta.files import folder, write
from tta.mce import BASELINES, corruption_errors
from tta.reporting import answers, temperature
from tta.reporting.adaptation import adaptation
from tta.reporting.advice import advise, choose
from tta.reporting.confidence import confidence, mended
from tta.reporting.examples import examples, one_of_each
from tta.reporting.grid import Grid, classes, joined, robustness, run_grid
from tta.reporting.grid import cells as rows_of
from tta.reporting.lab import GridLab, ReportLab
from tta.reporting.profiles import Profile
from tta.results import Results
from tta.scenarios import Scenario
from tta.setup import CLEAN
from tta.shift_consistency import shift_consistency

#: Version of the JSON layout.
SCHEMA = 2
#: Gives a watch for a part of the work, by its title.
Watching = Callable[[str], AbstractContextManager[Watch]]


@dataclass(frozen=True)
class Measured:
    """What a report is made of.

    Attributes:
        content: The JSON document.
        grid: Results of the source model on the grid, for other exports.
        pictures: One image under the corruptions, see `tta.reporting.examples`.
    """

    content: dict[str, Any]
    grid: Results
    pictures: dict[str, Any]


def silent(title: str) -> AbstractContextManager[Watch]:
    """No progress shown."""
    return nullcontext(Watch())


def gather(
    lab: ReportLab,
    corruptions: Sequence[str],
    profile: Profile,
    *,
    name: str = "quick",
    out: Path | None = None,
    watching: Watching = silent,
) -> Measured:
    """Measures everything that a report tells.

    Args:
        lab: Model and data; its setup names the corruptions of the streams.
        corruptions: Those of the grid; of natural domains, those beside the reference.
        profile: The extent.
        name: Of the profile.
        out: Folder for finished cells: the same call again continues where it stopped. None keeps nothing.
        watching: Shows progress.

    Raises:
        TTAError, CorruptionError: Model, data, corruptions or methods that do not fit.
    """
    data, model, seed, natural = lab.images, lab.model, profile.seeds[0], lab.setup.natural is not None
    profile = replace(profile, severities=(0.0,)) if natural else profile
    metric = metric_of(data)
    part = _parts(out)
    rows = rows_of(corruptions, profile.severities, seed)
    with watching("domains" if natural else "corruptions") as watch:
        source, results = run_grid(GridLab(model, lab.shifted), rows, metric, part("grid"), watch, natural)
    fitted_on, rest = temperature.halves(len(data))
    fitted = temperature.fit_temperature(*temperature.logits_of(model, data, fitted_on))
    held_out = GridLab(temperature.Tempered(model, fitted), _others(lab, rest))
    with watching("temperature") as watch:
        tempered, _ = run_grid(held_out, rows, metric, part("temperature"), watch, natural)
    scenarios = [Scenario.read(text, size) for text in profile.streams for size in profile.batch_sizes]
    methods = ["source", *(one for one in profile.methods if one != "source")]
    streams = grid(methods, scenarios, profile.seeds)
    with watching("streams") as watch:
        adapted = run_cells(streams, lab, refused="record", out=part("streams"), watch=watch)
    shown = (one_of_each if natural else examples)(source, lab, seed)
    fingerprint = provenance.digest([one.fingerprint for one in lab.natural.values()]) if natural else data.fingerprint
    content = {
        "schema": SCHEMA,
        "kind": "tta-report",
        "metric": metric,
        "model": {**provenance.of_model(model), "num_classes": lab.model.num_classes, "parameters": _size(model)},
        "data": _data(lab, source) | {"fingerprint": fingerprint},
        "protocol": _protocol(name, profile, lab, corruptions, scenarios, methods),
        "robustness": robustness(source),
        "mce": _mce(results, data, natural, profile.severities),
        "classes": classes(source, data.classes),
        "shift": _shift(model, data, profile.shift_images, part("shift")),
        "confidence": {
            "clean": confidence(source.clean.records),
            "shifted": confidence(joined(source.parts)),
            "temperature": mended(source, tempered, fitted_on, fitted),
        },
        "adaptation": adaptation(streams, adapted, natural),
        "examples": shown | {"cells": [{k: v for k, v in one.items() if k != "png"} for one in shown["cells"]]},
        "comparisons": [],
        "provenance": _provenance(results, adapted),
        "answers": answers.pack(source, fingerprint, seed, lab.setup.stored is not None),
    }
    return Measured(finished(content), results, shown)


def metric_of(data: ImageData) -> str:
    """The error that a report on these images tells."""
    return "error_balanced" if data.balanced else "error"


def finished(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the headline numbers and the advice, and with null for what is no number."""
    plain = strict({**content, "headline": _headline(content), "advice": advise(content)})
    assert isinstance(plain, dict)
    return plain


def _parts(out: Path | None) -> Callable[[str], Path | None]:
    """From the name of a part of the work to the folder of its cells."""

    def part(name: str) -> Path | None:
        return None if out is None else folder(folder(out, "the folder of cells") / name, "the folder of cells")

    return part


def _headline(content: dict[str, Any]) -> dict[str, float | None]:
    """The numbers that gates and tables of models use: the names of `tta.reporting.gate.NAMES`."""
    told, chosen = content["robustness"], choose(content)
    return {
        "clean_error": told["clean"]["error"],
        "mean_error": told["corrupted"]["error"],
        "mean_error_high": told["corrupted"]["high"],
        "worst_cell_error": max(cell["error"] for cell in told["grid"]),
        "worst_class_error": content["classes"][0]["error"],
        "ece_clean": content["confidence"]["clean"]["ece"],
        "ece_shifted": content["confidence"]["shifted"]["ece"],
        "flip_rate": content["shift"]["adversarial_flip_rate"],
        "mce": content["mce"]["mce"],
        "adaptation_gain": None if chosen is None else -chosen["difference"],
    }


def _others(lab: ReportLab, rest: np.ndarray) -> Callable[[str, float, int], ImageData]:
    """Gives the images that the temperature was not fitted on: half of those that were, all of other domains."""

    def shifted(name: str, severity: float, seed: int) -> ImageData:
        images = lab.shifted(name, severity, seed)
        return images if lab.setup.natural and name != CLEAN else Subset(images, torch.from_numpy(rest))

    return shifted


def _data(lab: ReportLab, source: Grid) -> dict[str, Any]:
    data, natural = lab.images, lab.setup.natural
    n = sum(len(part.records["label"]) for part in (source.clean, *source.parts)) if natural else len(data)
    return {
        "name": natural.name if natural else data.name, "n": n, "shape": list(data.shape or ()),
        "classes": len(data.classes), "balanced": data.balanced,
    }  # fmt: skip


def _protocol(
    name: str, profile: Profile, lab: ReportLab, corruptions: Sequence[str], scenarios: Sequence[Scenario],
    methods: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    return {
        "profile": name,
        "corruptions": list(corruptions),
        "severities": list(profile.severities),
        "stored": lab.setup.stored is not None,
        "reference": lab.reference,
        "stream_corruptions": list(lab.shifts if lab.reference else lab.setup.shifts()),
        "stream_severity": lab.setup.severity,
        "streams": [{"stream": one.name, "batch_size": one.batch_size} for one in scenarios],
        "methods": list(methods),
        "seeds": list(profile.seeds),
    }


def _shift(model: torch.nn.Module, data: ImageData, most: int, out: Path | None) -> dict[str, Any]:
    """One-pixel shift consistency of clean images, at most so many, evenly spread over the data; kept in a folder."""
    if len(data) > most:
        data = Subset(data, torch.from_numpy(np.linspace(0, len(data) - 1, most).round().astype(np.int64)))
    if out is None:
        return shift_consistency(model, data)._asdict()
    key = provenance.digest([weights_hash(model), data.fingerprint, device_of(model).type, tta.__version__])
    file = out / f"{key[:12]}.json"
    if not file.exists():
        write(file, json.dumps(shift_consistency(model, data)._asdict()))
    found = json.loads(file.read_text())
    assert isinstance(found, dict)
    return found


def _mce(results: Results, data: ImageData, natural: bool, severities: Sequence[float]) -> dict[str, Any]:
    """Mean corruption error where a published baseline fits; else why not."""
    if natural:
        note = "it is of corruptions, and these are natural domains"
        return {"baseline": None, "mce": None, "relative_mce": None, "note": note}
    fitting = [one.name for one in BASELINES.values() if one.data == data.name.partition("/")[0]]
    if not fitting:
        return {"baseline": None, "mce": None, "relative_mce": None, "note": f"no published baseline for {data.name}"}
    try:
        found = corruption_errors(results, "source", fitting[0])
    except TTAError as error:
        note = str(error) if len(severities) == 5 else "it takes severities 1 to 5: ask for --profile standard"
        return {"baseline": None, "mce": None, "relative_mce": None, "note": note}
    note = f"{len(data)} images; 100 is {found.baseline}"
    return {"baseline": found.baseline, "mce": found.mce, "relative_mce": found.relative_mce, "note": note}


def _size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _provenance(*parts: Results) -> dict[str, Any]:
    """Software, machine and dates; all cells are in the output folder."""
    entries = [entry for part in parts for entry in part.provenance["cells"]]
    dates = sorted(entry["date"] for entry in entries if "date" in entry)
    environments: dict[str, Any] = {}
    for part in parts:
        environments |= part.provenance["environments"]
    return {
        "cells": len(entries),
        "failed": [{"cell": entry["cell"], "reason": entry["failed"]} for entry in entries if "failed" in entry],
        "first": dates[0],
        "last": dates[-1],
        "environments": list(environments.values()),
        "configs": {entry["method"]: entry["config"] for entry in entries if "config" in entry},
    }


def strict(value: Any) -> Any:
    """With null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value
