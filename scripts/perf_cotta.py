"""CoTTA against the sum of its passes and against a loop as it is published, taken in turns in one run.

Bare: the passes of one step (student forward and backward, anchor, and the teacher's forwards) on the networks of the
adapter itself. Published: views drawn one after another with torchvision's transforms, the list of the 32 outputs, a
gradient graph for the anchor too, deep copies, and Python loops over the parameters for average and restore; it
computes the views always, ours only where the gate is open (here it is held open).
Peak memory is that of a fresh process each.
"""

import argparse
import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from perf_turns import batches, in_turns, source, tell
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as F

import tta
from tta import norms
from tta.cost import PeakMemory

GATE = 1.0 + 1e-6  # every batch is below


def published_view(size: int) -> v2.Transform:
    """The transform of the published code, of torchvision's parts."""
    jitter = v2.ColorJitter(0.4, 0.3, 0.5, 0.06)

    def gamma(x: Tensor) -> Tensor:
        return F.adjust_gamma(x.clamp(1e-8, 1), float(torch.empty(1).uniform_(0.7, 1.3)))

    return v2.Compose([
        v2.Lambda(lambda x: x.clamp(0, 1)), jitter, v2.Lambda(gamma), v2.Pad(size // 2, padding_mode="edge"),
        v2.RandomAffine(15, (1 / 16, 1 / 16), (0.9, 1.1), interpolation=InterpolationMode.BILINEAR),
        v2.GaussianBlur(5, (0.001, 0.5)), v2.CenterCrop(size), v2.RandomHorizontalFlip(),
        v2.Lambda(lambda x: (x + 0.005 * torch.randn_like(x)).clamp(0, 1)),
    ])  # fmt: skip


class PublishedLoop:
    """One step as the published code does it."""

    def __init__(self, model: nn.Module, size: int) -> None:
        self.model = copy.deepcopy(model)
        norms.use_batch_statistics(self.model)
        self.model.requires_grad_(True)
        self.state = copy.deepcopy(self.model.state_dict())
        self.anchor, self.teacher = copy.deepcopy(self.model), copy.deepcopy(self.model)
        for p in self.teacher.parameters():
            p.detach_()
        self.transform = published_view(size)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def __call__(self, x: Tensor) -> Tensor:
        """Answers a batch and learns from it."""
        logits = self.model(x)
        sure = self.anchor(x).softmax(1).max(1)[0]
        plain = self.teacher(x)
        outputs = [self.teacher(self.transform(x)).detach() for _ in range(32)]
        target = torch.stack(outputs).mean(0) if sure.mean(0) < GATE else plain
        loss = -(target.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        for slow, fast in zip(self.teacher.parameters(), self.model.parameters(), strict=True):
            slow.data[:] = 0.999 * slow[:].data[:] + 0.001 * fast[:].data[:]
        for name, p in self.model.named_parameters():
            mask = (torch.rand(p.shape) < 0.01).float().to(p.device)
            with torch.no_grad():
                p.data = self.state[name] * mask + p * (1.0 - mask)
        return target


def ours(model: nn.Module, per_image: bool) -> Any:
    """Our CoTTA with the gate held open."""
    return tta.wrap(model, "cotta", per_image=per_image, gate=GATE)


def peak(arm: str, options: argparse.Namespace) -> float:
    """MB of two steps above what was there before, in a process of its own."""
    command = [sys.executable, __file__, "--arm", arm, "--model", options.model, "--batch", str(options.batch)]
    command += ["--size", str(options.size), "--device", options.device]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def in_this_process(options: argparse.Namespace) -> None:
    """Prints the peak of one arm; what the networks themselves take counts."""
    model, x = source(options.model, options.device), batches(1, options.batch, options.size, options.device)[0]
    memory = PeakMemory(options.device)
    run = ours(model, False) if options.arm == "ours" else PublishedLoop(model, options.size)
    for _ in range(2):
        run(x)
    sys.stdout.write(f"{memory.read()}\n")


def measure(options: argparse.Namespace) -> dict[str, float]:
    """All figures of one model."""
    model, x = source(options.model, options.device), batches(1, options.batch, options.size, options.device)[0]
    adapter, default = ours(model, False), ours(model, True)
    published = PublishedLoop(model, options.size)

    def views(of: Any) -> None:
        with torch.no_grad():
            of.transform.apply(x, of.transform.draw(1, x, of.host_generator), of.generator)

    def student() -> None:
        adapter.model(x).logsumexp(1).mean().backward()
        adapter.model.zero_grad(set_to_none=True)

    short = {
        "anchor": torch.no_grad()(lambda: adapter.anchor(x)), "teacher": torch.no_grad()(lambda: adapter.teacher(x)),
        "student": student, "view_published_draw": lambda: views(adapter), "view_default_draw": lambda: views(default),
    }  # fmt: skip
    found: dict[str, list[float]] = {}
    for _ in range(options.repeats):  # steps and passes next to each other, for clocks drift
        seconds = in_turns(short, 6) | in_turns({"ours": lambda: adapter(x), "published": lambda: published(x)}, 1)
        bare = seconds["student"] + 32 * seconds["teacher"]  # a gate held open asks no anchor
        seconds["ours_over_bare"] = seconds["ours"] / bare
        seconds["ours_without_views_over_bare"] = (seconds["ours"] - 32 * seconds["view_published_draw"]) / bare
        seconds["published_over_ours"] = seconds["published"] / seconds["ours"]
        seconds["view_share"] = seconds["view_published_draw"] / seconds["teacher"]
        seconds["view_share_default"] = seconds["view_default_draw"] / seconds["teacher"]
        for name, value in seconds.items():
            found.setdefault(name, []).append(value)
    median = {name: sorted(values)[len(values) // 2] for name, values in found.items()}
    memory = {f"peak_mb_{arm}": peak(arm, options) for arm in ("ours", "published")}
    return median | memory | {"memory_share": memory["peak_mb_ours"] / memory["peak_mb_published"]}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="digits", help="as in `tta bench`, or random:NAME for a timm model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="add the figures to this file, a line of JSON")
    parser.add_argument("--arm", choices=["ours", "published"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.arm:
        return in_this_process(options)
    tell(measure(options), options)


if __name__ == "__main__":
    main()
