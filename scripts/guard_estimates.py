"""How well the guard's judge tells gain from harm, on streams that nothing else is reported on.

The judge rehearses on corruptions of ImageNet-C-bar, CIFAR-10-C-bar and ours, and is then asked about streams of eight
others: by how many points does the adapter err less than the source model? The truth is known here. In points, over
windows of 256 consecutive images: bias, root mean square error and correlation; `doubt`, what the judge says that
it may expect too much; and in how much of the stream images of a class are taken to come together. The corruptions are
none of the 15 common ones.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from perf_guard import unused
from rich.console import Console
from rich.table import Table

import tta
from tta.guard.judge import Judge
from tta.guard.order import ClassOrder
from tta.guard.rehearsal import Rehearsal
from tta.guard.style import Style
from tta.registry import method, split_preset
from tta.scenarios import Scenario
from tta.setup import Setup
from tta.setup_lab import SetupLab
from tta.source_data import SourceData
from tta.tails import window_means

DOMAINS = (
    "speckle_noise", "gaussian_blur", "spatter", "saturate",
    "plasma_noise", "checkerboard_cutout", "brownish_noise", "blue_noise_sample",
)  # fmt: skip
STREAMS = ("continual", "mixed", "continual+dirichlet:0.1", "continual+sorted", "mixed+dirichlet:0.1")
WINDOW = 256


def watch(adapter: tta.Adapter, model: torch.nn.Module, judge: Judge, style: Style, batches: list[Any]) -> torch.Tensor:
    """Over every window of a stream: true gain, the judge's, its doubt, and how often ordered (in %), (4, windows)."""
    rows, order = [], ClassOrder()
    adapter.reset()
    for batch in batches:
        ours, theirs = adapter(batch.x), model(batch.x)
        won = (ours.argmax(1) == batch.y).double() - (theirs.argmax(1) == batch.y).double()
        style.take(batch.x)
        order.take(theirs.argmax(1), theirs.shape[1], style.is_another())
        style.note()
        ordered = order.ordered is not False
        expected = torch.full_like(won, judge.gain(ours, theirs, style.describe(batch.x), ordered))
        doubt = torch.full_like(won, judge.doubt(len(won), ordered))
        rows.append(torch.stack([100 * won, expected, doubt, torch.full_like(won, 100.0 * ordered)]))
    return torch.stack([torch.as_tensor(window_means(row.numpy(), WINDOW)) for row in torch.cat(rows, 1)])


@torch.no_grad()
def main() -> None:
    """Rehearses, asks, and prints how far off the answers are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--methods", nargs="+", default=("tent", "eata", "roid", "rotta", "cotta:fast"))
    parser.add_argument("--streams", nargs="+", default=STREAMS)
    parser.add_argument("--limit", type=int, default=192, help="images per domain")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=96, help="images of each shift in the rehearsal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="rehearse on test images that the streams do not use")
    options = parser.parse_args()
    lab = SetupLab(Setup(
        dataset=options.dataset, data=options.data, model=options.model, domains=DOMAINS, limit=options.limit,
        threads=1, device="cpu",
    ))  # fmt: skip
    model, data = lab.model.eval(), SourceData.of(unused(lab) if options.held_out else lab.source_data)
    assert data is not None
    style = Style(data.take(torch.arange(min(len(data), 1000)), torch.zeros(()))[0])
    rehearsal = Rehearsal(options.images, shifts=tuple(name for name in Rehearsal().shifts if name not in DOMAINS))
    streams = {
        text: list(lab.stream(Scenario.read(text, options.batch), options.seed).batches(lab.device))
        for text in options.streams
    }
    table = Table("method", "stream", "n", "gain", "expected", "rmse", "r", "doubt", "together %", box=None)
    for name in options.methods:
        base, preset = split_preset(name)
        adapter = tta.wrap(model, base, preset=preset, source_data=data if method(base).requires.source_data else None)
        judge = rehearsal.judge(adapter, model, data, style)
        for text, batches in streams.items():
            truth, expected, doubt, together = found = watch(adapter, model, judge, style, batches)
            rmse, r = (truth - expected).square().mean().sqrt(), torch.corrcoef(found[:2])[0, 1]
            values = [f"{v:+.1f}" for v in (truth.mean(), expected.mean())] + [f"{rmse:.1f}", f"{r:.2f}"]
            values += [f"{doubt.mean():.1f}", f"{together.mean():.0f}"]
            table.add_row(name, text, str(sum(len(b.y) for b in batches)), *values)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
