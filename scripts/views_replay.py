"""The share of ttaug's gain that ttaug_gated keeps, with the same views for both, so that only the gate differs.

The logits of every image and of its views are computed once; gate and mean are then replayed on them, for several
orders of the views: python scripts/views_replay.py --model resnet.py:build --data DIR
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from torch import Tensor

import corruptions
import tta
from tta.datasets import Corrupted
from tta.methods.ttaug_gated import GatedTTAug, rivalry
from tta.uncertainty import ComputeGate
from tta.view_kinds import views_of


@dataclass(frozen=True)
class Options:
    """What to run."""

    model: str
    dataset: str = "cifar10"
    data: Path | None = None
    domains: tuple[str, ...] = corruptions.COMMON
    severity: float = 5
    limit: int | None = None
    batch_size: int = 64
    #: Of the views and of the batches.
    orders: int = 8


@torch.inference_mode()
def main(options: Options) -> None:
    """Computes, replays and shows the mean over the orders."""
    torch.set_num_threads(1)
    model, config = tta.load_source(options.model), GatedTTAug.Config()
    data = tta.load_data(options.dataset, options.data, limit=options.limit)
    transform, kept = views_of(config.kind, config.flip), []
    for number, name in enumerate(options.domains):
        shifted, generator = Corrupted(data, name, options.severity, 0), torch.Generator().manual_seed(number)
        parts = []
        for index in torch.arange(len(data)).split(options.batch_size):
            x = shifted.images(index).float() / 255
            views = transform.apply(x, transform.draw(config.views, x, generator), generator)
            parts.append(model(torch.cat((x, views))).view(config.views + 1, len(x), -1))
        kept.append(torch.cat(parts, 1))
    found = [replay(kept, data.labels, config, options.batch_size, seed) for seed in range(options.orders)]
    shares, spent = zip(*found, strict=True)
    console = Console(width=120)
    spread = statistics.stdev(shares) if len(shares) > 1 else float("nan")
    console.print(
        f"share of gain {100 * statistics.fmean(shares):.1f} % +- {100 * spread:.1f},"
        f" share of views {100 * statistics.fmean(spent):.1f} %"
    )
    about = f"n = {len(data)} images x {len(options.domains)} corruptions at severity {options.severity:g}"
    console.print(f"{options.model}, {about}, batch size {options.batch_size}, {options.orders} orders of the views")


def replay(kept: list[Tensor], labels: Tensor, config: GatedTTAug.Config, size: int, seed: int) -> tuple[float, float]:
    """Share of the gain, and share of the views, in one order of views and batches."""
    random = torch.Generator().manual_seed(seed)
    gates = [ComputeGate((1 - share, 1.0), share, config.memory) for _, share in config.looks()]
    wrong, computed = torch.zeros(3), 0
    for logits in kept:
        own, views = logits[0], logits[1:][torch.randperm(config.views, generator=random)]
        means = own.clone()
        for batch in torch.randperm(len(labels), generator=random).split(size):
            done, alive = 0, torch.ones(len(batch), dtype=torch.bool)
            for gate, (count, _) in zip(gates, config.looks(), strict=True):
                unsure = torch.where(alive, rivalry(means[batch]), 0.0)
                alive = gate.pick(unsure) & alive
                gate.learn(unsure, alive)
                done, computed = done + count, computed + count * int(alive.sum())
                chosen = batch[alive]
                means[chosen] = (own[chosen] + views[:done, chosen].sum(0)) / (done + 1)
        answers = torch.stack([one.argmax(1) for one in (own, logits.mean(0), means)])
        wrong += (answers != labels).sum(1)
    source, full, gated = wrong.tolist()
    return (source - gated) / (source - full), computed / (len(kept) * len(labels) * config.views)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
