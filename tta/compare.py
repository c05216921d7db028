"""Comparing two runs: on the same images where they have the same, and saying so where they have not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tta.errors import TTAError, unknown
from tta.intervals import RESAMPLES, percentiles, resampled_means
from tta.pairing import BY_IMAGE, Images, Sample, paired
from tta.results import Results

#: Where a cell was run: stream, batch size, reset policy.
Place = tuple[str, int, str]


class Line(NamedTuple):
    """One method of the first run beside one of the second.

    Attributes:
        first: Method of the first run; "overall" for the mean over the methods.
        second: Method of the second run.
        place: Stream, batch size and reset policy of the first run.
        a: The metric in the first run, as in its table: averaged over visits to domains, then over seeds.
        b: The metric in the second run.
        difference: b - a.
        low: Lower end of the 95 % interval of the difference; NaN where there is none.
        high: Upper end.
        n: Answers that were compared: images of all visits and seeds.
        seeds: Seeds that both have; all of both if they have none in common.
        spread: Standard deviation of the difference over the seeds; NaN for one seed or seeds not in common.
        paired: Whether both answered the same images, and the interval is that of the differences image by image.
        note: What the reader has to know.
        domains: The difference by domain.
    """

    first: str
    second: str
    place: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...]
    spread: float
    paired: bool
    note: str
    domains: dict[str, float]


def compare(
    first: Results,
    second: Results,
    metric: str = "error",
    methods: Sequence[tuple[str, str]] = (),
    *,
    resamples: int = RESAMPLES,
) -> list[Line]:
    """Compares two runs, method by method.

    Args:
        first: With records, for intervals.
        second: With records; a positive difference means that its values are higher.
        metric: One that is measured per domain. Means over images (error, error_balanced, nll, brier) have an interval.
        methods: Pairs of a method of the first and one of the second run; the methods of both if not given.
        resamples: Of the bootstrap, see `tta.intervals` for what the interval covers.

    Returns:
        A line for every pair and place, and "overall" at the end if there are several.

    Raises:
        TTAError: Nothing to compare, an unknown method or metric.
    """
    sides = _Side(first, "the first"), _Side(second, "the second")
    for side in sides:
        side.results.summary(metric)  # refuses an unknown metric
    if not methods:
        methods = [(name, name) for name in first.methods() if name in second.methods()]
    if not methods:
        raise TTAError(
            f"the runs have no method in common: {', '.join(first.methods())}, and {', '.join(second.methods())};"
            " pair them with --methods tent=cotta"
        )
    pairs = []
    for one, other in methods:
        cells, theirs = sides[0].cells(one), sides[1].cells(other)
        alone = len(cells) == len(theirs) == 1
        places = [(place, next(iter(theirs)) if alone else place) for place in cells if alone or place in theirs]
        if not places:
            raise TTAError(f"{one} and {other} were not run on streams of one name, batch size and reset policy")
        pairs += [_Pair(sides, one, other, mine, its, metric) for mine, its in places]
    lines = [pair.line(resamples) for pair in pairs]
    return [*lines, _overall(pairs, lines, metric, resamples)] if len(lines) > 1 else lines


class _Side:
    """One of the two runs."""

    def __init__(self, results: Results, name: str) -> None:
        self.results, self.name = results, name

    def cells(self, method: str) -> dict[Place, dict[int, dict[str, Any]]]:
        """The finished cells of a method, by place and seed."""
        if method not in self.results.methods():
            raise unknown(f"method in {self.name} run", method, self.results.methods())
        found: dict[Place, dict[int, dict[str, Any]]] = {}
        for entry in self.results.provenance.get("cells", []):
            if entry["method"] == method and "failed" not in entry:
                protocol = self.protocol(entry)
                place = (protocol["stream"], protocol["batch_size"], protocol["reset"])
                found.setdefault(place, {})[entry["seed"]] = entry
        return found

    def protocol(self, entry: dict[str, Any]) -> dict[str, Any]:
        return self.results.provenance["protocols"][entry["protocol"]]

    def images(self, entry: dict[str, Any]) -> Images | None:
        """The labelled images of a cell; None without records."""
        records = self.results.records.get(entry["cell"])
        return None if records is None or len(records["label"]) == 0 else Images.of(records, self.protocol(entry))

    def means(self, method: str, place: Place, seed: int, metric: str) -> dict[str, list[float]]:
        """The rows of a cell by domain."""
        found: dict[str, list[float]] = {}
        for row in self.results.rows:
            here = (row.method, row.order, row.batch_size, row.reset, row.seed, row.metric)
            if here == (method, *place, seed, metric) and row.position >= 0:
                found.setdefault(f"{row.domain}@{row.severity:g}", []).append(row.value)
        return found


class _Pair:
    """A method of the first run and one of the second, at one place."""

    def __init__(
        self, sides: tuple[_Side, _Side], first: str, second: str, mine: Place, theirs: Place, metric: str
    ) -> None:
        self.sides, self.first, self.second, self.places, self.metric = sides, first, second, (mine, theirs), metric
        self.cells = sides[0].cells(first)[mine], sides[1].cells(second)[theirs]
        common = sorted({*self.cells[0]} & {*self.cells[1]})
        self.common = bool(common)
        self.seeds = (common, common) if common else (sorted(self.cells[0]), sorted(self.cells[1]))
        self.images = tuple(
            [side.images(cells[seed]) for seed in seeds]
            for side, cells, seeds in zip(sides, self.cells, self.seeds, strict=True)
        )
        self.matched = self._matched() if common else None

    def _matched(self) -> list[tuple[Images, Images]] | None:
        """Both runs' images in the same order, by seed; None unless all are the same."""
        found = []
        for one, other in zip(*self.images, strict=True):
            other = None if one is None or other is None else paired(one, other)
            if one is None or other is None:
                return None
            found.append((one, other))
        return found

    def line(self, resamples: int) -> Line:
        """The comparison."""
        rows = [
            [side.means(method, place, seed, self.metric) for seed in seeds]
            for side, method, place, seeds in zip(
                self.sides, (self.first, self.second), self.places, self.seeds, strict=True
            )
        ]
        values = [[statistics.fmean(v for one in cell.values() for v in one) for cell in cells] for cells in rows]
        a, b = (statistics.fmean(side) for side in values)
        each = [y - x for x, y in zip(*values, strict=True)] if self.common else []
        differences = self.differences(resamples)
        low, high = (math.nan, math.nan) if differences is None else percentiles(differences)
        return Line(
            self.first, self.second, _told(self.places[0]), a, b, b - a, low, high, self._count(),
            tuple(sorted({*self.seeds[0], *self.seeds[1]})), statistics.stdev(each) if len(each) > 1 else math.nan,
            self.matched is not None, self._note(differences is not None), _by_domain(*rows),
        )  # fmt: skip

    def differences(self, resamples: int) -> np.ndarray | None:
        """Resampled differences; None where there are no records, or no values per image."""
        if self.metric not in BY_IMAGE or any(one is None for side in self.images for one in side):
            return None
        if self.matched is not None:
            return resampled_means(*self.sample(), resamples=resamples)
        sides = [Sample.joined([one.sample(self.metric) for one in side if one is not None]) for side in self.images]
        first, second = (resampled_means(*side, resamples=resamples, seed=i) for i, side in enumerate(sides))
        return second - first

    def sample(self) -> Sample:
        """Paired differences of all seeds."""
        assert self.matched is not None
        return Sample.joined([other.sample(self.metric, minus=one) for one, other in self.matched])

    def _count(self) -> int:
        counts = [sum(len(one) for one in side if one is not None) for side in self.images]
        return counts[0] if self.matched is not None else sum(counts)

    def _note(self, interval: bool) -> str:
        told = []
        if self.matched is None and all(one is not None for side in self.images for one in side):
            told.append("not on the same images: taken as two independent samples")
        if not interval and self.metric not in BY_IMAGE:
            told.append(f"{self.metric} has no value per image, so no interval")
        elif not interval:
            told.append("no records of the images, so no interval and no pairing")
        names = ("stream", "batch size", "reset")
        pairs = zip(names, *self.places, strict=True)
        told += [f"{name} {one} in A, {other} in B" for name, one, other in pairs if one != other]
        if not self.common:
            told.append("no seed in common")
        elif any(len(cells) > len(self.seeds[0]) for cells in self.cells):
            told.append("only the seeds that both have")
        return "; ".join(told)


