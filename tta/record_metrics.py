"""Metrics that need the single images: computed from the records, when a visit and when a stream ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tta.intervals import bootstrap
from tta.metrics import ECE
from tta.records import Arrays, scored
from tta.risk_coverage import coverage_at_risk, risk_coverage_area
from tta.tails import balanced_error, worst_class, worst_window


def of_domains(records: Arrays) -> Iterator[tuple[int, int, dict[str, float]]]:
    """What is told of every domain of a visit beside the sums of `tta.metrics`.

    Args:
        records: Of the images of the visit.

    Yields:
        Number of the domain, its labelled images, and the values: error_balanced, the error averaged over the classes
        in %, and aurc, the area under the risk-coverage curve in %.
    """
    records = scored(records)
    wrong = mistakes(records)
    for number in np.unique(records["domain"]).tolist():
        here = records["domain"] == number
        balanced = balanced_error(wrong[here], records["label"][here])
        area = risk_coverage_area(records["confidence"][here], wrong[here])
        yield number, int(here.sum()), {"error_balanced": balanced, "aurc": area}


def stream_values(records: Arrays) -> dict[str, float]:
    """What is told of a whole stream, every labelled image counting the same.

    Args:
        records: Of a cell.

    Returns:
        Nothing without labelled images, else

        - error, ece, nll, brier: as in `tta.metrics`;
        - error_low, error_high: the 95 % interval of the error, see `tta.intervals` for what it covers;
        - error_balanced: error averaged over the classes, in %;
        - worst_class, worst_class_number: the highest error of a class, in %, and which class it is;
        - worst_window, worst_window_start: the highest error of 1,000 consecutive images (of the whole stream if that
          is shorter), in %, and the number of the first of them among the labelled images of the stream;
        - aurc: area under the risk-coverage curve, in %;
        - coverage_at_5_risk: share of the images that can be answered with an error of at most 5 %, in %.
    """
    records = scored(records)
    label, confidence = records["label"], records["confidence"]
    if len(label) == 0:
        return {}
    wrong = mistakes(records)
    low, high = bootstrap(100 * wrong, records["index"])
    worst, window = worst_class(wrong, label), worst_window(wrong)
    return {
        "error": float(100 * wrong.sum() / len(wrong)),
        "error_low": low,
        "error_high": high,
        "error_balanced": balanced_error(wrong, label),
        "ece": calibration_error(confidence, wrong),
        "nll": float(records["nll"].mean(dtype=np.float64)),
        "brier": float(records["brier"].mean(dtype=np.float64)),
        "worst_class": worst.error,
        "worst_class_number": worst.number,
        "worst_window": window.value,
        "worst_window_start": window.start,
        "aurc": risk_coverage_area(confidence, wrong),
        "coverage_at_5_risk": coverage_at_risk(confidence, wrong, 5.0),
    }


def mistakes(records: Arrays) -> np.ndarray:
    """Whether each answer is wrong, shape (images,)."""
    return records["prediction"] != records["label"]


def calibration_error(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """Expected calibration error with 15 bins in %, as `tta.metrics.ECE`.

    Args:
        confidence: Probability of the predicted class, shape (n,), n at least 1.
        wrong: Whether the answer is wrong, shape (n,).
    """
    gap = np.bincount(calibration_bins(confidence), weights=confidence.astype(float) - ~wrong, minlength=ECE.bins)
    return float(100 * np.abs(gap).sum() / len(wrong))


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """Number of each image's bin, as in `tta.metrics.ECE`: bin m holds the confidences in (m / 15, (m + 1) / 15]."""
    return np.clip(np.ceil(confidence * np.float32(ECE.bins)).astype(int) - 1, 0, ECE.bins - 1)
