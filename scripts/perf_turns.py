"""What the measurements have in common: arms taken in turns, models, and the memory of a fresh process."""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import tta


def clock() -> float:
    """Seconds of this thread on the CPU, so that other processes do not count; wall seconds with a GPU or threads."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.thread_time() if alone else time.perf_counter()


def wall(run: Callable[[], object], device: str) -> float:
    """Seconds of one call on the wall, the work of the device included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def in_turns(arms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Least seconds of each arm, for other load can only add; one call of each warms up, then they take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(repeats + 1):
        for name, run in arms.items():
            start = clock()
            run()
            if number:
                seconds[name].append(clock() - start)
    return {name: min(taken) for name, taken in seconds.items()}


def source(name: str, device: str) -> nn.Module:
    """A model as `tta bench` takes it; "random:NAME" is a timm model with random weights."""
    if not name.startswith("random:"):
        return tta.load_source(name).to(device).eval()
    import timm

    return timm.create_model(name.partition(":")[2], pretrained=False).to(device).eval()


def batches(count: int, batch: int, size: int, device: str) -> list[Tensor]:
    """Smooth random images, shape (B, 3, H, W) each."""
    x = torch.rand((count * batch, 3, size, size), generator=torch.Generator().manual_seed(0))
    return list(torch.nn.functional.avg_pool2d(x, 5, 1, 2).to(device).split(batch))


def about(options: object) -> str:
    """Machine and versions, a line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"{device}, {torch.get_num_threads()} thread(s), torch {torch.__version__}; {options}"


def tell(figures: dict[str, float], options: argparse.Namespace, bars: dict[str, float] | None = None) -> None:
    """Prints the figures, beside their bars, and adds them to the file that `--out` names, as a line of JSON."""
    for name, value in figures.items():
        bar = (bars or {}).get(name)
        print(f"{name}: {value:.4g}" + (f" (bar {bar})" if bar else ""))
    print(about(vars(options)))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps({"model": options.model, "batch": options.batch} | figures) + "\n")
