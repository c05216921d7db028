"""Which images two runs have in common, so that they can be compared image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tta.errors import TTAError
from tta.record_metrics import mistakes
from tta.records import Arrays, scored

#: Metrics that are means over images.
BY_IMAGE = ("error", "error_balanced", "nll", "brier")


class Sample(NamedTuple):
    """Values of answers with their images, weights (which sum to 1) and strata: see `tta.intervals.resampled_means`."""

    values: np.ndarray
    image: np.ndarray
    weights: np.ndarray
    strata: np.ndarray

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Several as one, each counting the same: what happened to an image in all of them stays together."""
        joined = cls(*(np.concatenate(column) for column in zip(*samples, strict=True)))
        return joined._replace(weights=joined.weights / len(samples))


@dataclass(frozen=True)
class Images:
    """The labelled images of one cell, in the order of its stream.

    Attributes:
        domains: What each domain is: name, severity, data and their fingerprint.
        records: Of the images.
    """

    domains: tuple[str, ...]
    records: Arrays

    @classmethod
    def of(cls, records: Arrays, protocol: dict[str, Any]) -> Images:
        """The labelled images of a cell."""
        told = [f"{one['name']}@{one['severity']:g} {one['data']} {one['fingerprint']}" for one in protocol["domains"]]
        return cls(tuple(told), scored(records))

    def __len__(self) -> int:
        return len(self.records["label"])

    def sample(self, metric: str, minus: Images | None = None) -> Sample:
        """What the interval of a metric, or of a difference, is computed from.

        Args:
            metric: One of `BY_IMAGE`.
            minus: The same images in the same order, whose values are subtracted.
        """
        values = self._values(metric) if minus is None else self._values(metric) - minus._values(metric)
        domain = self.records["domain"].astype(np.int64)
        visits = np.unique(np.stack([self.records["position"], domain]), axis=1)[1]
        # As in the tables, every visit to a domain counts the same, and within it every image, or every class.
        weights = np.bincount(visits)[domain] / len(visits)
        if metric != "error_balanced":
            return Sample(values, self.records["index"], weights / np.bincount(domain)[domain], np.zeros_like(domain))
        label = self.records["label"].astype(np.int64)
        (place, _), number = np.unique(np.stack([domain, label]), axis=1, return_inverse=True)
        number = number.ravel()
        weights /= np.bincount(place)[domain] * np.bincount(number)[number]
        return Sample(values, self.records["index"], weights, label)

    def _values(self, metric: str) -> np.ndarray:
        if metric in ("error", "error_balanced"):
            return 100.0 * mistakes(self.records)
        return self.records[metric].astype(float)

    def taken(self, order: np.ndarray) -> Images:
        """The same images in another order."""
        return Images(self.domains, {field: array[order] for field, array in self.records.items()})


def paired(first: Images, second: Images) -> Images | None:
    """The second run's images in the order of the first; None unless both have exactly the same ones.

    Images are the same if domain (name, severity, data and their fingerprint) and index are. An image that comes
    several times is paired by its first, second ... time. Order, batch size and reset policy may differ.

    Raises:
        TTAError: The same images have other labels.
    """
    names = {name: number for number, name in enumerate(sorted({*first.domains, *second.domains}))}
    orders, keys = [], []
    for images in (first, second):
        number = np.array([names[name] for name in images.domains])[images.records["domain"]]
        order = np.lexsort((images.records["index"], number))
        orders.append(order)
        keys.append(np.stack([number, images.records["index"]])[:, order])
    if not np.array_equal(keys[0], keys[1]):
        return None
    place = np.empty_like(orders[0])
    place[orders[0]] = orders[1]
    found = second.taken(place)
    if not np.array_equal(found.records["label"], first.records["label"]):
        raise TTAError("the two runs have the same images with other labels; compare runs on the same data")
    return found
