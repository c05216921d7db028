"""What the usual guard costs a batch in time: an adapter alone and deployed, by turns, on images that it never met.

Its choice is made to hear the adapter at all times, and asks the source model as often as it does on a stream that
stays the same; nothing is rehearsed. Beside the seconds: the torch operations of a batch, most of which are a launch on
a GPU, and how often the host waits for the GPU. A small network on a GPU is bound by these.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from perf_turns import about, batches, source, wall
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tta
from tta.deployment import Guard
from tta.guard.judge import INPUTS, Judge, Kind, Regression
from tta.registry import method, split_preset

METHODS = ("tent", "eata", "cotta:fast", "roid", "rotta")
#: Batches before the clock starts; by then the adapter is heard.
WARM_UP = 8
#: Source images that the canary and the styles are of.
SOURCE_IMAGES = 256


class Content(Judge):
    """Always expects the adapter to be much better, at the cost of a real judgement."""

    def gain(self, ours: Tensor, theirs: Tensor, appearance: Tensor, ordered: bool) -> float:
        """See the class."""
        super().gain(ours, theirs, appearance, ordered)
        return 100.0

    @classmethod
    def untaught(cls) -> "Content":
        """A judge of regressions that were never fitted."""
        zeros = torch.zeros(INPUTS + 1, dtype=torch.float64)
        return cls({Kind(64, False): Regression(zeros[1:], zeros[1:] + 1, zeros)})


class Operations(TorchDispatchMode):
    """Counts the torch operations within."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Counts one."""
        self.count += 1
        return call(*args, **(kwargs or {}))


def counted(ask: Callable[[Tensor], Tensor], images: list[Tensor]) -> tuple[float, float]:
    """Operations and waits of a batch; waits are 0 where there is no GPU."""
    with Operations() as operations:
        for x in images:
            ask(x)
    waits = 0
    if images[0].is_cuda:
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for x in images:
                ask(x)
        torch.cuda.set_sync_debug_mode("default")
        waits = sum("synchronizing" in str(warning.message) for warning in caught)
    return operations.count / len(images), waits / len(images)


def measure(name: str, text: str, x: list[Tensor], options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    model, (base, preset) = source(name, options.device), split_preset(text)
    images = torch.cat(batches(1, SOURCE_IMAGES, options.size, "cpu"))
    with torch.no_grad():
        answers = [model(part.to(options.device)).argmax(1).cpu() for part in images.split(options.batch)]
    data, guard = (images, torch.cat(answers)), Guard.usual()
    assert guard.choice is not None
    guard.choice.judge = Content.untaught()
    for check in guard.checks:  # a model with random weights sets off every alarm
        check.action = "note"
    needed = data if method(base).requires.source_data else None
    arms = {
        "alone": tta.wrap(model, base, preset=preset, source_data=needed),
        "guarded": tta.deploy(model, base, preset=preset, source_data=data, guard=guard),
    }
    seconds = dict.fromkeys(arms, 0.0)
    for number, batch in enumerate(x[: WARM_UP + options.batches]):
        for arm, ask in arms.items():
            taken = wall(lambda ask=ask, batch=batch: ask(batch), options.device)  # type: ignore[misc]
            seconds[arm] += taken if number >= WARM_UP else 0.0
    row: dict[str, Any] = {"model": name, "method": text}
    for arm, ask in arms.items():
        operations, waits = counted(ask, x[-options.batches :])
        row |= {
            f"ms_{arm}": 1000 * seconds[arm] / options.batches,
            f"operations_{arm}": operations,
            f"waits_{arm}": waits,
        }
    heard = float(guard.choice.by_adapter)
    return row | {"cost_%": 100 * (seconds["guarded"] / seconds["alone"] - 1), "passes_%": guard.budget.overhead,
                  "heard": heard}  # fmt: skip


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["random:resnet50", "random:vit_base_patch16_224"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="add the rows to this file, a line of JSON each")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA device here; try --device cpu --models digits --size 32")
    rows = list[dict[str, Any]]()
    x = batches(2 * options.batches + WARM_UP, options.batch, options.size, options.device)
    for name in options.models:
        for text in options.methods:
            rows.append(measure(name, text, x, options))
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    shown = Table(*rows[0], box=None)
    for row in rows:
        shown.add_row(*(f"{value:.3g}" if isinstance(value, float) else value for value in row.values()))
    Console(width=160).print(shown)
    print(about(vars(options)))


if __name__ == "__main__":
    main()
