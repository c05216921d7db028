"""What filtered images cost: the time of ETA, SAR and DeYO by the share of images that they learn from, in one run.

The margin of the entropy is set so that the given share of random images is below it. With layer or group norm, images
that are filtered out are not in the backward pass, so time falls with the share; with batch norm all of them are.
"""

import argparse
import math

import torch
from perf_methods import seconds
from rich.console import Console
from rich.table import Table

import tta
from tta.contract import NETS
from tta.cost import PassCounter
from tta.objectives import entropy

#: Settings under which the entropy alone decides.
METHODS = {"eta": {"similarity_margin": 2.0}, "sar": {"recover": 0.0}, "deyo": {"plpd": -1.0}}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="group_norm", help="as in `tta bench`, or batch_norm, group_norm, layer_norm"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.4, 0.2, 0.1])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = NETS[options.model]() if options.model in NETS else tta.load_source(options.model)
    model = model.to(options.device).eval()
    shape = (options.batches, options.batch, 3, 32, 32)
    batches = list(torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(options.device))
    with torch.inference_mode():
        logits = model(torch.cat(batches))
    unsure = entropy(logits) / math.log(logits.shape[1])
    table = Table("method", "share", "F", "B", "F + 2B", "time / bare", box=None)
    for name in options.methods:
        for share in options.shares:
            margin = float(unsure.quantile(share)) if share < 1 else 10.0
            # a rate of zero, so that the model stays as sure as it is
            adapter = tta.wrap(model, name, entropy_margin=margin, optimiser=still(name), **METHODS[name])
            with torch.inference_mode():
                bare = seconds(model, batches)
            with PassCounter(adapter.networks()) as counter:
                taken = seconds(adapter, batches)
            forwards, backwards = (count / (options.batch * options.batches) for count in counter.passes)
            row = (share, forwards, backwards, forwards + 2 * backwards, taken / bare)
            table.add_row(name, *(f"{value:.2f}" for value in row))
    console = Console(width=100)
    console.print(table)
    console.print(f"{options.model}, batch {options.batch}, {options.batches} batches, {options.device}, 1 thread")


def still(name: str) -> object:
    """An optimiser of the kind that the method takes, which moves nothing."""
    from tta.optimisers import SAM, SGD

    return SAM(SGD(lr=0.0), rho=0.0) if name == "sar" else SGD(lr=0.0)


if __name__ == "__main__":
    main()
