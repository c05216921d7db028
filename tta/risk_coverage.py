"""Risk and coverage: how wrong a model is on the images that it is most confident of.

A model that may abstain answers the share `coverage` of the images, the most confident first, and `risk` is its error
on these. Images of the same confidence are answered together or not at all: no threshold can part them.
"""

from __future__ import annotations

import numpy as np


def risk_coverage_area(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the risk-coverage curve (AURC): the risk, averaged over all coverages 1/n, 2/n ... 1.

    Within a group of images of the same confidence, the curve is the mean over all orders of the group, so that the
    area does not depend on the order of the images.

    Args:
        confidence: Of every image, shape (n,); higher is surer.
        wrong: Whether the answer is wrong, shape (n,).

    Returns:
        The area in %: 0 for a model that is always right, its error for one whose confidence says nothing; NaN without
        images.

    Reference:
        Geifman, Uziel & El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019,
        section 3: AURC as the mean empirical risk over the n thresholds.

    >>> risk_coverage_area(np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, False]))  # 0 + 1/2 + 1/3 + 1/4
    27.083333333333332
    """
    if len(wrong) == 0:
        return float("nan")
    answered, errors = _thresholds(confidence, wrong)
    # between two thresholds the expected number of errors grows evenly with the images answered
    covered = np.arange(1, len(wrong) + 1)
    return float(100 * np.mean(np.interp(covered, np.r_[0, answered], np.r_[0, errors]) / covered))


def coverage_at_risk(confidence: np.ndarray, wrong: np.ndarray, risk: float = 5.0) -> float:
    """The largest share of the images that can be answered with an error of at most `risk`.

    Args:
        confidence: Of every image, shape (n,); higher is surer.
        wrong: Whether the answer is wrong, shape (n,).
        risk: In %.

    Returns:
        The coverage in %, for the best threshold on the confidence: 100 if the error itself is small enough, 0 if even
        the most confident answers are too often wrong; NaN without images. The threshold is chosen with the labels,
        so this is what an oracle could reach and no promise for other images.

    Reference:
        Geifman & El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017.

    >>> coverage_at_risk(np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, True]), risk=34)
    75.0
    """
    if len(wrong) == 0:
        return float("nan")
    answered, errors = _thresholds(confidence, wrong)
    allowed = answered[100 * errors <= risk * answered]
    return float(100 * allowed.max(initial=0) / len(wrong))


def _thresholds(confidence: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For every threshold that parts the images, from the strictest: images answered, and errors among them."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    answered = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True]) + 1
    return answered, np.cumsum(wrong[order], dtype=np.int64)[answered - 1]
