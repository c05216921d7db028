"""The table of a benchmark: methods by domains, live while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tta.bench import Watch
from tta.cells import Cell
from tta.evaluate import Step
from tta.results import Results, Row, Spread

#: More domains than this are not shown one by one.
MOST_COLUMNS = 20


def abbreviate(names: Sequence[str]) -> list[str]:
    """Short, distinct headings.

    >>> abbreviate(["gaussian_noise", "gaussian_blur", "fog"])
    ['gaus.n', 'gaus.b', 'fog']
    >>> abbreviate(["shot_noise>fog", "fog>shot_noise#2"])
    ['shot>fog', 'fog>shot#2']
    """
    if any(">" in name for name in names):  # sections of CCC
        parts = [(name.partition("#")[0].split(">"), name.partition("#")[1:]) for name in names]
        return [">".join(one[:4] for one in pair) + "".join(rest) for pair, rest in parts]
    short = [name[:4] for name in names]
    return [
        brief if short.count(brief) == 1 else f"{brief}.{name.rpartition('_')[2][:1]}"
        for brief, name in zip(short, names, strict=True)
    ]


def render(results: Results, failed: Sequence[str] = (), *, domains: bool = True, plain: bool = False) -> Table:
    """The results as a table: error per domain and mean, forgetting, seconds and passes.

    Args:
        results: Of one benchmark, finished or not.
        failed: Methods with a failed cell.
        domains: Whether to show a column per domain.
        plain: Without colours or lines, as Markdown.
    """
    summaries = results.summary()
    names = list(dict.fromkeys(name for summary in summaries for name in summary.domains))
    names = names if domains and len(names) <= MOST_COLUMNS else []
    table = Table(
        box=box.MARKDOWN if plain else box.SIMPLE_HEAD, padding=(0, 0) if not plain else (0, 1), pad_edge=False
    )
    table.add_column("method", no_wrap=True)
    for heading in abbreviate(names):
        table.add_column(f" {heading}" if not plain else heading, justify="right", no_wrap=True)
    for heading in ("mean", "forgetting", "s/batch", "F"):
        table.add_column(f"  {heading}" if not plain else heading, justify="right", no_wrap=True)
    best = min((summary.mean.mean for summary in summaries), default=math.nan)
    for summary in summaries:
        whole = summary.whole
        cells = [_number(summary.domains.get(name, math.nan)) for name in names]
        mean = Text(_spread(summary.mean), style="bold green" if summary.mean.mean == best and not plain else "")
        table.add_row(
            summary.method,
            *cells,
            mean,
            _spread(whole.get("forgetting"), "+.1f"),
            _spread(whole.get("seconds_p50"), ".4f", spread=False),
            _spread(whole.get("forward_equivalents"), ".1f", spread=False),
        )
    for method in dict.fromkeys(failed):
        if all(summary.method != method for summary in summaries):
            table.add_row(method, *["-"] * len(names), "failed", "-", "-", "-")
    return table


def caption(results: Results) -> str:
    """What the numbers are: unit, protocol, number of images and of seeds, spread."""
    summaries = results.summary()
    if not summaries:
        return "No cell is finished."
    row = next(row for row in results.rows if row.position >= 0)
    visits = {(row.position, row.domain): row.n for row in results.rows if row.position >= 0}
    seeds = max(summary.mean.seeds for summary in summaries)
    severities = sorted({row.severity for row in results.rows if row.severity is not None})
    severity = (
        f"severity {severities[-1]:g}" if len(severities) == 1 else f"severities {severities[0]:g}-{severities[-1]:g}"
    )
    counts = sorted({*visits.values()})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    spread = "mean ± standard deviation over" if seeds > 1 else "no spread from"
    return (
        f"Error in % (lower is better), {severity}, n = {n} images per domain, {row.order} order, batch size"
        f" {row.batch_size}, reset: {row.reset}; {spread} {seeds} seed{'s' if seeds > 1 else ''}.\n"
        "forgetting: points of clean error gained on the stream. s/batch: median seconds of a step."
        " F: forwards + 2 x backwards per image."
    )


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def _spread(value: Spread | None, form: str = ".1f", *, spread: bool = True) -> str:
    if value is None or math.isnan(value.mean):
        return "-"
    return f"{value.mean:{form}}" + (f" ±{value.std:.1f}" if spread and value.seeds > 1 else "")


class LiveTable(Watch):
    """Shows a benchmark while it runs: on a terminal the growing table and a progress bar, else a line per cell.

    Args:
        console: Where the table goes.
        notes: Where the lines go if `console` is no terminal.
    """

    def __init__(self, console: Console, notes: Console) -> None:
        self.console, self.notes = console, notes
        self.results, self.rows = Results(), list[Row]()
        self.failures: dict[Cell, str] = {}
        self.finished, self.reused, self.cells = 0, 0, 0
        self.left: dict[Cell, int] = {}
        self.started = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"))
        self.progress = Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.task = self.progress.add_task("")
        self.live = Live(get_renderable=self._screen, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live.is_started:
            self.live.stop()
        if self.results.rows:
            with self.console.capture() as captured:
                self.console.print(self.table(self.results))
            lines = [line for line in captured.get().splitlines() if line.strip()]
            self.console.out("\n".join(lines), highlight=False)
            self.console.out(caption(self.results), highlight=False)

    def begin(self, steps: Mapping[Cell, int]) -> None:
        """Sets the length of the progress bar."""
        self.cells, self.left = len(steps), dict(steps)
        self.progress.update(self.task, total=sum(steps.values()))

    def step(self, cell: Cell, step: Step) -> None:
        """Moves the bar, and fills in a domain when it ends."""
        self.rows += step.rows
        name = f"{cell.method} (seed {cell.seed}), batch {step.step} of {step.steps}"
        self.progress.update(self.task, advance=1, description=name)
        self.left[cell] -= 1

    def end(self, cell: Cell, results: Results, *, stored: bool) -> None:
        """Puts the cell's results in place of its partial rows."""
        self.rows = []
        self.results = Results.merge([self.results, results])
        self.finished += 1
        self.reused += stored
        self.progress.update(self.task, advance=self.left.pop(cell))
        if not self.console.is_terminal:
            summary = results.summary()[0]
            what = "kept from an earlier run" if stored else f"{summary.whole['seconds_total'].mean:.0f} s"
            done = self.finished + len(self.failures)
            line = f"{done}/{self.cells} {cell.method} (seed {cell.seed}): error {summary.mean.mean:.1f} %, {what}"
            self.notes.print(line, soft_wrap=True, highlight=False)

    def failed(self, cell: Cell, reason: str) -> None:
        """Remembers the reason."""
        self.rows = []
        self.failures[cell] = reason
        self.progress.update(self.task, advance=self.left.pop(cell))

    def table(self, results: Results) -> Table:
        """The table that fits the console."""
        failed = [cell.method for cell in self.failures]
        if not self.console.is_terminal:
            return render(results, failed, plain=True)
        table = render(results, failed)
        if Measurement.get(self.console, self.console.options, table).maximum < self.console.width:
            return table
        return render(results, failed, domains=False)

    def _screen(self) -> RenderableType:
        rows = [*self.results.rows, *self.rows]
        return Group(self.table(Results(rows)), self.progress) if rows else self.progress
