"""Several workers on one stream: its corrupted images are made once, each domain by one of them, and read by all."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tta.cells import Cell
from tta.lab import Lab
from tta.registry import method, split_preset
from tta.scenarios import Scenario


@dataclass(frozen=True)
class Share:
    """Images under one corruption, which more than one cell will ask for."""

    name: str
    severity: float
    seed: int


@runtime_checkable
class Sharing(Protocol):
    """What a lab can besides if it can put images where others find them."""

    def sharing(self, folder: Path) -> Lab:
        """The same lab, which looks into a folder for images before it computes them."""

    def shares(self, scenario: Scenario, seed: int) -> list[Share]:
        """What is worth being put there of a stream."""

    def make(self, share: Share) -> None:
        """Puts it there."""


@contextmanager
def spread(lab: Lab, cells: Sequence[Cell]) -> Iterator[tuple[Lab, list[Share | Cell]]]:
    """A lab and the units of work for several workers.

    The units of each seed are the images of its streams, and then its cells, the longest first, so that none of them is
    left for the end while the other workers have nothing to do. A worker that finds images missing, for they are still
    being made, computes them: they are the same.
    """
    units: list[Share | Cell] = []
    if not isinstance(lab, Sharing):
        units += longest_first(cells)
        yield lab, units
        return
    with tempfile.TemporaryDirectory(prefix="tta-images-", ignore_cleanup_errors=True) as folder:
        for seed in dict.fromkeys(cell.seed for cell in cells):
            own = [cell for cell in cells if cell.seed == seed]
            scenarios = dict.fromkeys(cell.scenario or Scenario() for cell in own)
            units += dict.fromkeys(share for scenario in scenarios for share in lab.shares(scenario, seed))
            units += longest_first(own)
        yield lab.sharing(Path(folder)), units


def longest_first(cells: Sequence[Cell]) -> list[Cell]:
    """Cells in the order in which workers should take them."""
    return sorted(cells, key=work, reverse=True)


def work(cell: Cell) -> float:
    """Forward-equivalents per image that the method of a cell says it costs, at most; smaller batches weigh more."""
    cost = method(split_preset(cell.method)[0]).cost
    forwards, backwards = ([float(n) for n in re.findall(rf"(\d+(?:\.\d+)?){unit}", cost)] for unit in "FB")
    size = 64 if cell.scenario is None else cell.scenario.batch_size
    return (max(forwards, default=1) + 2 * max(backwards, default=0)) * (1 + 8 / size)
