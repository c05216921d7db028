"""Bootstrap intervals of means over images.

What is resampled is the image of the data set, with all that happened to it: the same picture comes back under every
corruption, on every visit and with every seed, and a picture that is hard is hard everywhere. Drawing these answers one
by one would take them for independent and promise too much. Images are told apart by their index; where equal indices
mean different pictures, they are merely drawn together, which does no harm.

What an interval covers: how much the mean would move if the data set had held other images, answered by an adapter that
is in the same state at each place of the stream. What it does not cover: other images would also have taught the
adapter otherwise, and another order would have. No resampling of one run can tell that; the spread over seeds does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Resamples, and the share of them between the ends of an interval.
RESAMPLES, LEVEL = 2000, 0.95
#: Numbers drawn at a time; as many distinct images are counted instead of drawn.
CHUNK, FEW = 2**22, 512


class Interval(NamedTuple):
    """Ends of an interval."""

    low: float
    high: float


def resampled_means(
    values: np.ndarray,
    image: np.ndarray,
    weights: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Means over resampled images. For paired differences, give the differences.

    Args:
        values: Of every answer, shape (n,), n at least 1.
        image: Number of the image that was answered, 0 or more, shape (n,).
        weights: Of every answer in the mean, shape (n,); all the same if not given.
        strata: Number of each image's class, 0 or more, shape (n,): as many images of each come back as there are.
        resamples: How many means.
        seed: Of the resampling, which has its own generator.

    Returns:
        Means, shape (resamples,).

    Reference:
        Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979; by image: the cluster
        bootstrap, Davison & Hinkley, "Bootstrap methods and their application", 1997, section 3.8.
    """
    random = np.random.default_rng(seed)
    weights = np.ones(len(values)) if weights is None else weights
    strata = np.zeros(len(values), int) if strata is None else strata.astype(np.int64)
    units, unit = np.unique(strata * (int(image.max()) + 1) + image, return_inverse=True)
    # Per image the sum of its values and of their weights: all that a resample needs to know of it.
    sums, sizes = np.bincount(unit, weights * values), np.bincount(unit, weights)
    totals = np.zeros((2, resamples))
    for group in np.split(np.arange(len(units)), np.flatnonzero(np.diff(units // (int(image.max()) + 1))) + 1):
        totals += _totals(np.stack([sums[group], sizes[group]]), resamples, random)
    return totals[0] / totals[1]


def _totals(columns: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Sums over as many columns drawn with replacement as there are, (k, n) to (k, resamples)."""
    n = columns.shape[1]
    distinct, counts = np.unique(columns, axis=1, return_counts=True)
    if len(counts) <= FEW:  # how often each comes back is multinomial: no need to draw single ones
        return distinct @ random.multinomial(n, counts / n, size=resamples).T
    totals, step = np.empty((len(columns), resamples)), max(1, CHUNK // n)
    for first in range(0, resamples, step):
        drawn = random.integers(n, size=(min(step, resamples - first), n))
        totals[:, first : first + step] = [column[drawn].sum(1) for column in columns]
    return totals


def percentiles(samples: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentile interval: the middle `level` of the resampled values."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    values: np.ndarray, image: np.ndarray, weights: np.ndarray | None = None, strata: np.ndarray | None = None
) -> Interval:
    """The 95 % interval of a mean from 2,000 resamples: arguments as in `resampled_means`.

    Its width is 0 where all values are the same: no error among few images does not mean that there is none.

    >>> bootstrap(np.ones(50), np.arange(50))
    Interval(low=1.0, high=1.0)
    """
    return percentiles(resampled_means(values, image, weights, strata))
