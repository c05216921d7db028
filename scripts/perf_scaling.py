"""Whether the cost of an image stays the same along a stream: time per image and resident memory after N batches.

A tiny network and tiny batches, so that what the harness keeps shows. `--workers` instead compares `tta bench` with two
workers of one thread each with one worker, on the embedded digits: it needs two idle cores.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from perf_turns import about, clock
from torch import nn

import tta
from tta.data.arrays import ArrayImages
from tta.evaluation import Step


def resident_mb() -> float:
    """Resident memory of this process; where the system does not tell it, the highest so far."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def along(name: str, batches: int, batch: int) -> list[dict[str, float]]:
    """Time per image and memory at every tenth of the way, counted from the mark before."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batches * batch, 3, 8, 8), generator=random, dtype=torch.uint8).numpy()
    data = ArrayImages("random", pixels, (torch.arange(len(pixels)) % 4).numpy())
    stream = tta.make_stream([tta.Domain("clean", 0, data)], "continual", batch, 0)
    marks = sorted({batches // 100, *(batches * tenth // 10 for tenth in range(1, 11))} - {0})
    rows: list[dict[str, float]] = []
    last = [0, clock()]

    def mark(step: Step) -> None:
        if step.step in marks:
            now = clock()
            taken = 1e6 * (now - last[1]) / ((step.step - last[0]) * batch)
            rows.append({"batches": step.step, "us_per_image": taken, "resident_mb": resident_mb()})
            last[:] = step.step, now

    tta.evaluate(tta.wrap(nn.Sequential(*layers).eval(), name), stream, on_step=mark)
    return rows


def workers(limit: int) -> dict[str, float]:
    """Wall seconds of the same twelve cells with one and with two workers, one thread each, and of next to nothing."""
    seconds = {}
    cells = (
        "--methods",
        "source",
        "bn",
        "tent",
        "eata",
        "roid",
        "cotta:fast",
        "--seeds",
        "0",
        "1",
        "--limit",
        f"{limit}",
    )
    nothing = ("--methods", "source", "--domains", "fog", "contrast", "--limit", "1", "--seeds", "0", "1")
    for what, job in (("seconds", cells), ("start", nothing)):
        for count in (1, 2):
            command = [sys.executable, "-m", "tta", "bench", *job, "--workers", str(count)]
            start = time.perf_counter()
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, capture_output=True, env=environment)
            seconds[f"{what}_{count}"] = time.perf_counter() - start
    return seconds | {"speed_up": seconds["seconds_1"] / seconds["seconds_2"], "load": os.getloadavg()[0]}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["source", "tent", "rotta"])
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--limit", type=int, default=384, help="with --workers: digits per domain")
    parser.add_argument("--out", type=Path, help="add the figures to this file, a line of JSON per method")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, object] = {"workers": workers(options.limit)} if options.workers else {}
    for name in [] if options.workers else options.methods:
        found[name] = rows = along(name, options.batches, options.batch)
        for row in rows:
            print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
    if options.workers:
        print(found["workers"])
    print(about(vars(options)))
    if options.out:
        with options.out.open("a") as file:
            file.write("".join(json.dumps({name: rows}) + "\n" for name, rows in found.items()))


if __name__ == "__main__":
    main()
