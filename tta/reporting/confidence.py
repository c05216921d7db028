"""Whether confidence can be trusted: reliability, risk and coverage, and what a temperature mends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tta.metrics import ECE
from tta.record_metrics import calibration_bins, calibration_error, mistakes, stream_values
from tta.records import Arrays
from tta.reporting.grid import Grid, Part, joined

#: Points of a risk-coverage curve, at most.
POINTS = 60


def confidence(records: Arrays) -> dict[str, Any]:
    """Calibration of some answers: ECE, NLL, Brier score, bins, risk and coverage."""
    told = stream_values(records)
    wrong = mistakes(records)
    return {
        **{name: told[name] for name in ("error", "ece", "nll", "brier", "aurc", "coverage_at_5_risk")},
        "confidence": float(100 * records["confidence"].mean(dtype=np.float64)),
        "n": len(wrong),
        "bins": bins(records["confidence"], wrong),
        "curve": curve(records["confidence"], wrong),
    }


def bins(confidence: np.ndarray, wrong: np.ndarray) -> list[dict[str, float]]:
    """Confidence and accuracy in % in each of the 15 bins that hold answers."""
    number = calibration_bins(confidence)
    found = []
    for one in np.unique(number).tolist():
        here = number == one
        found.append(
            {
                "low": 100 * one / ECE.bins, "high": 100 * (one + 1) / ECE.bins, "n": int(here.sum()),
                "confidence": float(100 * confidence[here].mean(dtype=np.float64)),
                "accuracy": float(100 * (~wrong[here]).mean()),
            }
        )  # fmt: skip
    return found


def curve(confidence: np.ndarray, wrong: np.ndarray) -> list[list[float]]:
    """Points (coverage, risk) in %: the error on the most confident answers; equal confidences stay together."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    answered = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True]) + 1
    errors = np.cumsum(wrong[order])[answered - 1]
    chosen = np.unique(np.linspace(0, len(answered) - 1, min(POINTS, len(answered))).round().astype(int))
    return [[float(100 * answered[i] / len(wrong)), float(100 * errors[i] / answered[i])] for i in chosen]


def mended(grid: Grid, tempered: Grid, fitted_on: np.ndarray, temperature: float) -> dict[str, Any]:
    """What the temperature does, measured on the images that it was not fitted on.

    Args:
        grid: Of the source model.
        tempered: Of the same model with the temperature, on the images that it was not fitted on.
        fitted_on: Positions of the images that it was fitted on.
        temperature: Itself.
    """
    sides = {"clean": ([grid.clean], [tempered.clean]), "shifted": (grid.parts, tempered.parts)}
    fitted = mistakes(grid.clean.records)[np.isin(grid.clean.records["index"], fitted_on)]
    found: dict[str, Any] = {"temperature": temperature, "fitted_on": len(fitted), "mistakes": int(fitted.sum())}
    for side, (before, after) in sides.items():
        rest, rest_after = _others(before, fitted_on), joined(after)
        found[side] = {
            "n": len(rest["label"]),
            "ece_before": calibration_error(rest["confidence"], mistakes(rest)),
            "ece_after": calibration_error(rest_after["confidence"], mistakes(rest_after)),
            "nll_before": float(rest["nll"].mean(dtype=np.float64)),
            "nll_after": float(rest_after["nll"].mean(dtype=np.float64)),
            "bins_after": bins(rest_after["confidence"], mistakes(rest_after)),
        }
    return found


def _others(parts: Sequence[Part], fitted_on: np.ndarray) -> dict[str, np.ndarray]:
    """The answers to the images that the temperature was not fitted on."""
    records = joined(parts)
    keep = ~np.isin(records["index"], fitted_on)
    return {field: array[keep] for field, array in records.items()}
