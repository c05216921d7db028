"""Progress of many cells: one bar with the time that is left, or a line now and then where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tta.cell_job import Watch
from tta.cells import Cell
from tta.results import Results

#: Seconds between two lines where there is no terminal.
QUIET = 20.0


class CellProgress(Watch):
    """Counts finished cells.

    Args:
        console: Where the bar goes.
    """

    def __init__(self, console: Console) -> None:
        self.console, self.finished, self.cells, self.said = console, 0, 0, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True)
        self.task = self.progress.add_task("", total=None)

    def __enter__(self) -> CellProgress:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def begin(self, steps: Mapping[Cell, int]) -> None:
        """Sets the length of the bar."""
        self.cells = len(steps)
        self.progress.update(self.task, total=self.cells, description="cells")

    def end(self, cell: Cell, results: Results, *, stored: bool) -> None:
        """Counts the cell."""
        self._count(cell)

    def failed(self, cell: Cell, reason: str) -> None:
        """Counts the cell."""
        self._count(cell)

    def _count(self, cell: Cell) -> None:
        self.finished += 1
        self.progress.update(self.task, advance=1, description=str(cell))
        if not self.console.is_terminal and time.monotonic() - self.said > QUIET:
            self.said = time.monotonic()
            self.console.print(f"{self.finished}/{self.cells} {cell}", soft_wrap=True, highlight=False)
