"""What a deployment has done, in numbers: a plain dictionary, and the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Upper ends of the latency histogram, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Counters, and what they count.
COUNTERS = {
    "batches": "Batches answered",
    "images": "Images answered",
    "images_by_source": "Images answered by the source model",
    "committed": "Updates committed",
    "rolled_back": "Updates rolled back",
    "skipped": "Batches nothing was learned from: frozen, nothing fit to teach, or dropped from the queue",
    "rejected_images": "Images that were not allowed to teach",
    "resets": "Resets of the adapter to the source",
    "alarms": "Objections of checks that have no consequence",
    "looks": "Batches that the source model was asked about as well",
    "snapshots": "Snapshots written",
    "failures": "Answers that the adapter failed to give, and snapshots that could not be written",
}


class Histogram:
    """Counts of seconds, by buckets."""

    def __init__(self, buckets: Sequence[float] = BUCKETS) -> None:
        self.buckets, self.counts, self.sum = tuple(buckets), [0] * (len(buckets) + 1), 0.0

    def add(self, seconds: float) -> None:
        """Takes a number."""
        self.counts[sum(seconds > end for end in self.buckets)] += 1
        self.sum += seconds

    def quantile(self, share: float) -> float:
        """The upper end of the bucket in which this share of the numbers ends; 0 without numbers."""
        wanted, seen = share * sum(self.counts), 0
        for end, count in zip((*self.buckets, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= wanted and seen:
                return end
        return 0.0


class Metrics:
    """Counters, gauges and latencies of a deployment."""

    def __init__(self) -> None:
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.gauges: dict[str, float] = {}
        self.latencies = {"answer": Histogram(), "update": Histogram()}

    def count(self, name: str, by: int = 1) -> None:
        """Adds to a counter."""
        self.counters[name] += by

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers; of latencies the quantiles, as ends of buckets in seconds."""
        quantiles = {
            f"{name}_seconds_p{round(100 * share)}": each.quantile(share)
            for name, each in self.latencies.items()
            for share in (0.5, 0.99)
        }
        return {**self.counters, **self.gauges, **quantiles}

    def prometheus(self) -> str:
        """The exposition format 0.0.4: names begin with `tta_`.

        >>> print(Metrics().prometheus().splitlines()[2])
        tta_batches_total 0
        """
        lines = []
        for name, what in COUNTERS.items():
            lines += [f"# HELP tta_{name}_total {what}.", f"# TYPE tta_{name}_total counter"]
            lines.append(f"tta_{name}_total {self.counters[name]}")
        for name, value in sorted(self.gauges.items()):
            lines += [f"# TYPE tta_{name} gauge", f"tta_{name} {value:.6g}"]
        for name, each in self.latencies.items():
            full, total = f"tta_{name}_seconds", 0
            lines.append(f"# TYPE {full} histogram")
            for end, count in zip((*map(str, each.buckets), "+Inf"), each.counts, strict=True):
                total += count
                lines.append(f'{full}_bucket{{le="{end}"}} {total}')
            lines += [f"{full}_sum {each.sum:.6g}", f"{full}_count {total}"]
        return "\n".join(lines) + "\n"
