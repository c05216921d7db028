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

from tta.cell_job import Watch
from tta.cells import Cell
from tta.evaluation import Step
from tta.harm import add_harm
from tta.results import Results, Row, Summary
from tta.tails import WINDOW

#: More domains than this are not shown one by one.
MOST_COLUMNS = 20
MEAN, WORST, HARM = " mean", "worst", "+harm"
#: The error of every image counting the same; the other one is that of every class counting the same.
ERROR = "error"


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


def render(
    results: Results,
    failed: Sequence[str] = (),
    *,
    domains: bool = True,
    closing: bool = True,
    plain: bool = False,
    metric: str = ERROR,
) -> Table:
    """The results as a table: error per domain; mean, harm, calibration, forgetting and cost.

    Args:
        results: Of one benchmark, finished or not.
        failed: Methods with a failed cell.
        domains: Whether to show a column per domain.
        closing: Whether to show the columns beside them.
        plain: Without colours or lines, as Markdown.
        metric: Which error: "error" or "error_balanced".
    """
    summaries = results.summary(metric)
    columns = _domains(summaries) if domains else {}
    columns |= _closing(results, summaries) if closing else {}
    best = min((summary.mean.mean for summary in summaries), default=math.nan)
    padding = (0, int(plain))
    table = Table(box=box.MARKDOWN if plain else box.SIMPLE_HEAD, padding=padding, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for i, summary in enumerate(summaries):
        style = "bold green" if summary.mean.mean == best and not plain else ""
        cells = [Text(values[i], style if heading == MEAN else "") for heading, values in columns.items()]
        table.add_row(summary.method, *cells)
    for method in dict.fromkeys(failed):
        if all(summary.method != method for summary in summaries):
            table.add_row(method, *("failed" if heading == MEAN else "-" for heading in columns))
    return table


def _domains(summaries: Sequence[Summary]) -> dict[str, list[str]]:
    """The error per domain, by heading; nothing if there are too many."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary.domains))
    if len(names) > MOST_COLUMNS:
        return {}
    return {
        heading: [_told(summary.domains.get(name, math.nan), none="") for summary in summaries]
        for heading, name in zip(abbreviate(names), names, strict=True)
    }


def _closing(results: Results, summaries: Sequence[Summary]) -> dict[str, list[str]]:
    """What is told of a whole stream, by heading. Harm is the worst window of the worst seed."""
    calibration = _calibration(results)
    several = any(summary.mean.seeds > 1 for summary in summaries)
    harmed = any("harm" in summary.whole for summary in summaries)
    columns: dict[str, list[str]] = {MEAN: [], WORST: [], HARM: [], "ECE": [], "forget": [], "ms": [], "F": []}
    for summary in summaries:
        whole = {name: spread.mean for name, spread in summary.whole.items()}
        highest = summary.whole["harm"].highest if "harm" in summary.whole else math.nan
        spread = f" ±{summary.mean.std:.1f}" if summary.mean.seeds > 1 else ""
        values = (
            f" {summary.mean.mean:.1f}{spread}",
            _told(summary.mean.highest),
            _told(highest, "+.1f"),
            _told(calibration.get(summary.method, math.nan)),
            _told(whole.get("forgetting", math.nan), "+.1f"),
            _told(1000 * whole.get("seconds_p50", math.nan), ".1f" if whole.get("seconds_p50", 0) < 0.1 else ".0f"),
            _told(whole.get("forward_equivalents", math.nan)),
        )
        for heading, value in zip(columns, values, strict=True):
            columns[heading].append(value)
    left_out = {WORST} - ({WORST} if several else set()) | {HARM} - ({HARM} if harmed else set())
    return {heading: values for heading, values in columns.items() if heading not in left_out}


def _calibration(results: Results) -> dict[str, float]:
    """ECE by method, averaged over domains and seeds as the error is; label maps have none."""
    if not any(row.metric == "ece" for row in results.rows):
        return {}
    return {summary.method: summary.mean.mean for summary in results.summary("ece")}


def _told(value: float, form: str = ".1f", none: str = "-") -> str:
    return none if math.isnan(value) else f"{value:{form}}"


def caption(results: Results, metric: str = ERROR) -> str:
    """What the numbers are: which error, unit, protocol, number of images and of seeds, spread."""
    summaries = results.summary(metric)
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
    spread = f"mean ± standard deviation over {seeds} seeds, and the worst" if seeds > 1 else "no spread from 1 seed"
    which = "Error" if metric == ERROR else "Error averaged over the classes"
    lines = [
        f"{which} in % (lower is better), {severity}, n = {n} images per domain, {row.order} order, batch size"
        f" {row.batch_size}, reset: {row.reset}; {spread}.",
        "ECE: calibration error in %. forget: points of clean error gained on the stream. ms: median milliseconds of a"
        " step. F: forwards + 2 x backwards per image.",
    ]
    ways = {cell["acceleration"] for cell in results.provenance.get("cells", []) if "acceleration" in cell}
    if ways:
        lines.append(f"The networks ran with {', '.join(sorted(ways))}.")
    harmed = [row.n for row in results.rows if row.metric == "harm"]
    if harmed:
        where = (
            "in the worst window of 1,000"
            if min(harmed) >= WINDOW
            else "on the stream (shorter than a window of 1,000)"
        )
        worst = ", worst seed" if seeds > 1 else ""
        lines.insert(1, f"{HARM}: points of error more than the source model on the same images, {where}{worst}.")
    return "\n".join(lines)


class LiveTable(Watch):
    """Shows a benchmark while it runs: on a terminal the growing table and a progress bar, else a line per cell.

    Args:
        console: Where the table goes.
        notes: Where the lines go if `console` is no terminal.
        metric: Which error is shown: "error" or "error_balanced".
    """

    def __init__(self, console: Console, notes: Console, metric: str = ERROR) -> None:
        self.console, self.notes, self.metric = console, notes, metric
        self.results, self.rows = Results(), list[Row]()
        self.failures: dict[Cell, str] = {}
        self.finished, self.reused, self.cells = 0, 0, 0
        self.left: dict[Cell, int] = {}
        self.order: list[Cell] = []
        self.parts: dict[Cell, Results] = {}
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
            self.console.out(caption(self.results, self.metric), highlight=False)

    def begin(self, steps: Mapping[Cell, int]) -> None:
        """Sets the length of the progress bar."""
        self.cells, self.left, self.order = len(steps), dict(steps), list(steps)
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
        self.parts[cell] = results  # workers finish in any order
        self.results = add_harm(Results.merge(self.parts[cell] for cell in self.order if cell in self.parts))
        self.finished += 1
        self.reused += stored
        self.progress.update(self.task, advance=self.left.pop(cell))
        if not self.console.is_terminal:
            summary = results.summary(self.metric)[0]
            what = "kept from an earlier run" if stored else f"{summary.whole['seconds_total'].mean:.0f} s"
            done = self.finished + len(self.failures)
            line = f"{done}/{self.cells} {cell.method} (seed {cell.seed}): error {summary.mean.mean:.1f} %, {what}"
            self.notes.print(line, soft_wrap=True, highlight=False)

    def failed(self, cell: Cell, reason: str) -> None:
        """Remembers the reason."""
        self.rows = []
        self.failures[cell] = reason
        self.progress.update(self.task, advance=self.left.pop(cell))

    def table(self, results: Results) -> RenderableType:
        """The table if it fits the console, else one of the domains and one of the rest, else only the latter."""
        failed = [cell.method for cell in self.failures]
        if not self.console.is_terminal:
            return render(results, failed, plain=True, metric=self.metric)
        table = render(results, failed, metric=self.metric)
        first = render(results, failed, closing=False, metric=self.metric)
        rest = render(results, failed, domains=False, metric=self.metric)
        if self._fits(table):
            return table
        return Group(first, rest) if first.columns[1:] and self._fits(first) else rest

    def _fits(self, table: Table) -> bool:
        return Measurement.get(self.console, self.console.options, table).maximum < self.console.width

    def _screen(self) -> RenderableType:
        rows = [*self.results.rows, *self.rows]
        return Group(self.table(Results(rows)), self.progress) if rows else self.progress
