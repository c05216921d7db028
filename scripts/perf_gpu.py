"""The whole table on a GPU: methods x ways to run the networks, with the share of the roofline. One command.

images/s: after two batches that warm up. F: forward-equivalents per image, counted. peak: memory from the making of the
adapter on. roofline: the least time that the passes can take on this device over the time they took. That least time is
the sum over layers of the longer of two: their FLOPs (`FlopCounterMode`) at the speed of a large matrix product, and
the bytes of their weights, inputs and outputs at the speed of a large copy; both are measured in this run, float32
with TF32 allowed. A backward pass is taken as two forwards, as in F.
"""

import argparse
import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from perf_turns import about, batches, source, wall
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import tta
from tta.acceleration import Acceleration
from tta.cost import PassCounter, PeakMemory
from tta.errors import TTAError
from tta.registry import split_preset

METHODS = ("source", "bn", "tent", "eta", "cotta:imagenet", "cotta:fast", "cotta:balanced")
WAYS = (
    Acceleration(), Acceleration("bf16"), Acceleration(channels_last=True), Acceleration("bf16", True),
    Acceleration(compile="default"), Acceleration("bf16", True, "default"), Acceleration("bf16", True, "cudagraphs"),
)  # fmt: skip
WARM_UP = 2


def speeds(device: str, side: int, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a matrix product, and bytes/s of a copy (read and written), the best of five."""
    torch.backends.cuda.matmul.allow_tf32 = True
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    block = torch.rand(side * side, device=device)
    target = torch.empty_like(block)
    product = min(wall(lambda: a @ b, device) for _ in range(6))
    copy = min(wall(lambda: target.copy_(block), device) for _ in range(6))
    return 2 * side**3 / product, 2 * block.nbytes / copy


def least_seconds(network: nn.Module, x: Tensor, flops: float, bandwidth: float) -> float:
    """Seconds of a forward pass on the roofline; what is in no layer (attention itself) counts by its FLOPs."""
    layers: list[tuple[float, float]] = []
    begun: dict[nn.Module, float] = {}
    counter = FlopCounterMode(display=False)

    def before(layer: nn.Module, _: Any) -> None:
        begun[layer] = counter.get_total_flops()

    def after(layer: nn.Module, inputs: Any, out: Any) -> None:
        tensors = [t for t in (*inputs, out, *layer.parameters()) if isinstance(t, Tensor)]
        layers.append((counter.get_total_flops() - begun[layer], sum(t.nbytes for t in tensors)))

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [h for m in leaves for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    with torch.no_grad(), counter:
        network(x)
    for hook in hooks:
        hook.remove()
    rest = counter.get_total_flops() - sum(work for work, _ in layers)
    return rest / flops + sum(max(work / flops, size / bandwidth) for work, size in layers)


def measure(model: nn.Module, name: str, way: Acceleration, x: list[Tensor]) -> dict[str, float]:
    """One row."""
    device = str(x[0].device)
    memory = PeakMemory(device)
    base, preset = split_preset(name)
    adapter = tta.wrap(model, base, preset=preset, **vars(way))
    for images in x[:WARM_UP]:
        adapter(images)
    with PassCounter(adapter.networks()) as counter:
        seconds = sum(wall(lambda images=images: adapter(images), device) for images in x[WARM_UP:])  # type: ignore[misc]
    count = sum(map(len, x[WARM_UP:]))
    passes = (counter.forwards + 2 * counter.backwards) / count
    return {"images_per_s": count / seconds, "F": passes, "peak_mb": memory.read()}


def table_of(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows of a model, as they are measured."""
    model = source(name, options.device)
    x = batches(options.batches + WARM_UP, options.batch, options.size, options.device)
    least = {}
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        flops, bandwidth = speeds(options.device, options.side, dtype)
        yield {"model": name, "way": precision, "peak_tflops": flops / 1e12, "copy_gb_per_s": bandwidth / 1e9}
        network = Acceleration(precision).around(model)
        least[precision] = least_seconds(network, x[0], flops, bandwidth) / options.batch
    for method in options.methods:
        for way in WAYS:
            if options.ways and (str(way) or "plain") not in options.ways:
                continue
            if way.compile != "none" and (options.tiny or options.device == "cpu"):
                continue
            row: dict[str, Any] = {"model": name, "method": method, "way": str(way) or "plain"}
            try:
                row |= measure(model, method, way, x)
                row["roofline"] = row["F"] * least[way.precision] * row["images_per_s"]
            except TTAError as refusal:  # bn of a model without batch norm, cudagraphs of a method that looks inside
                row["refused"] = str(refusal)
            yield row
            torch.compiler.reset()
            gc.collect()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["random:resnet50", "random:vit_base_patch16_224"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--ways", nargs="+", choices=[str(way) or "plain" for way in WAYS], help="all by default")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--side", type=int, default=8192, help="of the matrices that the speeds are measured with")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the embedded digits and few images, to try the script")
    parser.add_argument("--out", type=Path, help="add the rows to this file, a line of JSON each")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA device here; `--device cpu --tiny` only tries the script out")
    if options.tiny:
        options.models, options.batch, options.batches, options.size, options.side = ["digits"], 4, 1, 32, 256
    rows = list[dict[str, Any]]()
    for row in (row for name in options.models for row in table_of(name, options)):
        rows.append(row)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    columns = ("model", "method", "way", "images_per_s", "F", "peak_mb", "roofline", "peak_tflops", "copy_gb_per_s")
    shown = Table(*columns, "refused", box=None)
    for row in rows:
        values = [row.get(column, "") for column in columns]
        shown.add_row(*(f"{v:.3g}" if isinstance(v, float) else v for v in values), row.get("refused", "")[:40])
    Console(width=160).print(shown)
    print(about(vars(options)))


if __name__ == "__main__":
    main()
