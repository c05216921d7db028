"""What the guard costs and what it saves: every method, alone and deployed behind the usual guard, beside the source.

For each stream and method: error of the source model, of the method alone and of the deployment; harm, the worst of all
windows of 1,000 consecutive images after the first 256 (points above the source model); the share of the method's gain
that the deployment keeps; the guard's passes in % of those that the method alone makes, without and with the source
model's answers where it is chosen; and seconds over those of the method alone. On poisoned streams the errors are those
of the benign users; their rise against the same stream without the poison stands in the table too.

Cells are written as they are done, one JSON line each, and those that are there are not measured again: a long matrix
can be made in many calls.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from perf_guard_table import markdown
from torch import Tensor

import tta
from tta.deployment import Guard
from tta.guard.judge import Judge
from tta.registry import method, split_preset
from tta.scenarios import Scenario
from tta.setup import Setup
from tta.setup_lab import SetupLab
from tta.source_data import SourceData
from tta.stress import STREAMS
from tta.tails import WINDOW, window_means

METHODS = ("tent", "eata", "cotta", "rotta", "roid")
#: Images after which harm counts.
WARM_UP = 256
#: Source images that make a rehearsal, at least.
LEAST_HELD_OUT = 100


def clock() -> float:
    """Seconds of this thread on the CPU: what other processes do does not count; wall seconds with a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def answers(asked: list[Callable[[Tensor], Tensor]], batches: list[Any]) -> tuple[list[np.ndarray], np.ndarray]:
    """Whether each scored image is answered wrongly, by all that are asked in turns, and the seconds of each."""
    wrong: list[list[Tensor]] = [[] for _ in asked]
    seconds = np.zeros((len(asked), len(batches)))
    for number, batch in enumerate(batches):
        for which, ask in enumerate(asked):
            start = clock()
            classes = ask(batch.x).argmax(1)
            seconds[which, number] = clock() - start
            wrong[which].append((classes != batch.y)[batch.y >= 0].cpu())
    return [torch.cat(parts).numpy() for parts in wrong], seconds


