"""Which estimate tells best who errs less: each beside the true difference, on streams that no result is reported on.

Every few batches both models answer 64 source images in the style of the stream, and the batch. From these answers
alone each estimate says by how many points the adapter errs more than the source model; the truth is their difference
over the visit to the domain (of a mixed stream: the 13 batches around). `canary`: errors on the styled images.
`threshold`: shares of the stream's images less certain than these errors suggest (average thresholded confidence).
`both`: their mean, which the guard's choice uses. `duel`: who is the surer where the two contradict each other. The
corruptions are none of the 15 common ones, and the thresholds of the guard were chosen on them.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tta
from tta.guard.choice import thresholded
from tta.guard.style import Style
from tta.objectives import entropy
from tta.registry import method
from tta.scenarios import Scenario
from tta.setup import Setup
from tta.setup_lab import SetupLab
from tta.source_data import SourceData

DOMAINS = (
    "speckle_noise", "gaussian_blur", "spatter", "saturate",
    "plasma_noise", "checkerboard_cutout", "brownish_noise", "blue_noise_sample",
)  # fmt: skip
ESTIMATES = ("canary", "threshold", "both", "duel")
IMAGES = 64


def estimates(canary: list[Tensor], stream: list[Tensor], labels: Tensor) -> tuple[float, ...]:
    """Points by which the adapter errs more, by each estimate; `canary` and `stream` are logits of both models."""
    wrong = [(logits.argmax(1) != labels).float() for logits in canary]
    errors = [float(each.mean()) for each in wrong]
    unsure = [
        thresholded(each, entropy(known), entropy(there))
        for each, known, there in zip(wrong, canary, stream, strict=True)
    ]
    ours, theirs = (logits.softmax(1).amax(1) for logits in stream)
    apart = stream[0].argmax(1) != stream[1].argmax(1)
    duel = 100 * float((torch.sign(theirs - ours) * apart).mean())
    first, second = 100 * (errors[0] - errors[1]), 100 * (unsure[0] - unsure[1])
    return first, second, (first + second) / 2, duel


@torch.no_grad()
def watch(lab: SetupLab, name: str, batches: list[Any], every: int, whole: bool) -> list[tuple[float, ...]]:
    """The truth and all estimates at every look along a stream."""
    model, data = lab.model, SourceData.of(lab.source_data)
    assert data is not None
    adapter = tta.wrap(model, name, source_data=data if method(name).requires.source_data else None)
    style, generator = (
        Style(data.take(torch.arange(min(len(data), 1000)), torch.zeros(()))[0]),
        torch.Generator().manual_seed(0),
    )
    looks, differences = [], []
    for number, batch in enumerate(batches):
        style.take(batch.x)
        stream = [adapter(batch.x), model(batch.x)]
        ours, theirs = (float((logits.argmax(1) != batch.y).float().mean()) for logits in stream)
        differences.append(100 * (ours - theirs))
        if number % every == every - 1 and len(batch.x) == IMAGES:
            x, labels = data.draw(IMAGES, batch.x, generator)
            assert labels is not None
            x = style.wear(x, generator)
            looks.append((number, estimates([adapter.predict(x), model(x)], stream, labels)))
    visits = [int(batch.domain[-1]) for batch in batches]
    rows = []
    for number, guessed in looks:
        near = [n for n in range(len(batches)) if (abs(n - number) < 7 if whole else visits[n] == visits[number])]
        rows.append((sum(differences[n] for n in near) / len(near), *guessed))
    return rows


def main() -> None:
    """Looks, and prints how far off the estimates are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--methods", nargs="+", default=("bn", "tent", "roid", "rotta"))
    parser.add_argument("--streams", nargs="+", default=("continual", "mixed", "continual+dirichlet:0.1"))
    parser.add_argument("--limit", type=int, default=256, help="images per domain")
    parser.add_argument("--every", type=int, default=2, help="batches from look to look")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    setup = Setup(
        dataset=options.dataset, data=options.data, model=options.model, domains=DOMAINS, limit=options.limit,
        threads=1, device="cpu",
    )  # fmt: skip
    lab = SetupLab(setup)
    lab.model.eval()
    table = Table("stream", "method", "looks", "truth", *(f"{e}: mean, rmse, r" for e in ESTIMATES), box=None)
    for text in options.streams:
        batches = list(lab.stream(Scenario.read(text, IMAGES), options.seed).batches(lab.device))
        groups = {name: watch(lab, name, batches, options.every, "mixed" in text) for name in options.methods}
        for name, rows in (groups | {"all": [row for group in groups.values() for row in group]}).items():
            truth, *guessed = torch.tensor(rows).T
            cells = []
            for each in guessed:
                rmse, r = (each - truth).square().mean().sqrt(), torch.corrcoef(torch.stack((each, truth)))[0, 1]
                cells.append(f"{each.mean():+.1f} {rmse:.1f} {r:.2f}")
            table.add_row(text, name, str(len(rows)), f"{truth.mean():+.1f}", *cells)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
