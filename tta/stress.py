"""The stress matrix: methods x streams x batch sizes, every one beside the source model on the same images.

The best method of one stream is the worst of the next. The matrix shows where a method gains and where it harms.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tta.cells import Cell
from tta.files import write
from tta.results import Results

#: The streams of `tta stress` if it is not told others. Not among them, for what they take: gradual (nine visits per
#: domain), ccc (the source model is measured on pairs of corruptions), ood (needs pictures of something else), and the
#: stealthier poisons, which on short streams do less harm than this one.
STREAMS = (
    "continual",
    "continual+reset:domain",
    "mixed",
    "recurring:3",
    "continual+sorted",
    "continual+dirichlet:0.1",
    "mixed+dirichlet:0.1",
    "continual+long_tailed:20",
    "continual+noise:0.2",
    "continual+poison_dia:0.2",
)
BATCH_SIZES = (1, 10, 64, 200)
#: A method harms a stream if its error is higher than the source model's by more than so many points.
MARGIN = 1.0


@dataclass(frozen=True)
class Entry:
    """A method in one scenario beside the source model, averaged over seeds.

    Attributes:
        method: Its name.
        stream: Name of the stream, with the reset policy if there is one.
        batch_size: Images per batch.
        error: Error in % over all images of the stream.
        source_error: That of the source model.
        difference: Points worse than the source model; negative is a gain.
        spread: Standard deviation of the difference over seeds; NaN for one seed.
        worst_seed: The highest difference of a seed.
        harm: Points worse in the worst window of 1,000 images (see `tta.harm`), the highest of the seeds.
        ece: Calibration error in %.
        forward_equivalents: Forwards and twice the backwards, per image.
        seconds: Median seconds of a step.
        n: Scored images per seed.
        seeds: Number of seeds.
        failed: Why there are no numbers; empty if there are.
        refused: Whether that is because the method cannot run on the model.
    """

    method: str
    stream: str
    batch_size: int
    error: float = math.nan
    source_error: float = math.nan
    difference: float = math.nan
    spread: float = math.nan
    worst_seed: float = math.nan
    harm: float = math.nan
    ece: float = math.nan
    forward_equivalents: float = math.nan
    seconds: float = math.nan
    n: int = 0
    seeds: int = 0
    failed: str = ""
    refused: bool = False


def matrix(cells: Sequence[Cell], results: Results) -> list[Entry]:
    """The entries of a stress matrix, in the order of the cells.

    Args:
        cells: With scenarios, those of the method "source" among them.
        results: Of `run_cells` on them.
    """
    whole: dict[tuple[str, str, int, str, int], dict[str, float]] = {}
    counts: dict[tuple[str, str, int, str, int], int] = {}
    for row in results.rows:
        if row.position < 0:
            place = (row.method, row.order, row.batch_size, row.reset, row.seed)
            whole.setdefault(place, {})[row.metric] = row.value
            counts[place] = row.n if row.metric == "error" else counts.get(place, 0)
    ended = {entry["cell"]: entry for entry in results.provenance["cells"] if "failed" in entry}
    groups: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        assert cell.scenario is not None
        groups.setdefault((cell.method, cell.scenario.name, cell.scenario.batch_size), []).append(cell)
    entries = []
    for (name, stream, size), group in groups.items():
        failed = [ended[str(cell)] for cell in group if str(cell) in ended]
        if failed:
            reason, refused = failed[0]["failed"], bool(failed[0].get("refused"))
            entries.append(Entry(name, stream, size, failed=reason, refused=refused))
            continue
        ours = [whole[_place(cell)] for cell in group]
        theirs = [whole.get(_place(cell, "source"), {}).get("error", math.nan) for cell in group]
        differences = [one["error"] - source for one, source in zip(ours, theirs, strict=True)]
        harms = [one.get("harm", 0.0 if name == "source" else math.nan) for one in ours]
        n, seeds = counts[_place(group[0])], len(group)
        spread = statistics.stdev(differences) if seeds > 1 else math.nan
        entries.append(
            Entry(
                name, stream, size, n=n, seeds=seeds, error=_mean(ours, "error"), source_error=statistics.fmean(theirs),
                difference=statistics.fmean(differences), spread=spread, worst_seed=max(differences), harm=max(harms),
                ece=_mean(ours, "ece"), forward_equivalents=_mean(ours, "forward_equivalents"),
                seconds=_mean(ours, "seconds_p50"),
            )
        )  # fmt: skip
    return entries


def harm_rate(entries: Sequence[Entry]) -> float:
    """Share of the scenarios in which a method harms, in %; one in which it diverged or raised counts.

    NaN if it ran in none, for want of what it needs.
    """
    ran = [entry for entry in entries if not entry.refused]
    if not ran:
        return math.nan
    return 100 * sum(bool(entry.failed) or entry.difference > MARGIN for entry in ran) / len(ran)


def render(entries: Sequence[Entry]) -> Table:
    """The heat map: a line per method and batch size, a column per stream, the source model as zero."""
    streams = list(dict.fromkeys(entry.stream for entry in entries))
    methods = list(dict.fromkeys(entry.method for entry in entries))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("  batch ", justify="right")
    for stream in streams:
        table.add_column(stream.removeprefix("continual+").replace("+", "\n+"), justify="right", min_width=7)
    table.add_column("  mean", justify="right")
    table.add_column(" harm\n rate", justify="right")
    for name in methods:
        if name == "source":
            continue
        own = [entry for entry in entries if entry.method == name]
        sizes = list(dict.fromkeys(entry.batch_size for entry in own))
        if math.isnan(harm_rate(own)):  # it ran nowhere: one line
            table.add_row(name, "", *["-"] * len(streams), "-", "-")
            continue
        for size in sizes:
            line = {entry.stream: entry for entry in own if entry.batch_size == size}
            known = [entry.difference for entry in line.values() if not entry.failed]
            last = size == sizes[-1]
            table.add_row(
                name if size == sizes[0] else "",
                f"{size} ",
                *(_coloured(line.get(stream)) for stream in streams),
                f"{statistics.fmean(known):+.1f}" if known else "-",
                f"{harm_rate(own):.0f} %" if size == sizes[0] else "",
                end_section=last,
            )
    return table


def caption(entries: Sequence[Entry]) -> str:
    """What the numbers are, and why methods have none."""
    known = [entry for entry in entries if not entry.failed]
    counts = sorted({entry.n for entry in known})
    n = "-".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "0"
    seeds = max((entry.seeds for entry in known), default=0)
    sources = [entry.error for entry in known if entry.method == "source"]
    source = f"{min(sources):.1f} to {max(sources):.1f} %" if sources else "unknown"
    lines = [
        f"Points of error against the source model ({source}) on the same images: negative is a gain, positive is harm."
        f" n = {n} images per stream, {seeds} seed{'' if seeds == 1 else 's'}{'' if seeds > 1 else ' (no spread)'}.",
        f"harm rate: share of the scenarios that end more than {MARGIN:g} point worse than the source model.",
    ]
    reasons = dict.fromkeys((entry.method, entry.failed) for entry in entries if entry.failed)
    lines += [f"x {reason if reason.startswith(name) else f'{name}: {reason}'}" for name, reason in reasons]
    return "\n".join(lines)


def write_matrix(entries: Sequence[Entry], out: Path) -> None:
    """Writes stress.json, stress.csv and the picture stress.svg, atomically."""
    rows = [asdict(entry) for entry in entries]
    plain = [{k: None if v != v else v for k, v in row.items()} for row in rows]
    rates = {
        name: None if math.isnan(rate) else rate
        for name in dict.fromkeys(entry.method for entry in entries)
        if (rate := harm_rate([entry for entry in entries if entry.method == name])) is not None
    }
    content = {"schema": 1, "margin": MARGIN, "harm_rate": rates, "entries": plain}
    write(out / "stress.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Entry)], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(out / "stress.csv", text.getvalue())
    write(out / "stress.svg", picture(entries))


def picture(entries: Sequence[Entry]) -> str:
    """The heat map as an SVG picture that asks nobody for fonts."""
    import re

    console = Console(record=True, width=160, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(render(entries))
    console.print(caption(entries), style="dim")
    return re.sub(r"@font-face \{.*?\}\n", "", console.export_svg(title="tta stress"), flags=re.DOTALL)


def _coloured(entry: Entry | None) -> Text:
    """A difference on green for gain or red for harm, the stronger the larger."""
    if entry is None:
        return Text("")
    if entry.failed:
        return Text("x", style="bold white on rgb(90,0,60)")
    strength = min(1.0, abs(entry.difference) / 30) ** 0.5
    low, high = round(245 - 195 * strength), round(245 - 85 * strength)
    red, green, blue = (high, low, low) if entry.difference > 0 else (low, high, low)
    ink = "white" if strength > 0.6 else "black"
    style = f"{ink} on rgb({red},{green},{blue})" if abs(entry.difference) >= 0.05 else ""
    return Text(f" {entry.difference:+.1f}", style=style)


def _place(cell: Cell, name: str | None = None) -> tuple[str, str, int, str, int]:
    assert cell.scenario is not None
    return (name or cell.method, cell.scenario.stream, cell.scenario.batch_size, cell.scenario.reset, cell.seed)


def _mean(rows: Sequence[dict[str, float]], metric: str) -> float:
    return statistics.fmean(row.get(metric, math.nan) for row in rows)
