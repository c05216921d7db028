"""What the harness adds: methods through `tta.evaluate` over hand-written minimal loops, taken in turns in one run.

`source` beside a bare loop under inference_mode (bar 1.03) and one that is given bytes and makes floats of them as the
harness does, `bn` beside the first with the batch's statistics (1.05), `tent` beside a bare forward, backward of the
affine parameters and optimiser step (1.10). `--filter`: ETA's time by the share of images that it filters out; under
batch norm the backward pass has all images in it by definition, so give a model with group or layer norm to see time
fall. `--options`: what bf16, channels_last and compile give.
"""

import argparse
import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from perf_turns import batches, clock, in_turns, source, tell
from torch import Tensor, nn

import tta
from tta import heap, norms
from tta.acceleration import Acceleration
from tta.cost import PassCounter
from tta.data.arrays import ArrayImages
from tta.objectives import entropy
from tta.optimisers import SGD
from tta.registry import split_preset

BARS = {"source": 1.03, "bn": 1.05, "tent": 1.10}
OPTIONS = (
    Acceleration("bf16"),
    Acceleration(channels_last=True),
    Acceleration("bf16", True),
    Acceleration(compile="default"),
)


def bare_loop(name: str, model: nn.Module, x: list[Tensor]) -> Callable[[], object]:
    """The least that a method is: what a user would write by hand."""
    net = copy.deepcopy(model).requires_grad_(False)
    if name != "source":
        norms.use_batch_statistics(net)
    if name != "tent":

        def answer() -> None:
            with torch.inference_mode():
                for images in x:
                    net(images)

        return answer
    affine = [p.requires_grad_(True) for p in norms.affine_parameters(net)]
    optimiser = torch.optim.Adam(affine, lr=1e-3, foreach=True)

    def adapt() -> None:
        for images in x:
            logits = net(images)
            loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return adapt


def measure(options: argparse.Namespace) -> dict[str, float]:
    """The three ratios; data are in memory, so that the loops differ in the harness only."""
    model = source(options.model, options.device)
    x = batches(options.batches, options.batch, options.size, options.device)
    pixels = (torch.cat(x).cpu() * 255).to(torch.uint8)
    classes = model(x[0][:1]).shape[1]
    data = ArrayImages("random", pixels.numpy(), (torch.arange(len(pixels)) % classes).numpy())
    stream = tta.make_stream([tta.Domain("clean", 0, data)], "continual", options.batch, 0)
    arms: dict[str, Callable[[], object]] = {}
    names = [name for name in BARS if name in options.methods and (name != "bn" or norms.batch_norms(model))]
    for name in names:
        adapter = tta.wrap(model, name)
        arms[f"{name}_bare"] = bare_loop(name, model, x)
        arms[name] = partial(tta.evaluate, adapter, stream)

    def from_bytes() -> None:
        with torch.inference_mode():
            for part in pixels.split(options.batch):
                model(part.to(options.device).float().div_(255))

    arms["source_from_bytes"] = from_bytes
    seconds = in_turns(arms, options.repeats)
    ratios = {f"{name}_over_bare": seconds[name] / seconds[f"{name}_bare"] for name in names}
    if "source" in names:
        ratios["source_over_bare_from_bytes"] = seconds["source"] / seconds["source_from_bytes"]
    images = len(x) * options.batch
    return ratios | {f"{name}_images_per_s": images / value for name, value in seconds.items()}


def filtered(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step of ETA over those of TENT, by the share of images that are filtered out."""
    model = source(options.model, options.device)
    x = batches(4, options.batch, options.size, options.device)
    tent = tta.wrap(model, "tent", optimiser=SGD(lr=0.0))
    with torch.no_grad():
        unsure = torch.cat([entropy(tent.predict(images)) for images in x])
    top = math.log(tent.predict(x[0][:2]).shape[1])
    methods: dict[str, tta.Adapter] = {"tent": tent}
    backwards = {}
    for share in (0.0, 0.25, 0.5, 0.75, 0.95):
        margin = float(unsure.double().quantile(1 - share)) / top if share else 10.0
        name = f"eta_filtered_{share:.2f}"
        methods[name] = eta = tta.wrap(
            model, "eta", optimiser=SGD(lr=0.0), entropy_margin=margin, similarity_margin=2.0
        )
        with PassCounter(eta.networks()) as counter:
            for images in x:
                eta(images)
        backwards[f"{name}_backwards"] = counter.backwards / (4 * options.batch)

    def all_batches(adapter: tta.Adapter) -> None:
        for images in x:
            adapter(images)

    seconds = in_turns({name: partial(all_batches, each) for name, each in methods.items()}, options.repeats)
    found = {f"{name}_over_tent": value / seconds["tent"] for name, value in seconds.items() if name != "tent"}
    return found | backwards


def accelerated(options: argparse.Namespace) -> dict[str, float]:
    """Speed-up of each option for each method, and the change of error in points on real images, if some are given."""
    model = source(options.model, options.device)
    x, y = batches(options.batches, options.batch, options.size, options.device), None
    if options.data is not None:
        data = tta.load_data(options.dataset, options.data, limit=options.batches * options.batch)
        index = torch.arange(len(data)).split(options.batch)
        x = [data.images(part).to(options.device).float() / 255 for part in index]
        y = [data.labels[part].to(options.device) for part in index]
    found = {}
    for name in options.methods:
        ways = {"plain": Acceleration()} | {
            str(way): way for way in OPTIONS if options.compile or way.compile == "none"
        }
        base, preset = split_preset(name)
        adapters = {word: tta.wrap(model, base, preset=preset, **vars(way)) for word, way in ways.items()}
        wrong = dict.fromkeys(ways, 0)
        seconds: dict[str, list[float]] = {word: [] for word in ways}
        for number, images in enumerate(x):
            for word, adapter in adapters.items():
                start = clock()
                logits = adapter(images)
                seconds[word].append(clock() - start)
                wrong[word] += 0 if y is None else int((logits.argmax(1) != y[number]).sum())
        for word in [word for word in ways if word != "plain"]:
            late = min(len(x) - 1, 1)  # the first batch compiles
            found[f"{name}_{word}_speed_up"] = sum(seconds["plain"][late:]) / sum(seconds[word][late:])
            if y is not None:
                total = sum(map(len, y))
                found[f"{name}_{word}_error_points"] = 100 * (wrong[word] - wrong["plain"]) / total
        if y is not None:
            found[f"{name}_error"], found["n"] = 100 * wrong["plain"] / sum(map(len, y)), sum(map(len, y))
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="digits", help="as in `tta bench`, or random:NAME for a timm model")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--filter", action="store_true")
    parser.add_argument("--options", action="store_true")
    parser.add_argument("--compile", action="store_true", help="with --options: torch.compile too")
    parser.add_argument("--methods", nargs="+", default=["source", "bn", "tent"], help="without --filter")
    parser.add_argument("--dataset", default="cifar10", help="with --options and --data")
    parser.add_argument("--data", type=Path, help="with --options: real images for the change of error")
    parser.add_argument("--out", type=Path, help="add the figures to this file, a line of JSON")
    parser.add_argument("--keep-freed", action="store_true", help="keep freed memory, as `tta bench` does")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.keep_freed:
        heap.keep_freed()
    figures = filtered(options) if options.filter else accelerated(options) if options.options else measure(options)
    tell(figures, options, {f"{name}_over_bare": bar for name, bar in BARS.items()})


if __name__ == "__main__":
    main()
