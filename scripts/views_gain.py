"""What averaging over views is worth: the gain of ttaug and its variants over the source model under corruptions.

For each method its error, its gain in points, the share of ttaug's gain that it keeps, and the share of ttaug's views
that it computes: means over seeds of the order and of the views, +- the standard deviation of the share over seeds:
 python scripts/views_gain.py --model resnet.py:build --data DIR --seeds 0 1 2
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

import corruptions
import tta
from tta.data.kept import Kept
from tta.datasets import Corrupted
from tta.streams import Stream


@dataclass(frozen=True)
class Options:
    """What to run; the first method is what the others are compared with."""

    model: str
    dataset: str = "cifar10"
    data: Path | None = None
    methods: tuple[str, ...] = ("ttaug", "ttaug_gated", "ttaug_close")
    domains: tuple[str, ...] = corruptions.COMMON
    severity: float = 5
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    batch_size: int = 64
    threads: int = 1


def main(options: Options) -> None:
    """Evaluates the source model and the methods, and shows the table."""
    torch.set_num_threads(options.threads)
    model = tta.load_source(options.model)
    data = tta.load_data(options.dataset, options.data, limit=options.limit)
    severity, size = options.severity, options.batch_size
    domains = [tta.Domain(each, severity, Kept(Corrupted(data, each, severity, 0))) for each in options.domains]
    streams = {seed: tta.make_stream(domains, "continual", size, seed) for seed in options.seeds}
    found = {
        name: [measured(model, each, name, seed) for seed, each in streams.items()]
        for name in ("source", *options.methods)
    }
    most = statistics.fmean(forwards for _, forwards in found[options.methods[0]]) - 1
    gains = {
        name: [before - after for (before, _), (after, _) in zip(found["source"], values, strict=True)]
        for name, values in found.items()
    }
    full = gains[options.methods[0]]
    table = Table("method", "error %", "gain", "share of gain %", "+-", "views per image", "share of views %", box=None)
    for name, values in found.items():
        error, forwards = (statistics.fmean(each) for each in zip(*values, strict=True))
        gain = statistics.fmean(gains[name])
        shares = [100 * own / best if best else float("nan") for own, best in zip(gains[name], full, strict=True)]
        spread = statistics.stdev(shares) if len(shares) > 1 else float("nan")
        share = 100 * gain / statistics.fmean(full)
        row = (error, gain, share, spread, forwards - 1, 100 * (forwards - 1) / most)
        table.add_row(name, *(f"{value:.2f}" for value in row))
    console = Console(width=120)
    console.print(table)
    about = f"n = {len(data)} images x {len(options.domains)} corruptions at severity {severity:g}"
    seeds = ", ".join(map(str, options.seeds))
    console.print(f"{options.model}, {data.name}, {about}, batch size {size}, seeds {seeds}")


def measured(model: nn.Module, images: Stream, name: str, seed: int) -> tuple[float, float]:
    """Mean error in %, and forward passes per image."""
    rows = tta.evaluate(tta.wrap(model, name, seed=seed), images).rows
    errors = [row.value for row in rows if row.metric == "error" and row.position >= 0]
    (forwards,) = [row.value for row in rows if row.metric == "forwards"]
    return statistics.fmean(errors), forwards


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
