"""What averaging over views is worth: the gain of ttaug and its variants over the source model under corruptions.

For each method its error, its gain in points, the share of ttaug's gain that it keeps, and the share of ttaug's views
that it computes: python scripts/views_gain.py --model resnet.py:build --data DIR
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

import corruptions
import tta
from tta.datasets import Corrupted, ImageData


@dataclass(frozen=True)
class Options:
    """What to run; the first method is what the others are compared with."""

    model: str
    dataset: str = "cifar10"
    data: Path | None = None
    methods: tuple[str, ...] = ("ttaug", "ttaug_gated", "ttaug_close")
    domains: tuple[str, ...] = corruptions.COMMON
    severity: float = 5
    seed: int = 0
    limit: int | None = None
    batch_size: int = 64
    threads: int = 1


def main(options: Options) -> None:
    """Evaluates the source model and the methods, and shows the table."""
    torch.set_num_threads(options.threads)
    model = tta.load_source(options.model)
    data = tta.load_data(options.dataset, options.data, limit=options.limit)
    found = {name: measured(model, data, name, options) for name in ("source", *options.methods)}
    source, (full, most) = found["source"][0], found[options.methods[0]]
    table = Table("method", "error %", "gain", "share of gain %", "views per image", "share of views %", box=None)
    for name, (error, forwards) in found.items():
        gain, views = source - error, forwards - 1
        values = (error, gain, 100 * gain / (source - full), views, 100 * views / (most - 1))
        table.add_row(name, *(f"{value:.2f}" for value in values))
    console = Console(width=120)
    console.print(table)
    stream = f"n = {len(data)} images x {len(options.domains)} corruptions at severity {options.severity:g}"
    console.print(f"{options.model}, {data.name}, {stream}, batch size {options.batch_size}, seed {options.seed}")


def measured(model: nn.Module, data: ImageData, name: str, options: Options) -> tuple[float, float]:
    """Mean error in %, and forward passes per image."""
    seed, severity = options.seed, options.severity
    domains = [tta.Domain(each, severity, Corrupted(data, each, severity, seed)) for each in options.domains]
    stream = tta.make_stream(domains, "continual", options.batch_size, seed)
    rows = tta.evaluate(tta.wrap(model, name, seed=seed), stream).rows
    errors = [row.value for row in rows if row.metric == "error" and row.position >= 0]
    (forwards,) = [row.value for row in rows if row.metric == "forwards"]
    return sum(errors) / len(errors), forwards


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
