"""The command `tta bench`: methods over one kind of stream."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from tta.commands import BAD_INPUT, INTERRUPTED, OK, complain, warm_up
from tta.errors import TTAError
from tta.setup import Folder, Name, Names, Number, Seeds, Setup

if TYPE_CHECKING:
    from tta.acceleration import Acceleration
    from tta.ccc import CCC
    from tta.scenarios import Scenario

BENCH = """Compare adaptation methods on a stream of changing corruptions. Alone, it runs the embedded handwritten
digits and their model: no download, less than two minutes.

examples:
  tta bench
  tta bench --methods source tent --domains fog frost --seeds 0 1 2 --out results
  tta bench --dataset cifar10 --data DIR --model robustbench:cifar10/corruptions/Standard --batch-size 200
  tta bench --dataset imagenet --data DIR --model resnet50.a1_in1k --size 224 --methods source tent:imagenet
  tta bench --order mixed --arrangement dirichlet:0.1 --workers 4 --out results
  tta bench --order ccc --ccc-difficulty hard --ccc-speed 100
  tta bench --dataset DIR --model model.py:build --weights model.safetensors"""


@dataclass(frozen=True)
class Bench(Setup):
    """Compare adaptation methods on a stream of changing corruptions."""

    methods: Names = ("source", "bn", "tent", "cotta", "ttaug")
    """Methods, each with a published setting if wanted: cotta:imagenet. `tta methods` lists them."""
    order: Name = "continual"
    """Order of the domains: continual, gradual, mixed, recurring:N, or ccc: two corruptions that keep changing."""
    arrangement: Name = "shuffled"
    """Order of the images within a domain: shuffled, stored, sorted, dirichlet:0.1, label_shift:10, long_tailed:100."""
    intruders: Name = "none"
    """Images mixed in that nobody is scored on, with their share: noise:0.2, ood:0.2, poison_nhe:0.2 ..."""
    ccc_difficulty: Name = "medium"
    """easy, medium or hard: the source model is right in 40, 20 or 0 % of the images, as far as it can be."""
    ccc_target: Annotated[float | None, tyro.conf.arg(metavar="0-100")] = None
    """Another accuracy of the source model in %."""
    ccc_speed: Annotated[int, tyro.conf.arg(metavar="N")] = 1000
    """Images at each step of a quarter severity; the published speeds are 1000, 2000 and 5000."""
    ccc_images: Number = None
    """Length of the stream, 7500000 as published; as many as 15 domains have, if not given."""
    ccc_crop: bool = False
    """Crop and mirror the images at random, as published."""
    ccc_jpeg: Number = None
    """Quality of a JPEG file that the images pass through; 85 as published."""
    batch_size: Annotated[int, tyro.conf.arg(metavar="N")] = 64
    """Images that arrive together."""
    seeds: Seeds = (0,)
    """Seeds of stream, corruptions and methods; one run each, the table shows mean and spread."""
    reset: Name = "never"
    """When to take the model back to the source: never, before every domain, or before every batch."""
    precision: Name = "float32"
    """float32, or bf16: the passes under autocast."""
    channels_last: bool = False
    """Put the channels last in the networks: faster on most machines, same results up to rounding."""
    compile: Name = "none"
    """none, default (torch.compile) or cudagraphs (its mode for the steady state of a GPU)."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes, each with one method and seed at a time."""
    engine: Name = "processes"
    """processes, or ray for the nodes of a Ray cluster."""
    address: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Address of the Ray cluster; a local one if not given."""
    out: Folder = None
    """Folder for results.json, results.csv and finished cells. The same command again continues where it stopped."""
    fresh: bool = False
    """Run again what is finished in the output folder."""

    def run(self) -> int:
        """Runs the benchmark and shows its table; 2 if a method failed on the way, 130 after Ctrl-C."""
        warm_up(self.workers, self.engine)
        from rich.console import Console

        from tta.bench import grid, run_cells
        from tta.setup_lab import SetupLab
        from tta.table import LiveTable

        self._check()
        wide = None if sys.stdout.isatty() else 250
        lab = SetupLab(self, self._ccc())
        watch = LiveTable(Console(width=wide), Console(stderr=True))
        try:
            watch.metric = "error_balanced" if lab.images.balanced else "error"  # as MedMNIST is reported
            with watch:
                run_cells(
                    grid(self.methods, [self._scenario()], self.seeds, self._acceleration()), lab, out=self.out,
                    fresh=self.fresh, watch=watch, workers=self.workers, engine=self.engine, address=self.address,
                )  # fmt: skip
        except KeyboardInterrupt:
            return self._interrupted(watch.finished, watch.cells)
        for reason in watch.failures.values():
            complain(reason)
        return BAD_INPUT if watch.failures else OK

    def _scenario(self) -> Scenario:
        from tta.scenarios import Scenario

        return Scenario(self.order, self.arrangement, self.intruders, self.batch_size, self.reset)  # type: ignore[arg-type]  # checked

    def _acceleration(self) -> Acceleration:
        from tta.acceleration import Acceleration

        return Acceleration(self.precision, self.channels_last, self.compile)  # type: ignore[arg-type]  # it checks

    def _check(self) -> None:
        """What can be told before anything is loaded."""
        from corruptions.engines import check_engine
        from tta.files import folder
        from tta.registry import method, split_preset

        self.check_setup()
        self._scenario()
        self._acceleration()
        self.severities(self.order)
        for name in self.methods:
            method(split_preset(name)[0])
        check_engine(self.engine, self.workers)
        if self.out is not None:
            folder(self.out, "the output folder")
        if self.order == "ccc":
            self._ccc().check()
            if self.stored is not None:
                raise TTAError("the order ccc computes its images; leave --stored out")

    def _ccc(self) -> CCC:
        """What the options say of the order ccc."""
        from tta.ccc import CCC

        return CCC(
            self.ccc_difficulty, self.ccc_speed, self.ccc_images, self.ccc_target, self.domains, self.ccc_crop,
            self.ccc_jpeg,
        )  # fmt: skip

    def _interrupted(self, finished: int, cells: int) -> int:
        if self.out is None:
            complain("interrupted; nothing was kept, for no --out was given")
        else:
            kept = f"{finished} of {cells} cells are kept in {self.out}"
            complain(f"interrupted: {kept}; the same command again runs the rest")
        return INTERRUPTED
