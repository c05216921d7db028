"""What the guard costs and what it saves: every method, alone and deployed behind the usual guard, beside the source.

For each stream and method: error of the source model, of the method alone and of the deployment; harm, the worst window
of 1,000 consecutive images (points above the source model, `tta.harm`), with and without the images of warm-up; the
share of the method's gain that the deployment keeps; seconds per batch over those of the method alone, of which the
source model's answers while it is chosen are a part. Poisoned streams tell what benign users lose: their error minus
that on the same stream without the poison.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tta
from tta.deployment import Guard
from tta.registry import method, split_preset
from tta.scenarios import Scenario
from tta.setup import Setup
from tta.setup_lab import SetupLab
from tta.stress import STREAMS
from tta.tails import WINDOW, window_means

METHODS = ("tent", "eata", "cotta", "rotta", "roid")
#: Images after which harm counts.
WARM_UP = 256


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


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Harm after warm-up."""
    difference = 100.0 * ours[WARM_UP:] - 100.0 * theirs[WARM_UP:]
    return float(window_means(difference, WINDOW).max())


def measure(lab: SetupLab, name: str, batches: list[Any], source_wrong: np.ndarray) -> dict[str, float]:
    """One method on one stream."""
    model, data = lab.model, lab.source_data
    base, preset = split_preset(name)
    needed = data if method(base).requires.source_data else None
    alone = tta.wrap(model, base, preset=preset, source_data=needed)
    deployed = tta.deploy(model, base, preset=preset, source_data=data, guard=Guard.usual())
    (unguarded, guarded), seconds = answers([alone, deployed], batches)
    ratio = seconds[1, 1:].sum() / seconds[0, 1:].sum()  # the first batch warms up
    report, error = deployed.report(), [100 * float(w.mean()) for w in (source_wrong, unguarded, guarded)]
    gain = error[0] - error[1]
    return {
        "source": error[0], "alone": error[1], "guarded": error[2],
        "harm_alone": worst(unguarded, source_wrong), "harm_guarded": worst(guarded, source_wrong),
        "harm_mean_guarded": float(window_means(100.0 * guarded - 100.0 * source_wrong, WINDOW).clip(min=0).mean()),
        "gain_kept": 100 * (error[0] - error[2]) / gain if gain > 1 else float("nan"),
        "overhead": 100 * (ratio - 1), "overhead_median": 100 * (np.median(seconds[1]) / np.median(seconds[0]) - 1),
        "by_source": 100 * report["images_by_source"] / report["images"],
        "rejected": 100 * report["rejected_images"] / report["images"],
        "looks": report["looks"], "rolled_back": report["rolled_back"], "resets": report["resets"],
        "n": len(source_wrong),
    }  # fmt: skip


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits", help="as in `tta bench`")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default=None, help="as in `tta bench`")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--streams", nargs="+", default=STREAMS, help="without reset policies")
    parser.add_argument("--domains", nargs="+", default=())
    parser.add_argument("--severity", type=float, default=5.0)
    parser.add_argument("--limit", type=int, help="images per domain")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, after every row")
    options = parser.parse_args()
    setup = Setup(
        dataset=options.dataset, data=options.data, model=options.model, domains=tuple(options.domains),
        severity=options.severity, limit=options.limit, device=options.device, threads=options.threads,
    )  # fmt: skip
    lab, rows = SetupLab(setup), list[dict[str, Any]]()
    lab.model.eval()
    for text in options.streams:
        scenario = Scenario.read(text, options.batch)
        if scenario.reset != "never":
            continue  # a deployment is told nothing of domains
        batches = list(lab.stream(scenario, options.seed).batches(lab.device))
        with torch.no_grad():
            source_wrong = answers([lab.model], batches)[0][0]
        for name in options.methods:
            rows.append({"stream": text, "method": name} | measure(lab, name, batches, source_wrong))
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                options.out.write_text(json.dumps({"rows": rows, "options": vars(options)}, default=str, indent=1))
    show(rows, options)


def show(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The table, and whether the bars are met."""
    columns = [name for name in rows[0] if name not in ("stream", "method")]
    table = Table("stream", "method", *columns, box=None)
    for row in rows:
        table.add_row(row["stream"], row["method"], *(f"{row[name]:.4g}" for name in columns))
    console = Console(width=None if sys.stdout.isatty() else 220)
    console.print(table)
    helped = [row["gain_kept"] for row in rows if row["gain_kept"] == row["gain_kept"]]
    by_place = {(row["stream"], row["method"]): row["guarded"] for row in rows}
    console.print(f"harm above 1 point: alone {sum(row['harm_alone'] > 1 for row in rows)}, guarded"
                  f" {sum(row['harm_guarded'] > 1 for row in rows)} of {len(rows)}")  # fmt: skip
    console.print(f"90 % of the gain kept: {sum(kept >= 90 for kept in helped)} of {len(helped)}")
    console.print(f"overhead at most 10 %: {sum(row['overhead'] <= 10 for row in rows)} of {len(rows)}")
    for (stream, name), error in by_place.items():
        if "poison" in stream and (clean := by_place.get((stream.split("+")[0], name))) is not None:
            console.print(f"{stream}, {name}: benign users {error - clean:+.1f} points")
    console.print(f"{options.model or options.dataset}, batches of {options.batch}, severity {options.severity:g},"
                  f" warm-up {WARM_UP}, torch {torch.__version__}, {options.threads} thread(s)")  # fmt: skip


if __name__ == "__main__":
    main()
