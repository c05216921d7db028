"""The work of a benchmark, as this process or a worker does it: cells, and images for several of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from corruptions import engines
from tta import heap
from tta.cells import Cell, cell_key, device_of, weights_hash
from tta.errors import TTAError
from tta.evaluation import AdapterFailed, Reset, Step, definition, evaluate
from tta.lab import Lab
from tta.registry import method, split_preset
from tta.results import Results
from tta.scenarios import Scenario
from tta.sharing import Share, Sharing, spread
from tta.streams import Stream


class Watch:
    """Sees a benchmark happen; every method may be overridden, none has to be."""

    def begin(self, steps: Mapping[Cell, int]) -> None:
        """Called once: all cells, and the number of batches in each."""

    def step(self, cell: Cell, step: Step) -> None:
        """Called after every batch; not where other processes run the cells."""

    def end(self, cell: Cell, results: Results, *, stored: bool) -> None:
        """Called when a cell is finished; `stored` if it was finished by an earlier run."""

    def failed(self, cell: Cell, reason: str) -> None:
        """Called when a cell has ended without results: its adapter refused, raised or diverged."""


@dataclass
class CellJob:
    """Runs cells, here or in a worker process."""

    lab: Lab
    reset: Reset
    workers: int
    watch: Watch | None = None

    def __post_init__(self) -> None:
        self._last: tuple[Any, Stream] | None = None

    def begin(self) -> None:
        """In a worker process: its share of the machine's threads, unless the environment says how many."""
        heap.keep_freed()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.workers))

    def stream(self, cell: Cell) -> Stream:
        """The stream of a cell; that of the last cell is kept."""
        which = (cell.scenario, cell.seed)
        if self._last is None or self._last[0] != which:
            self._last = None
            self._last = which, self.lab.stream(cell.scenario or Scenario(), cell.seed)
        return self._last[1]

    def reset_of(self, cell: Cell) -> Reset:
        """The reset policy of a cell."""
        return self.reset if cell.scenario is None else cell.scenario.reset

    def refusals(self, cells: Sequence[Cell]) -> dict[str, TTAError]:
        """Why methods cannot run on the model, as far as it can be told at once.

        Raises:
            TTAError: A method that does not exist.
        """
        found = {}
        mirrors = self._mirrors(cells[0])
        for cell in {cell.method: cell for cell in cells}.values():
            cell.configuration(mirrors)
            try:
                if not cell.needs_source_data:  # else it might work through all of them now, and again for every cell
                    cell.adapter(self.lab.model, None, mirrors)
                    continue
                name = split_preset(cell.method)[0]
                method(name).requires.check(self.lab.model, name, self.lab.source_data)
            except TTAError as error:
                found[cell.method] = error
        return found

    def keys(self, cells: Sequence[Cell]) -> tuple[dict[Cell, str], dict[Cell, int]]:
        """Key and number of batches of every cell."""
        keys, steps = {}, {}
        weights, device = weights_hash(self.lab.model), device_of(self.lab.model)
        for cell in cells:
            stream = self.stream(cell)
            data = self.lab.source_data if cell.needs_source_data else None
            protocol = definition(stream, self.reset_of(cell), self.lab.probe)
            config = cell.configuration(self._mirrors(cell))
            keys[cell] = cell_key(cell, config, protocol, weights, data.fingerprint if data else None, device)
            steps[cell] = len(stream)
        return keys, steps

    def run(self, unit: Cell | Share) -> tuple[Cell | Share, Results | None]:
        """Evaluates one cell, or makes images for several."""
        if isinstance(unit, Cell):
            return unit, self.evaluate(unit)
        assert isinstance(self.lab, Sharing)
        self.lab.make(unit)
        return unit, None

    def evaluate(self, cell: Cell) -> Results:
        """Evaluates one cell; what its adapter does wrong is a result too."""
        lab, stream = self.lab, self.stream(cell)

        def on_step(step: Step) -> None:
            if self.watch is not None:
                self.watch.step(cell, step)

        try:
            adapter = cell.adapter(lab.model, lab.source_data if cell.needs_source_data else None, self._mirrors(cell))
            return evaluate(
                adapter, stream, reset=self.reset_of(cell), probe=lab.probe, on_step=on_step, method=cell.method,
                name=str(cell), seed=cell.seed,
            )  # fmt: skip
        except AdapterFailed as error:
            short = isinstance(error.__cause__, MemoryError | torch.OutOfMemoryError)
            return failed_cell(cell, str(error), short_of_memory=short)

    def spread(
        self, cells: Sequence[Cell], watch: Watch, engine: str, address: str | None
    ) -> Iterator[tuple[Cell, Results]]:
        """Runs cells, each by one of the workers; results come in any order."""
        alone = self.workers == 1 or len(cells) <= 1
        self.watch = watch if alone and engine == "processes" else None
        here = nullcontext((self.lab, list[Share | Cell](cells)))
        with here if alone or engine == "ray" else spread(self.lab, cells) as (lab, units):
            job = self if alone else CellJob(lab, self.reset, self.workers)
            for unit, results in engines.run(job, units, self.workers, engine, address):
                if isinstance(unit, Cell) and results is not None:
                    yield unit, results

    def _mirrors(self, cell: Cell) -> bool:
        return all(getattr(domain.data, "mirrors", True) for domain in self.stream(cell).domains)


def failure(results: Results) -> str | None:
    """Why the cell with these results failed; None if it did not."""
    return next((cell["failed"] for cell in results.provenance["cells"] if "failed" in cell), None)


def failed_cell(cell: Cell, reason: str, **flags: bool) -> Results:
    """Results of a cell that has none."""
    entry = {"cell": str(cell), "method": cell.method, "seed": cell.seed, "failed": reason}
    return Results(provenance={"cells": [entry | {name: True for name, value in flags.items() if value}]})


def short_of_memory(results: Results) -> bool:
    """Whether a cell failed for want of memory, and may not another time."""
    return any(cell.get("short_of_memory") for cell in results.provenance["cells"])
