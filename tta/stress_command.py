"""The command `tta stress`: methods over every kind of stream."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from tta.commands import INTERRUPTED, OK, complain, warm_up
from tta.errors import TTAError
from tta.setup import Folder, Name, Names, Seeds, Setup

STRESS = """Compare adaptation methods with the source model on every kind of stream, at every batch size: one heat
map, gain or harm. Alone, it runs the embedded handwritten digits: 320 cells, of which those with batches of one take
the longest; fewer streams, methods or sizes, or more --workers, shorten it.

examples:
  tta stress
  tta stress --methods source tent eata --streams continual mixed+dirichlet:0.1 --batch-sizes 64 --out stress
  tta stress --dataset cifar10 --data DIR --model model.py:build --methods all --workers 8 --out stress"""
#: Enough for one batch of the largest size per domain.
DIGITS_DOMAINS, DIGITS_LIMIT = ("gaussian_noise", "fog", "pixelate"), 200


@dataclass(frozen=True)
class Stress(Setup):
    """Compare adaptation methods with the source model on every kind of stream: one heat map, gain or harm."""

    methods: Names = ("source", "bn", "tent", "eata", "cotta", "rotta", "roid", "lame")
    """Methods, or all; the source model is always one of them."""
    streams: Names = ()
    """Streams: an order (continual, gradual, mixed, recurring:3, ccc) and, after plus signs, an arrangement (sorted,
    dirichlet:0.1, label_shift:10, long_tailed:20), intruders (noise:0.2, ood:0.2, poison_nhe:0.2), and reset:domain.
    Ten of them if not given."""
    batch_sizes: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")] = (1, 10, 64, 200)
    """Images that arrive together."""
    seeds: Seeds = (0,)
    """Seeds of streams, corruptions and methods."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes, each with one method in one scenario at a time."""
    engine: Name = "processes"
    """processes, or ray for the nodes of a Ray cluster."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Address of the Ray cluster; a local one if not given."""
    out: Folder = None
    """Folder for stress.json, stress.csv, stress.svg, results.json, results.csv and finished cells. The same command
    again continues where it stopped."""
    fresh: bool = False
    """Run again what is finished in the output folder."""

    def run(self) -> int:
        """Runs the matrix and shows it; 130 after Ctrl-C. A method that fails is a part of the result."""
        warm_up(self.workers, self.engine)
        from rich.console import Console

        from corruptions.engines import check_engine
        from tta.bench import grid, run_cells
        from tta.files import folder
        from tta.progress import CellProgress
        from tta.registry import list_methods, method, split_preset
        from tta.scenarios import Scenario
        from tta.setup_lab import SetupLab
        from tta.stress import STREAMS, caption, matrix, render, write_matrix

        self.check_setup()
        check_engine(self.engine, self.workers)
        names = list_methods() if "all" in self.methods else list(self.methods)
        names = ["source", *(name for name in names if name != "source")]
        for name in names:
            method(split_preset(name)[0])
        scenarios = [Scenario.read(text, size) for text in self.streams or STREAMS for size in self.batch_sizes]
        cells = grid(names, scenarios, self.seeds)
        if self.out is not None:
            folder(self.out, "the output folder")
        watch = CellProgress(Console(stderr=True))
        try:
            with watch:
                results = run_cells(
                    cells, SetupLab(self._quick()), refused="record", out=self.out, fresh=self.fresh, watch=watch,
                    workers=self.workers, engine=self.engine, address=self.address,
                )  # fmt: skip
        except KeyboardInterrupt:
            kept = "nothing was kept, for no --out was given" if self.out is None else f"kept in {self.out}"
            complain(f"interrupted: {watch.finished} of {len(cells)} cells are finished; {kept}")
            return INTERRUPTED
        entries = matrix(cells, results)
        console = Console(width=None if sys.stdout.isatty() else 200)
        console.print(render(entries))
        console.print(caption(entries), highlight=False, soft_wrap=True)
        if self.out is not None:
            write_matrix(entries, self.out)
        return OK

    def _quick(self) -> Setup:
        """The setup; of the embedded digits, three domains if not told others."""
        if self.dataset != "digits":
            return self
        if self.limit is not None and self.limit < 1:
            raise TTAError(f"--limit is {self.limit}; give at least 1")
        return dataclasses.replace(
            self, domains=self.domains or DIGITS_DOMAINS, limit=DIGITS_LIMIT if self.limit is None else self.limit
        )