def windows(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Points above the source model in every window after warm-up."""
    difference = 100.0 * ours[WARM_UP:] - 100.0 * theirs[WARM_UP:]
    return np.asarray(window_means(difference, WINDOW))


def unused(lab: SetupLab) -> tuple[Tensor, Tensor]:
    """The images of the test split that the streams do not use, and their classes."""
    data = tta.load_data(lab.setup.dataset, lab.setup.data)
    left = torch.arange(len(lab.images), len(data))
    if len(left) < LEAST_HELD_OUT:
        raise SystemExit(f"--held-out: {len(left)} of {len(data)} test images are left; take a smaller --limit")
    return data.images(left), data.labels[left]


def read(cells: Path) -> list[dict[str, Any]]:
    """The cells that are there."""
    return [json.loads(line) for line in cells.read_text().splitlines()] if cells.exists() else []


def measure(
    model: torch.nn.Module,
    data: Any,
    name: str,
    settings: dict[str, Any],
    batches: list[Any],
    source: np.ndarray,
    judges: dict[str, Judge],
) -> dict[str, Any]:
    """One method on one stream; `judges` keeps what was rehearsed, which does not depend on the stream."""
    guard = Guard.usual()
    base, preset = split_preset(name)
    needed, which = data if method(base).requires.source_data else None, name + json.dumps(settings)
    assert guard.choice is not None
    guard.choice.judge = judges.get(which)
    alone = tta.wrap(model, base, preset=preset, source_data=needed, **settings)
    deployed = tta.deploy(model, base, preset=preset, source_data=data, guard=guard, **settings)
    judges[which] = judge = guard.choice.rehearse(deployed.adapter, deployed.source)
    (unguarded, guarded), seconds = answers([alone, deployed], batches)
    taken = seconds[:, 1:].sum(1)  # the first batch warms up
    report, budget = deployed.report(), deployed.guard.budget
    errors = [100 * float(wrong.mean()) for wrong in (source, unguarded, guarded)]
    gain, harm = errors[0] - errors[1], [windows(wrong, source) for wrong in (unguarded, guarded)]
    return {
        "source": errors[0], "alone": errors[1], "guarded": errors[2],
        "harm_alone": float(harm[0].max()), "harm_guarded": float(harm[1].max()),
        "windows_harmed": 100 * float((harm[1] > 1).mean()),
        "gain_kept": 100 * (errors[0] - errors[2]) / gain if gain > 1 else math.nan,
        "cost_passes": budget.overhead, "cost_with_answers": budget.total,
        "cost_seconds": 100 * float(taken[1] / taken[0] - 1), "seconds_alone": float(taken[0] / (len(batches) - 1)),
        "by_source": 100 * report["images_by_source"] / report["images"],
        "rejected": 100 * report["rejected_images"] / report["images"], "looks": report["looks"],
        "rolled_back": report["rolled_back"], "resets": report["resets"], "n": len(source),
        "doubt": judge.doubt(len(batches[0].x), ordered=False),
        "doubt_ordered": judge.doubt(len(batches[0].x), ordered=True),
        "device": torch.cuda.get_device_name() if batches[0].x.is_cuda else "CPU",
    }  # fmt: skip


def main() -> None:
    """Measures what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="as in `tta bench`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default=None, help="as in `tta bench`")
    parser.add_argument("--name", default="digits", help="of the model, in the table")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--settings", type=json.loads, default={}, help='JSON, as {"cotta": {"views": 4}}')
    parser.add_argument("--streams", nargs="+", default=STREAMS, help="without reset policies")
    parser.add_argument("--domains", nargs="+", default=())
    parser.add_argument("--severity", type=float, default=5.0)
    parser.add_argument("--limit", type=int, help="images per domain")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--channels-last", action="store_true", help="of the adapters, alone and deployed")
    parser.add_argument("--held-out", action="store_true", help="source data: test images that the streams do not use")
    parser.add_argument("--out", type=Path, required=True, help="folder of cells.jsonl and table.md")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cells, judges = options.out / "cells.jsonl", dict[str, Judge]()
    lab = SetupLab(Setup(
        dataset=options.dataset, data=options.data, model=options.model, domains=tuple(options.domains),
        severity=options.severity, limit=options.limit, device=options.device, threads=options.threads,
    ))  # fmt: skip
    data: SourceData | None = None
    for text in options.streams:
        scenario = Scenario.read(text, options.batch)
        cell = {
            "model": options.name, "stream": text, "batch": options.batch, "severity": options.severity,
            "limit": options.limit, "seed": options.seed,
            "domains": " ".join(options.domains) or "common",
            "source_data": "held out" if options.held_out else "training",
        }  # fmt: skip
        done = read(cells)
        wanted = [cell | {"method": name, "settings": options.settings.get(name, {})} for name in options.methods]
        wanted = [one for one in wanted if not any(one.items() <= row.items() for row in done)]
        if scenario.reset != "never" or not wanted:  # a deployment is told nothing of domains
            continue
        lab.model.eval()
        data = data or SourceData.of(unused(lab) if options.held_out else lab.source_data)
        batches = list(lab.stream(scenario, options.seed).batches(lab.device))
        with torch.no_grad():
            source = answers([lab.model], batches)[0][0]
        for asked in wanted:
            settings = asked["settings"] | ({"channels_last": True} if options.channels_last else {})
            row = asked | measure(lab.model, data, asked["method"], settings, batches, source, judges)
            row = {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
            with cells.open("a") as file:
                file.write(json.dumps(row) + "\n")
    head = f"Warm-up {WARM_UP} images; torch {torch.__version__.split('+')[0]}, {options.threads} thread(s)."
    (options.out / "table.md").write_text(markdown(read(cells), head))


if __name__ == "__main__":
    main()
