"""CoTTA's error against its cost: how many views, which, for which images, and what each saving costs.

Each line is one setting on one stream, evaluated once and kept in a file of JSON lines, so that a run that was stopped
goes on: python scripts/cotta_cost.py --model resnet.py:build --dataset cifar10 --data DIR --out results.jsonl
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import corruptions
import tta
from tta.datasets import Corrupted, ImageData
from tta.methods.cotta import CoTTA
from tta.optimisers import Adam

VIEWS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Options:
    """What to run."""

    model: str
    dataset: str = "cifar10"
    data: Path | None = None
    #: The curve of error against cost, or what each saving of the two presets costs.
    what: Literal["curve", "savings"] = "curve"
    domains: tuple[str, ...] = corruptions.COMMON
    severity: float = 5
    seed: int = 0
    limit: int | None = None
    batch_size: int = 64
    threads: int = 1
    out: Path = Path("cotta_cost.jsonl")
    #: Where to draw the curve (SVG; needs matplotlib, which the extra `report` brings).
    picture: Path | None = None


def curve() -> dict[str, CoTTA.Config]:
    """Every number of views: published and mild ones, each with and without a gate."""
    published, mild = CoTTA.Config.cifar10(), CoTTA.Config.balanced()
    settings = {}
    for views in VIEWS:
        settings[f"published views {views}, gate .92"] = dataclasses.replace(published, views=views)
        settings[f"published views {views}, no gate"] = dataclasses.replace(published, views=views, gate=2.0)
    for views in VIEWS:
        settings[f"mild views {views}, half of the images"] = dataclasses.replace(mild, views=views, unsure=0.5)
        settings[f"mild views {views}, all images"] = dataclasses.replace(mild, views=views)
    return settings


def savings() -> dict[str, CoTTA.Config]:
    """From the published setting to the presets one change at a time, and the presets without one of their parts."""
    published, fast, balanced = CoTTA.Config.cifar10(), CoTTA.Config.fast(), CoTTA.Config.balanced()
    steps: dict[str, dict[str, Any]] = {
        "6 mild views instead of 32": {"kind": "mild", "views": 6, "gate": 2.0},
        "teacher's momentum .99": {"momentum": 0.99},
        "likelihood ratio": {"objective": "likelihood_ratio"},
        "learns from two thirds (balanced)": {"learn_from": 2 / 3},
        "2 views": {"views": 2},
        "learns from one third (fast)": {"learn_from": 1 / 3},
    }
    settings, config = {"published": published}, published
    for name, change in steps.items():
        config = dataclasses.replace(config, **change)
        settings[f"+ {name}"] = config
    parts: dict[str, dict[str, Any]] = {
        "mirrored views": {"flip": False},
        "restore": {"restore": 0.0},
        "learning": {"optimiser": Adam(lr=0.0)},
        "likelihood ratio (symmetric instead)": {"objective": "symmetric"},
    }
    for name, change in parts.items():
        settings[f"fast without {name}"] = dataclasses.replace(fast, per_image=False, **change)
    gated = dataclasses.replace(fast, per_image=False, unsure=0.5, learn_from=0.5)
    settings["fast, second view for half, learns from half"] = gated
    settings["balanced learning from all"] = dataclasses.replace(balanced, per_image=False, learn_from=1.0)
    return settings


def measured(model: nn.Module, data: ImageData, config: CoTTA.Config, options: Options) -> dict[str, float]:
    """Mean error over the domains in %, forward-equivalents per image."""
    severity, seed = options.severity, options.seed
    domains = [tta.Domain(each, severity, Corrupted(data, each, severity, seed)) for each in options.domains]
    stream = tta.make_stream(domains, "continual", options.batch_size, seed)
    rows = tta.evaluate(tta.wrap(model, "cotta", config, seed=seed), stream).rows
    errors = [row.value for row in rows if row.metric == "error" and row.position >= 0]
    whole = {row.metric: row.value for row in rows if row.position < 0}
    cost = whole["forward_equivalents"]
    return {"error": sum(errors) / len(errors), "forward_equivalents": cost}


def draw(lines: dict[str, dict[str, Any]], path: Path, title: str) -> None:
    """Error against forward-equivalents, one curve for each kind of views."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    kinds = {
        "published views {}, gate .92": ("published views, gate .92", "#d55e00", "o-"),
        "published views {}, no gate": ("published views, no gate", "#e69f00", "s--"),
        "mild views {}, all images": ("mild views, of all images", "#0072b2", "o-"),
        "mild views {}, half of the images": ("mild views, of the unsure half", "#56b4e9", "s--"),
    }
    for pattern, (label, colour, style) in kinds.items():
        points = [lines[pattern.format(views)] for views in VIEWS]
        cost, error = [p["forward_equivalents"] for p in points], [p["error"] for p in points]
        axes.plot(cost, error, style, color=colour, label=label, markersize=4)
        axes.annotate("1 view", (cost[0], error[0]), textcoords="offset points", xytext=(4, 4), fontsize=7)
    axes.set_xscale("log", base=2)
    axes.set_xticks([3, 4, 6, 8, 12, 16, 24, 36], [*map(str, (3, 4, 6, 8, 12, 16, 24, 36))])
    axes.minorticks_off()
    axes.set_xlabel("forward-equivalents per image")
    axes.set_ylabel("error in %")
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main(options: Options) -> None:
    """Evaluates what is not yet in the file, and shows all of it."""
    torch.set_num_threads(options.threads)
    model = tta.load_source(options.model)
    data = tta.load_data(options.dataset, options.data, limit=options.limit)
    settings = curve() if options.what == "curve" else savings()
    protocol = {"seed": options.seed, "images": len(data), "severity": options.severity, "what": options.what}
    protocol |= {"domains": len(options.domains), "batch_size": options.batch_size, "torch": torch.__version__}
    kept = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {line["setting"]: line for line in kept if protocol.items() <= line.items()}
    for name, config in track([item for item in settings.items() if item[0] not in done], "settings"):
        done[name] = {"setting": name, **measured(model, data, config, options), **protocol}
        with options.out.open("a") as file:
            file.write(json.dumps(done[name]) + "\n")
    table = Table("setting", "error %", "forward-equivalents", box=None)
    for name in settings:
        table.add_row(name, f"{done[name]['error']:.2f}", f"{done[name]['forward_equivalents']:.2f}")
    console = Console(width=120)
    console.print(table)
    stream = f"{data.name}, n = {len(data)} images x {len(options.domains)} domains, seed {options.seed}"
    console.print(stream)
    if options.picture and options.what == "curve":
        draw(done, options.picture, f"CoTTA, severity {options.severity:g}: {stream}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
