"""Bootstrap intervals of means over images.

What an interval covers: how much the mean would move if other images of the same domains had been drawn, and answered
by an adapter that is in the same state at each place of the stream. Images are resampled one by one within their
stratum (visit and domain), for that is how they were drawn. What it does not cover: the images of a stream share the
adapter's state, and other images would have taught it otherwise. How much another order or other randomness changes, no
resampling of one run can tell; the spread over seeds does. Blocks of consecutive images (of a batch's size, say) allow
for answers that fail together; they need many blocks per stratum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Resamples, and the share of them between the ends of an interval.
RESAMPLES, LEVEL = 2000, 0.95
#: As many distinct values are counted; more are drawn one by one.
FEW = 16
#: Values drawn at a time.
CHUNK = 2**22


class Interval(NamedTuple):
    """Ends of an interval."""

    low: float
    high: float


def percentiles(samples: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentile interval: the middle `level` of the resampled values."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def resampled_means(
    values: np.ndarray,
    strata: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    block: int = 1,
) -> np.ndarray:
    """Means over resampled images. For paired differences, give the differences.

    Args:
        values: Of every image in the order of the stream, shape (n,).
        strata: Number of each image's stratum, 0 and up, shape (n,): as many images of each come back as it has.
        weights: Of every stratum in the mean, shape (strata,); its share of the images if not given.
        resamples: How many means.
        seed: Of the resampling, which has its own generator.
        block: Consecutive images of a stratum that are drawn together.

    Returns:
        Means, shape (resamples,).

    Reference:
        Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.
    """
    random = np.random.default_rng(seed)
    counts = np.bincount(strata)
    share = counts / counts.sum() if weights is None else weights
    total = np.zeros(resamples)
    for number in np.flatnonzero(counts):
        total += share[number] * _means(values[strata == number].astype(float), resamples, random, block)
    return total


def bootstrap(values: np.ndarray, strata: np.ndarray, weights: np.ndarray | None = None, **options: int) -> Interval:
    """The 95 % interval of a mean over images: arguments as in `resampled_means`.

    >>> bootstrap(np.ones(50), np.zeros(50, int))
    Interval(low=1.0, high=1.0)
    """
    return percentiles(resampled_means(values, strata, weights, **options))


def _means(values: np.ndarray, resamples: int, random: np.random.Generator, block: int) -> np.ndarray:
    """Means of one stratum."""
    if block == 1:
        distinct, counts = np.unique(values, return_counts=True)
        if len(distinct) <= FEW:  # how often each value comes back is multinomial: no need to draw single images
            drawn = random.multinomial(len(values), counts / len(values), size=resamples)
            return drawn @ distinct / len(values)
    starts = np.arange(0, len(values), block)
    sums, sizes = np.add.reduceat(values, starts), np.diff(np.r_[starts, len(values)])
    means = np.empty(resamples)
    step = max(1, CHUNK // len(starts))
    for first in range(0, resamples, step):
        place = random.integers(len(starts), size=(min(step, resamples - first), len(starts)))
        means[first : first + step] = sums[place].sum(1) / sizes[place].sum(1)
    return means
