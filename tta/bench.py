"""Methods x scenarios x seeds, cell by cell; what is finished stays finished."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from corruptions import engines
from tta.acceleration import PLAIN, Acceleration
from tta.cell_job import CellJob, Watch, failed_cell, failure, short_of_memory
from tta.cells import Cell, Store, device_of
from tta.errors import TTAError
from tta.evaluation import Reset, check_labels
from tta.harm import add_harm
from tta.lab import Given, Lab
from tta.results import Results
from tta.scenarios import Scenario
from tta.streams import Data, Stream, to_unit

#: Seconds after which the table of the cells so far is written again; they themselves are written at once.
PUBLISH_EVERY = 10.0


def benchmark(
    methods: Sequence[str],
    stream: Callable[[int], Stream],
    model: nn.Module,
    *,
    seeds: Sequence[int] = (0,),
    reset: Reset = "never",
    probe: Data | None = None,
    source_data: Data | None = None,
    out: Path | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
) -> Results:
    """Evaluates methods over the stream of every seed.

    Args:
        methods: Names from `tta.list_methods()`, each with a preset if wanted: "tent", "cotta:imagenet".
        stream: From a seed to the stream.
        model: The source model, on the device to run on.
        seeds: Each seeds the stream and the adapters.
        reset: Reset policy, see `tta.evaluate`.
        probe: Clean images for forgetting.
        source_data: Images the source model was trained on, for the methods that need some.
        out: Folder for results.json, results.csv and the finished cells; None keeps nothing on disk.
        fresh: Run cells again that are finished in `out`.
        watch: Sees the progress.

    Returns:
        As `run_cells`.

    Raises:
        TTAError: As `run_cells`.
    """
    cells = grid(methods, [None], seeds)
    return run_cells(cells, Given(model, stream, probe, source_data), reset=reset, out=out, fresh=fresh, watch=watch)


def grid(
    methods: Sequence[str],
    scenarios: Sequence[Scenario | None],
    seeds: Sequence[int],
    acceleration: Acceleration = PLAIN,
) -> list[Cell]:
    """All cells, those of one stream after each other.

    Raises:
        TTAError: Nothing to do, or something twice.
    """
    for what, values in (("method", methods), ("scenario", scenarios), ("seed", seeds)):
        if not values:
            raise TTAError(f"there is no {what} to run; give methods and seeds")
        if len({*values}) < len(values):
            raise TTAError(f"a {what} is given twice in {', '.join(map(str, values))}; give each once")
    return [Cell(name, seed, scenario, acceleration) for seed in seeds for scenario in scenarios for name in methods]


def run_cells(
    cells: Sequence[Cell],
    lab: Lab,
    *,
    reset: Reset = "never",
    refused: Literal["raise", "record"] = "raise",
    out: Path | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
    workers: int = 1,
    engine: str = "processes",
    address: str | None = None,
) -> Results:
    """Evaluates cells, those that are not finished yet.

    Args:
        cells: From `grid`.
        lab: Gives model, data and streams.
        reset: Reset policy of the cells without a scenario.
        refused: What happens if a method cannot run on the model: "raise" before anything runs, or "record" it.
        out: Folder for results.json, results.csv and the finished cells; None keeps nothing on disk.
        fresh: Run cells again that are finished in `out`.
        watch: Sees the progress.
        workers: Processes, each with one cell at a time; 1 is this one. A stream is never split: that would change the
            method. More than one need a lab that can be pickled; each has its share of the threads.
        engine: "processes", or "ray" for the nodes of a Ray cluster.
        address: Of the Ray cluster; a local one if not given.

    Returns:
        The results of all cells, in their order, the same for any number of workers but for seconds and memory. A cell
        whose adapter refused, raised or diverged has no rows, but an entry with the reason in `provenance["cells"]`. It
        is kept like any other, unless memory was short.

    Raises:
        TTAError: Unknown names, or a model that does not fit the data.
        CorruptionError: No such engine, or a worker process died.
    """
    engines.check_engine(engine, workers)
    watch, store, job = watch or Watch(), Store(out, fresh), CellJob(lab, reset, workers)
    refusals = job.refusals(cells)
    if refusals and refused == "raise":
        raise next(iter(refusals.values()))
    check_model(lab.model, job.stream(cells[0]))
    keys, steps = job.keys([cell for cell in cells if cell.method not in refusals])
    watch.begin(steps | {cell: 0 for cell in cells if cell not in steps})
    parts: dict[Cell, Results] = {}

    def keep(cell: Cell, results: Results, stored: bool) -> None:
        with interrupts_wait():
            if not stored and cell in keys and not short_of_memory(results):
                store.save(cell, keys[cell], results)
            parts[cell] = results
            reason = failure(results)
            if reason is None:
                watch.end(cell, results, stored=stored)
            else:
                watch.failed(cell, reason)

    def merged() -> Results:
        return add_harm(Results.merge(parts[cell] for cell in cells if cell in parts))

    published = time.monotonic()
    missing = []
    for cell in cells:
        if cell.method in refusals:
            keep(cell, failed_cell(cell, str(refusals[cell.method]), refused=True), False)
        elif (results := store.load(cell, keys[cell])) is not None:
            keep(cell, results, True)
        else:
            missing.append(cell)
    try:
        for cell, results in job.spread(missing, watch, engine, address):
            keep(cell, results, False)
            if time.monotonic() - published > PUBLISH_EVERY:
                store.publish(merged())
                published = time.monotonic()
    finally:
        with interrupts_wait():
            store.publish(merged())
    return merged()


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits for the end of the body, so that a cell is either kept, published and counted, or none of these."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual or signal.SIG_DFL)
    if caught:
        raise KeyboardInterrupt


def check_model(model: nn.Module, stream: Stream) -> None:
    """Shows the source model one image of every domain, so that a misfit is told before anything runs.

    Raises:
        TTAError: The model cannot take the images, returns no (B, K) logits, or has too few classes for the labels.
    """
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for domain in stream.domains:
            x = to_unit(domain.data.images(torch.tensor([0])), domain.label, device_of(model))
            logits = _try(model, x, domain.label)
            sides = domain.data.labels.shape[1:]  # of label maps
            fits = isinstance(logits, Tensor) and (len(logits), *logits.shape[2:]) == (1, *sides) and logits.ndim >= 2
            if not fits or logits.shape[1] < 2:
                what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
                wanted = ", ".join(str(side) for side in ("B", "K", *sides))
                raise TTAError(
                    f"the model must return logits of shape ({wanted}) with K >= 2; for one image of {domain.label} it"
                    f" returned {what}: wrap it in a module that does"
                )
            if domain.scored:
                check_labels(domain.data, logits.shape[1])
    finally:
        for module, mode in training.items():
            module.training = mode


@torch.no_grad()
def _try(model: nn.Module, x: Tensor, label: str) -> Any:
    try:
        return model(x)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise TTAError(
            f"the model cannot take images of shape {tuple(x.shape[1:])} from {label}: {reason}; give data of the size"
            " and channels it was trained on"
        ) from error
