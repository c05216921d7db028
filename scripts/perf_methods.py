"""Cost of every method beside the bare model, in one run: passes, seconds, and the memory it keeps.

Passes (F forwards, B backwards per image) are counted by hooks and stand beside what the method declares. Seconds are
the median of a step over the median of a bare forward pass on the same batches. Memory kept is everything an adapter
holds between batches (parameters, buffers, optimiser, memories), each storage once, over that of the source model. Peak
is the most that was in use during the steps above what was in use before, over that of one step of the bare model with
a gradient through everything; on the CPU it is that of the process, and rough for small models.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import tta
from tta import heap
from tta.cost import PassCounter, PeakMemory
from tta.registry import method


def seconds(run: Callable[[Tensor], object], batches: list[Tensor]) -> float:
    """Median seconds per batch, without the first."""
    taken = []
    for x in batches:
        start = time.perf_counter()
        run(x)
        if x.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (t for v in value.values() for t in tensors(v))
    elif isinstance(value, list | tuple):
        yield from (t for v in value for t in tensors(v))


def kept(adapter: tta.Adapter) -> int:
    """Bytes of everything that an adapter holds."""
    optimiser = adapter.optimiser.state_dict() if adapter.optimiser else {}
    every = [*adapter.parameters(), *adapter.buffers(), *tensors(optimiser), *tensors(adapter.memory)]
    every += tensors(vars(adapter).get("_source_state", {}))
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in every}.values())


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="digits", help="as in `tta bench`")
    parser.add_argument("--methods", nargs="+", default=tta.list_methods())
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = tta.load_source(options.model).to(options.device).eval()
    shape = (options.batches, options.batch, 3, options.size, options.size)
    batches = list(torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(options.device))
    source = (torch.rand(256, *shape[2:]), torch.arange(256) % model.num_classes)
    own = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
    with torch.inference_mode():
        bare = seconds(model, batches)
    heap.give_back_freed()
    memory = PeakMemory(options.device)
    model(batches[0]).sum().backward()
    gradient = memory.read()
    model.zero_grad(set_to_none=True)
    heads = ("method", "declared", "F", "B", "F + 2B", "time / bare", "kept / model", "peak / gradient")
    table = Table(*heads, box=None)
    for name in options.methods:
        data = source if method(name).requires.source_data else None
        try:
            adapter = tta.wrap(model, name, source_data=data)
            heap.give_back_freed()
            memory = PeakMemory(options.device)
            with PassCounter(adapter.networks()) as counter:
                taken = seconds(adapter, batches)
            peak = memory.read()
        except (tta.TTAError, RuntimeError) as error:
            table.add_row(name, method(name).cost, *"-----", str(error)[:60])
            continue
        forwards, backwards = (count / (options.batch * options.batches) for count in counter.passes)
        row = (forwards, backwards, forwards + 2 * backwards, taken / bare, kept(adapter) / own, peak / gradient)
        table.add_row(name, method(name).cost, *(f"{value:.2f}" for value in row))
    console = Console(width=160)
    console.print(table)
    protocol = f"batch {options.batch}, {options.size} px, {options.batches} batches, {options.device}"
    console.print(f"{options.model}, {protocol}, {options.threads} thread(s), torch {torch.__version__}")
    console.print(f"bare forward: {1000 * bare:.1f} ms per batch; with a gradient: {gradient:.0f} MB at most")


if __name__ == "__main__":
    main()
