"""Corruption errors relative to a baseline model: mCE of ImageNet-C, bmCE of MedMNIST-C, and their relative forms.

A mean corruption error means nothing without the model that it is relative to, so there is none without a named
baseline, and none where corruptions or severities are not those of the baseline.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple

from tta.baselines import ALEXNET_IMAGENET, ALEXNET_IMAGENET_C, ALEXNET_MEDMNIST_C
from tta.errors import TTAError, unknown
from tta.results import Results

#: Denominators below this many points are not divided by.
SMALLEST = 1.0


@dataclass(frozen=True)
class Baseline:
    """What corruption errors are relative to.

    Attributes:
        name: Of the model, and of the data set if there are several: "alexnet", "alexnet:bloodmnist".
        data: Name of the data set.
        metric: "error", or "error_balanced" where the data set asks for it.
        errors: By corruption, averaged over the severities, in %.
        clean: Error on clean images in %; NaN if unknown.
        severities: Those that the errors are averaged over.
    """

    name: str
    data: str
    metric: str
    errors: dict[str, float]
    clean: float
    severities: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)

    @classmethod
    def of_results(cls, results: Results, method: str = "source", metric: str = "error") -> Baseline:
        """One's own baseline: a method of other results, say of `Results.from_json("baseline/results.json")`.

        Args:
            results: With every corruption at the same severities.
            method: Which of its methods.
            metric: "error" or "error_balanced".
        """
        errors = _errors(results, method, metric)
        severities = {tuple(sorted(found)) for found in errors.values()}
        if len(severities) != 1:
            raise TTAError(f"the corruptions of the baseline have different severities: {sorted(severities)}")
        names = sorted(_data(results))
        return cls(
            f"{method} on {' and '.join(names)}", names[0] if len(names) == 1 else "", metric,
            {name: statistics.fmean(found.values()) for name, found in errors.items()},
            clean_error(results, method, metric), severities.pop(),
        )  # fmt: skip


#: Baselines with published numbers, by name.
BASELINES = {
    "alexnet": Baseline("alexnet", "imagenet", "error", ALEXNET_IMAGENET_C, ALEXNET_IMAGENET),
    **{
        f"alexnet:{data}": Baseline(f"alexnet:{data}", data, "error_balanced", errors, clean)
        for data, (clean, errors) in ALEXNET_MEDMNIST_C.items()
    },
}


class CorruptionErrors(NamedTuple):
    """Errors under corruptions relative to a baseline; all in %, 100 for the baseline itself.

    Attributes:
        method: Whose.
        baseline: Name of the baseline.
        metric: What is divided.
        ce: Per corruption the error over that of the baseline; NaN where that is below a point.
        mce: Their mean; NaN if one of them is.
        relative_ce: Per corruption the error beyond the clean error, over that of the baseline. Corruptions in
            `left_out` have none.
        relative_mce: Their mean; NaN without clean error, or if all are left out.
        relative_pooled: The error beyond the clean error summed over all corruptions, over that sum of the baseline:
            small denominators do no harm here, and none is left out.
        relative_as_published: The mean with every denominator that is not 0, as published code computes it. A
            denominator near 0 makes it anything; for comparison with published numbers only.
        left_out: Corruptions under which the baseline is not worse than on clean images by at least a point, so that
            nothing can be divided by the difference: its size in points.
    """

    method: str
    baseline: str
    metric: str
    ce: dict[str, float]
    mce: float
    relative_ce: dict[str, float]
    relative_mce: float
    relative_pooled: float
    relative_as_published: float
    left_out: dict[str, float]


def corruption_errors(
    results: Results, method: str, baseline: str | Baseline | None = None, *, clean: float | None = None
) -> CorruptionErrors:
    """Mean corruption error of a method, relative to a baseline.

    Errors are averaged over visits, severities and seeds. The method may adapt: what it then learns under one
    corruption helps or harms it under the next, which the baseline's errors do not know. For data sets of two classes,
    MedMNIST-C takes a threshold from validation images where this takes the more likely class.

    Args:
        results: With every corruption of the baseline at each of its severities.
        method: One of its methods.
        baseline: "alexnet" (ImageNet-C), "alexnet:bloodmnist" and so on (MedMNIST-C), or a `Baseline`.
        clean: Error of the method on clean images in %, for the relative errors. If not given, that of a domain "clean"
            in the results, else the error on the clean probe before the stream (an adapter has not adapted then).

    Raises:
        TTAError: No baseline, an unknown one, or one of other data, corruptions or severities.

    Reference:
        Hendrycks & Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
        2019, section 4.2; Di Salvo et al., "MedMNIST-C", 2024, with the class-balanced error.
    """
    baseline = _baseline(baseline)
    errors = _means(results, method, baseline)
    own = clean_error(results, method, baseline.metric) if clean is None else clean
    ce = {name: _ratio(errors[name], denominator) for name, denominator in baseline.errors.items()}
    gaps = {name: error - baseline.clean for name, error in baseline.errors.items()}
    beyond = {name: errors[name] - own for name in gaps}
    relative = {name: _ratio(beyond[name], gap) for name, gap in gaps.items() if gap >= SMALLEST}
    published = [100 * beyond[name] / gap for name, gap in gaps.items() if gap != 0]
    return CorruptionErrors(
        method, baseline.name, baseline.metric, ce, statistics.fmean(ce.values()), relative,
        statistics.fmean(relative.values()) if relative else math.nan,
        _ratio(sum(beyond.values()), sum(gaps.values())),
        statistics.fmean(published) if published else math.nan,
        {name: gap for name, gap in gaps.items() if gap < SMALLEST},
    )  # fmt: skip


def clean_error(results: Results, method: str, metric: str = "error") -> float:
    """Error of a method on clean images in %, over seeds: of a domain "clean", else of the probe; NaN without both."""
    rows = [row for row in results.rows if row.method == method]
    domain = [row.value for row in rows if row.metric == metric and row.position >= 0 and row.severity == 0]
    probe = [row.value for row in rows if row.metric == "clean_error_before" and metric == "error"]
    return statistics.fmean(domain or probe or [math.nan])


def _baseline(baseline: str | Baseline | None) -> Baseline:
    if baseline is None:
        raise TTAError(
            f"a mean corruption error is relative to a baseline: name one ({', '.join(list(BASELINES)[:2])} ...), or"
            " make one of your own results with Baseline.of_results"
        )
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            raise unknown("baseline", baseline, BASELINES)
        return BASELINES[baseline]
    return baseline


def _means(results: Results, method: str, baseline: Baseline) -> dict[str, float]:
    """Errors of a method by corruption, after checking that they are those of the baseline."""
    others = {name for name in _data(results) if _plain(name) in _known() - {_plain(baseline.data)}}
    if baseline.data and others:
        raise TTAError(
            f"the baseline {baseline.name} is of {baseline.data}, the results are of {', '.join(sorted(others))}:"
            " make a baseline for these data with Baseline.of_results"
        )
    found = _errors(results, method, baseline.metric)
    for what, names in (("lack", {*baseline.errors} - {*found}), ("also have", {*found} - {*baseline.errors})):
        if names:
            raise TTAError(
                f"the baseline {baseline.name} has {len(baseline.errors)} corruptions; the results {what}"
                f" {', '.join(sorted(names))}: run exactly those of the baseline"
            )
    for name, errors in found.items():
        if tuple(sorted(errors)) != baseline.severities:
            wanted = ", ".join(f"{one:g}" for one in baseline.severities)
            there = ", ".join(f"{one:g}" for one in sorted(errors))
            raise TTAError(
                f"the baseline {baseline.name} averages severities {wanted}; the results of {name} have {there}"
            )
    return {name: statistics.fmean(errors.values()) for name, errors in found.items()}


def _errors(results: Results, method: str, metric: str) -> dict[str, dict[float, float]]:
    """Errors of a method by corruption and severity, averaged over visits and seeds."""
    if method not in results.methods():
        raise unknown("method", method, results.methods())
    found: dict[str, dict[float, list[float]]] = {}
    for row in results.rows:
        if row.method == method and row.metric == metric and row.position >= 0 and row.severity:
            corruption = row.domain.rpartition("/")[2]
            found.setdefault(corruption, {}).setdefault(row.severity, []).append(row.value)
    if not found:
        raise TTAError(f"the results have no {metric} of {method} under corruptions")
    return {name: {s: statistics.fmean(v) for s, v in values.items()} for name, values in found.items()}


def _data(results: Results) -> set[str]:
    """Names of the data sets that the domains are made of."""
    domains: list[dict[str, Any]] = [
        domain for protocol in results.provenance.get("protocols", {}).values() for domain in protocol["domains"]
    ]
    return {domain["data"].partition("/")[0] for domain in domains if domain.get("scored", True)}


def _known() -> set[str]:
    """Data sets that are told apart by their names; that of a folder of one's own says nothing."""
    from tta.datasets import NAMES

    return {_plain(name) for name in (*NAMES, *(one.data for one in BASELINES.values()))}


def _plain(name: str) -> str:
    """A data set's name as the folder of its stored corruptions may write it: CIFAR-10-C is cifar10."""
    return name.lower().removesuffix("-c").replace("-", "").replace("_", "")


def _ratio(above: float, below: float) -> float:
    """In %; NaN where the denominator is below a point."""
    return 100 * above / below if below >= SMALLEST else math.nan
