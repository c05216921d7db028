"""Results: one long table, and where it comes from."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tta.errors import TTAError
from tta.files import write

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: Version of the JSON layout.
SCHEMA = 1


class Row(NamedTuple):
    """One measured value.

    Attributes:
        method: Name of the method, with its preset if it has one ("cotta:imagenet").
        seed: Of the stream, its corruptions and the adapter.
        order: Order of the stream.
        batch_size: Images per batch.
        reset: Reset policy.
        position: Number of the visit within the stream, from 0; -1 for a value of the whole stream.
        domain: Name of the domain; "all" for a value of the whole stream.
        severity: Of the domain; None for the whole stream.
        n: Images the value is computed from.
        metric: Name: error, ece and aurc in %, nll in nats, forgetting and harm in points, forwards and backwards per
            image ... (`tta.metrics`, `tta.record_metrics`, `tta.harm`, `tta.cost`).
        value: The value.
    """

    method: str
    seed: int
    order: str
    batch_size: int
    reset: str
    position: int
    domain: str
    severity: float | None
    n: int
    metric: str
    value: float


class Spread(NamedTuple):
    """A value over several seeds: mean, sample standard deviation (NaN for one seed), highest, number of seeds."""

    mean: float
    std: float
    highest: float
    seeds: int


class Summary(NamedTuple):
    """One method in a few numbers.

    Attributes:
        method: Its name.
        mean: The metric, averaged over domains (each visit counts the same), over seeds.
        domains: The metric per domain, averaged over its visits and over seeds, in the order of appearance.
        whole: Values of the whole stream (forgetting, seconds_p50, forward_equivalents ...), over seeds.
        n: Images per seed.
    """

    method: str
    mean: Spread
    domains: dict[str, float]
    whole: dict[str, Spread]
    n: int


class Difference(NamedTuple):
    """A metric of two results, averaged over visits and seeds; `domain` is "mean" for the average over domains."""

    method: str
    domain: str
    metric: str
    first: float
    second: float
    difference: float


@dataclass
class Results:
    """A long table of measured values, its provenance, and the records of the single images.

    Attributes:
        rows: The table.
        provenance: `protocols` by hash, `environments` by hash, and the `cells` that refer to them.
        records: Per cell ("tent-0"), an array per field of `tta.records`, shape (images,). Not part of the JSON.
    """

    rows: list[Row] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def merge(cls, parts: Iterable[Results]) -> Results:
        """Several results as one, in the given order."""
        merged = cls(provenance={"protocols": {}, "environments": {}, "cells": []})
        for part in parts:
            merged.rows += part.rows
            merged.provenance["protocols"].update(part.provenance.get("protocols", {}))
            merged.provenance["environments"].update(part.provenance.get("environments", {}))
            merged.provenance["cells"] += part.provenance.get("cells", [])
            merged.records.update(part.records)
        return merged

    def methods(self) -> list[str]:
        """Names of the methods, in the order of appearance."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def summary(self, metric: str = "error") -> list[Summary]:
        """Each method's mean over domains, then over seeds, with the spread of the seeds.

        Args:
            metric: A metric that is measured per domain.

        Raises:
            TTAError: The results do not have the metric.
        """
        self._require(metric)
        return [self._summarise(method, metric) for method in self.methods()]

    def compare(self, other: Results, metric: str = "error") -> list[Difference]:
        """This result's values beside another's, method by method and domain by domain, where both have them.

        Averages, whatever the images were. `tta.compare.compare` pairs the images and gives intervals.

        Args:
            other: The second result; a positive difference means that its values are higher.
            metric: A metric that is measured per domain.
        """
        theirs = {summary.method: summary for summary in other.summary(metric)}
        differences = []
        for ours in self.summary(metric):
            if ours.method not in theirs:
                continue
            their = theirs[ours.method]
            pairs = [(name, a, their.domains[name]) for name, a in ours.domains.items() if name in their.domains]
            for domain, a, b in [*pairs, ("mean", ours.mean.mean, their.mean.mean)]:
                differences.append(Difference(ours.method, domain, metric, a, b, b - a))
        return differences

    def same_protocol(self, other: Results) -> bool:
        """Whether both were measured on the same streams under the same reset policy."""
        return set(self.provenance.get("protocols", {})) == set(other.provenance.get("protocols", {}))

    def to_frame(self) -> pd.DataFrame:
        """The long table as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(Row._fields))

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes table and provenance, atomically."""
        content = {"schema": SCHEMA, "provenance": self.provenance, "columns": Row._fields, "rows": self.rows}
        write(Path(path), json.dumps(_strict(content), indent=1, allow_nan=False) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Results:
        """Reads what `to_json` wrote.

        Raises:
            TTAError: The file is not such a file, or of a later version.
        """
        try:
            content = json.loads(Path(path).read_text())
            if content["schema"] != SCHEMA or tuple(content["columns"]) != Row._fields:
                raise TTAError(
                    f"{path} has layout {content['schema']}, this version reads {SCHEMA}; update tta-harness"
                )
            rows = [Row._make([*row[:-1], math.nan if row[-1] is None else row[-1]]) for row in content["rows"]]
            return cls(rows, content["provenance"])
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, TTAError):
                raise
            raise TTAError(f"{path} holds no results ({error}); give a results.json of `tta bench`") from error

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the long table with a header line, atomically."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(Row._fields)
        table.writerows(self.rows)
        write(Path(path), text.getvalue())

    def to_robustbench(self, out: str | os.PathLike[str]) -> list[Path]:
        """Writes the files that RobustBench keeps of models under corruptions: see `tta.robustbench_export`.

        Args:
            out: Folder, made if it is not there.

        Returns:
            The files: a JSON per method and one CSV.
        """
        from tta.robustbench_export import write_robustbench

        return write_robustbench(self, Path(out))

    def _require(self, metric: str) -> None:
        known = list(dict.fromkeys(row.metric for row in self.rows if row.position >= 0))
        if metric not in known and self.rows:
            raise TTAError(f"the results have no metric {metric!r} per domain; they have {', '.join(known)}")

    def _summarise(self, method: str, metric: str) -> Summary:
        rows = [row for row in self.rows if row.method == method]
        visits = [row for row in rows if row.metric == metric and row.position >= 0]
        means: dict[int, list[float]] = {}
        domains: dict[str, list[float]] = {}
        counts: dict[int, int] = {}
        severities = {(row.domain, row.severity) for row in visits}
        several = len(severities) > len({row.domain for row in visits})
        for row in visits:
            means.setdefault(row.seed, []).append(row.value)
            counts[row.seed] = counts.get(row.seed, 0) + row.n
            name = f"{row.domain}@{row.severity:g}" if several else row.domain
            domains.setdefault(name, []).append(row.value)
        whole: dict[str, list[float]] = {}
        for row in rows:
            if row.position < 0:
                whole.setdefault(row.metric, []).append(row.value)
        return Summary(
            method,
            _spread([statistics.fmean(values) for values in means.values()]),
            {name: statistics.fmean(values) for name, values in domains.items()},
            {name: _spread(values) for name, values in whole.items()},
            max(counts.values(), default=0),
        )


def _spread(values: list[float]) -> Spread:
    if not values:
        return Spread(math.nan, math.nan, math.nan, 0)
    std = statistics.stdev(values) if len(values) > 1 else math.nan
    return Spread(statistics.fmean(values), std, max(values), len(values))


def _strict(value: Any) -> Any:
    """With null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value
