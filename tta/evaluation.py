"""The evaluation loop: one adapter meets one stream."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tta import provenance
from tta.adapter import Adapter
from tta.cost import PassCounter, PeakMemory, Stopwatch, quantile
from tta.errors import TTAError, unknown
from tta.label_maps import IGNORED, MAP_METRICS, MapMetric
from tta.metrics import METRICS, Metric
from tta.record_metrics import of_domains, stream_values
from tta.records import Records
from tta.results import Results, Row
from tta.streams import Batch, Data, Stream, to_unit

Reset = Literal["never", "domain", "batch"]
RESETS = ("never", "domain", "batch")


class AdapterFailed(TTAError):
    """An adapter raised, or its answers are of no use: a result of its cell, not of the run."""


class Step(NamedTuple):
    """Where an evaluation stands, after each batch.

    Attributes:
        step: Batches done.
        steps: Batches in all.
        position: Number of the visit.
        logits: The answers, (B, K) or (B, K, H, W), on the device.
        rows: The results of the visit, after its last batch; empty otherwise.
    """

    step: int
    steps: int
    position: int
    logits: Tensor
    rows: list[Row]


def evaluate(
    adapter: Adapter,
    stream: Stream,
    *,
    reset: Reset = "never",
    probe: Data | None = None,
    on_step: Callable[[Step], None] | None = None,
    method: str | None = None,
    name: str | None = None,
    seed: int | None = None,
) -> Results:
    """Runs an adapter over a stream and measures error, calibration, tails, forgetting and cost.

    The adapter is given the images of a batch and nothing else. It is not reset at the start unless the policy says so:
    what it has learned before is kept. Nothing waits for the device within a visit.

    Args:
        adapter: From `tta.wrap`; it runs where its networks are.
        stream: From `tta.make_stream`.
        reset: When to take the adapter back to the source: "never", before every "domain" (visit), or before every
            "batch" (episodic).
        probe: Clean images. Forgetting is the error on them after the stream minus before it, in points, predicted
            with `adapter.predict` in batches of the stream's size.
        on_step: Called after every batch.
        method: Name of the method in the results; the adapter's own if not given.
        name: Name of the cell, which its records are filed under; method and seed if not given.
        seed: Seed in the results; the adapter's own if not given.

    Returns:
        Results of one cell (a method and a seed), with one record per image: error, ece, nll and brier of every visit
        to a domain (`tta.metrics`), and of these visits and of the whole stream what `tta.record_metrics` tells. For
        data with label maps, pixel error and mean IoU instead (`tta.label_maps`), and no records.

    Raises:
        AdapterFailed: The adapter raised, or its logits are not finite or no (B, K) ((B, K, H, W) for label maps).
        TTAError: An unknown policy, images out of range, or labels that the model has no class for.
    """
    if reset not in RESETS:
        raise unknown("reset policy", reset, RESETS)
    method, seed = method or adapter.name, adapter.seed if seed is None else seed
    run = _Run(adapter, stream, name or f"{method}-{seed}", method, seed, reset)
    memory = PeakMemory(run.device)
    before = run.probe(probe, "before the stream")
    with run.counter, closing(run.batches()) as batches:
        for batch in batches:
            run.step(batch, on_step)
    after = run.probe(probe, "after the stream")
    run.conclude(before, after, memory.read())
    protocol = definition(stream, reset, probe)
    about = provenance.of_cell(run.cell, method, seed, adapter, protocol, run.device)
    return Results(run.rows, about, {run.cell: run.records.arrays()})


def definition(stream: Stream, reset: Reset, probe: Data | None) -> dict[str, Any]:
    """The protocol as plain values: stream, reset policy and probe."""
    clean = None if probe is None else {"data": probe.name, "fingerprint": probe.fingerprint, "n": len(probe)}
    return {"stream": stream.name, **stream.definition, "reset": reset, "probe": clean}


@dataclass
class _Run:
    """The state of one evaluation."""

    adapter: Adapter
    stream: Stream
    cell: str
    method: str
    seed: int
    reset: str
    rows: list[Row] = field(default_factory=list)
    steps: int = 0
    images: int = 0
    position: int = -1
    waited: float = 0.0

    def __post_init__(self) -> None:
        tensors = (tensor for network in self.adapter.networks() for tensor in network.state_dict().values())
        self.device = next((tensor.device for tensor in tensors), torch.device("cpu"))
        self.counter = PassCounter(self.adapter.networks())
        self.watch, self.records = Stopwatch(self.device), Records()
        self.maps = self.stream.domains[0].data.labels.ndim == 3
        self.kinds: tuple[type[Metric], ...] = MAP_METRICS if self.maps else METRICS
        self.metrics: list[Metric] = []
        self.totals: list[MapMetric] = [kind(len(self.stream.domains), self.device) for kind in MAP_METRICS]
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        # The last batch of each visit, counted from 1: known beforehand, so that a visit closes with its own batch.
        self.ends: list[int] = []
        for visit in self.stream.visits():
            size = -(-len(visit.index) // self.stream.batch_size)
            self.ends.append(size + (self.ends[-1] if self.ends else 0))

    def batches(self) -> Generator[Batch, None, None]:
        """The batches of the stream; what passes until each is there was spent waiting for images."""
        with closing(self.stream.batches(self.device)) as batches:
            asked = time.perf_counter()
            for batch in batches:
                self.waited += time.perf_counter() - asked
                yield batch
                asked = time.perf_counter()

    def step(self, batch: Batch, on_step: Callable[[Step], None] | None) -> None:
        if batch.position != self.position:
            self.position = batch.position
            self.metrics = [kind(len(self.stream.domains), self.device) for kind in self.kinds]
            if self.reset == "domain":
                self.adapter.reset()
        if self.reset == "batch":
            self.adapter.reset()
        with self.watch.step():
            logits = self._ask(self.adapter, batch.x, f"batch {self.steps + 1} of the stream")
        if self.steps == 0:
            self._check(logits, batch)
        self.steps += 1
        self.images += len(batch.y)
        self.finite &= logits.isfinite().all()
        for metric in self.metrics:
            metric.update(logits, batch.y, batch.domain)  # images that nobody is scored on have the label -1
        self.records.add(logits, batch)
        rows = self.close() if self.steps == self.ends[batch.position] else []
        if on_step is not None:
            on_step(Step(self.steps, len(self.stream), batch.position, logits, rows))

    def close(self) -> list[Row]:
        """Reads the metrics of the visit that ends: the one moment at which the host waits for the device."""
        if not self.metrics:
            return []
        if not self.finite:
            raise AdapterFailed(
                f"{self.method} returned logits that are not finite by visit {self.position + 1} of {len(self.ends)}:"
                " it has diverged; lower its learning rate, reset it more often, or leave it out"
            )
        rows = []
        for metric in self.metrics:
            values, counts = metric.compute().tolist(), metric.n.tolist()
            for domain, value, n in zip(self.stream.domains, values, counts, strict=True):
                if n and domain.scored:
                    rows.append(self._row(metric.name, value, int(n), self.position, domain.name, domain.severity))
        for number, n, found in of_domains(self.records.gather()):
            domain = self.stream.domains[number]
            rows += [
                self._row(metric, value, n, self.position, domain.name, domain.severity)
                for metric, value in found.items()
            ]
        for total, metric in zip(self.totals, self.metrics if self.maps else [], strict=False):
            total.merge(metric)
        self.rows += rows
        self.metrics = []
        return rows

    def probe(self, data: Data | None, moment: str) -> float:
        """Error on clean data in %, changing nothing; NaN without data."""
        if data is None:
            return math.nan
        error = self.kinds[0](1, self.device)
        for start in range(0, len(data), self.stream.batch_size):
            index = torch.arange(start, min(start + self.stream.batch_size, len(data)))
            x = to_unit(data.images(index), "the clean probe", self.device)
            logits = self._ask(self.adapter.predict, x, f"the clean probe {moment}")
            error.update(logits, data.labels[index].to(self.device))
        return error.compute().item()

    def conclude(self, before: float, after: float, peak: float) -> None:
        """Rows of the whole stream: what the records tell, forgetting and cost."""
        records = self.records.arrays()
        labelled = int((records["label"] >= 0).sum())
        told = stream_values(records)
        if self.maps:
            labelled, told = self.images, {total.name: total.whole() for total in self.totals}
        self.rows += [self._row(name, value, labelled) for name, value in told.items()]
        seconds = self.watch.read()
        forwards, backwards = (count / self.images for count in self.counter.passes)
        whole = {
            "clean_error_before": before,
            "clean_error_after": after,
            "forgetting": after - before,
            "seconds_p50": quantile(seconds, 0.5),
            "seconds_p95": quantile(seconds, 0.95),
            "seconds_total": sum(seconds),
            "seconds_images": self.waited,
            "peak_memory_mb": peak,
            "forwards": forwards,
            "backwards": backwards,
            "forward_equivalents": forwards + 2 * backwards,
        }
        if self.adapter.source_cost.images:  # spent when the adapter was made, not per image of the stream
            whole |= {f"source_{name}": value for name, value in self.adapter.source_cost._asdict().items()}
        self.rows += [self._row(name, value, self.images) for name, value in whole.items() if not math.isnan(value)]

    def _row(
        self, metric: str, value: float, n: int, position: int = -1, domain: str = "all", severity: float | None = None
    ) -> Row:
        order, size = self.stream.name, self.stream.batch_size
        return Row(self.method, self.seed, order, size, self.reset, position, domain, severity, n, metric, value)

    def _ask(self, ask: Callable[[Tensor], Tensor], x: Tensor, where: str) -> Tensor:
        try:
            return ask(x)
        except TTAError as error:
            raise AdapterFailed(f"{self.method}: {error}") from error
        except Exception as error:
            reason = " ".join(str(error).split()) or "no message"
            raise AdapterFailed(
                f"{self.method} raised {type(error).__name__} on {where}, images {tuple(x.shape)}: {reason}"
            ) from error

    def _check(self, logits: Tensor, batch: Batch) -> None:
        """The first answers: (B, K), or (B, K, H, W) for label maps, with a class for every label."""
        size = tuple(batch.y.shape)
        if not isinstance(logits, Tensor) or logits.ndim < 2 or (logits.shape[0], *logits.shape[2:]) != size:
            what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            wanted = ", ".join(str(side) for side in (size[0], "K", *size[1:]))
            raise AdapterFailed(f"{self.method} must return logits of shape ({wanted}) for this batch, got {what}")
        for domain in self.stream.domains:
            if domain.scored:
                check_labels(domain.data, logits.shape[1])


def check_labels(data: Data, classes: int) -> None:
    """Raises TTAError unless every label has its logit; pixels of label maps may be labelled 255, which is ignored."""
    labels = data.labels
    if labels.ndim == 3:
        labels = labels[labels != IGNORED]
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= classes:
        raise TTAError(
            f"the labels of {data.name} run from {low} to {high}, but the model has {classes} classes (0 to"
            f" {classes - 1}); give the model and the data that belong together"
        )