def _overall(pairs: Sequence[_Pair], lines: Sequence[Line], metric: str, resamples: int) -> Line:
    """The mean over the lines. An image that several methods answered is resampled for all of them at once."""
    a, b = (statistics.fmean(getattr(line, side) for line in lines) for side in ("a", "b"))
    matched = all(pair.matched is not None for pair in pairs)
    low = high = math.nan
    if matched and metric in BY_IMAGE:
        low, high = percentiles(resampled_means(*Sample.joined([p.sample() for p in pairs]), resamples=resamples))
    return Line(
        "overall", "overall", "", a, b, b - a, low, high, sum(line.n for line in lines),
        tuple(sorted({seed for line in lines for seed in line.seeds})), math.nan, matched,
        "no interval for the mean over methods" if math.isnan(low) else "", {},
    )  # fmt: skip


def _by_domain(first: list[dict[str, list[float]]], second: list[dict[str, list[float]]]) -> dict[str, float]:
    """Differences of the domains that both have, averaged over visits and seeds."""
    means = []
    for cells in (first, second):
        found: dict[str, list[float]] = {}
        for cell in cells:
            for name, values in cell.items():
                found.setdefault(name, []).extend(values)
        means.append({name: statistics.fmean(values) for name, values in found.items()})
    return {name: means[1][name] - value for name, value in means[0].items() if name in means[1]}


def _told(place: Place) -> str:
    return f"{place[0]}, batches of {place[1]}, reset: {place[2]}"
