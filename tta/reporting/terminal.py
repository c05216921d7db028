"""The report on one screen."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tta.reporting.figures import label
from tta.reporting.words import number, plain, short, signed, terms, thousands, words

#: Corruptions and methods that are shown.
LINES = 6
MARKS = {"act": ("!", "bold dark_orange"), "know": ("i", "bold cyan"), "fine": ("✓", "bold green")}


def summary(content: dict[str, Any]) -> RenderableType:
    """What matters most: the headline, the worst corruptions, the best methods, and what to do."""
    told, shift, t = content["robustness"], content["shift"], terms(content)
    clean, shifted = told["clean"], told["corrupted"]
    confidence = content["confidence"]
    head = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    head.add_column(style="bold")
    ece = f"{number(confidence['clean']['ece'])} / {number(confidence['shifted']['ece'])} %"
    for name, value, note in (
        (f"{label(content)}, {t.clean}", f"{number(clean['error'])} %", _range(clean)),
        (
            f"{label(content)}, {t.shifted}",
            f"{number(shifted['error'])} %",
            _range(shifted),
        ),
        ("Calibration error", ece, f"{t.clean} / {t.shifted}"),
        ("Flips under a pixel's shift", f"{number(shift['adversarial_flip_rate'])} %", f"n = {thousands(shift['n'])}"),
    ):
        head.add_row(name, Text(value), Text(note, style="dim"))
    about = f"{short(content['model']['name'])} on {content['data']['name']}"
    each = "" if t.natural else " per cell"
    title = Text(f"{about}, n = {thousands(content['data']['n'])} images{each}", style="bold underline")
    beside = Table(box=None, show_header=False, padding=(0, 4, 0, 0))
    beside.add_row(_worst(content), _methods(content))
    return Group(title, head, Text(""), beside, Text(""), _advice(content))


def _range(one: dict[str, Any]) -> str:
    return f"{number(one['low'])} to {number(one['high'])}"


def _worst(content: dict[str, Any]) -> Table:
    rows = sorted(content["robustness"]["corruptions"], key=lambda one: -one["error"])[:LINES]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column(f"worst {terms(content).shift}s")
    table.add_column("error", justify="right")
    table.add_column("95 %", justify="right", style="dim")
    for row in rows:
        table.add_row(Text(words(row["corruption"])), number(row["error"]), _range(row))
    return table


def _methods(content: dict[str, Any]) -> Table:
    known = [one for one in content["adaptation"]["methods"] if one["ran"] and one["method"] != "source"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for heading in ("adaptation", "points", "worst", "harm rate", "F"):
        table.add_column(heading, justify="left" if heading == "adaptation" else "right")
    for one in sorted(known, key=lambda one: one["difference"])[:LINES]:
        table.add_row(
            Text(one["method"]), signed(one["difference"]), signed(one["worst"]), f"{one['harm_rate']:.0f} %",
            plain(round(one["forward_equivalents"], 1)),
        )  # fmt: skip
    return table


def _advice(content: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for one in content["advice"]:
        mark, style = MARKS[one["level"]]
        table.add_row(Text(mark, style=style), Text(one["text"]))
    return table
