"""The report as one page that opens offline: no request, no framework, everything that a user named escaped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tta.reporting.figures import CHARTS, label, pictures, require
from tta.reporting.glossary import glossary
from tta.reporting.words import (
    Terms,
    number,
    plain,
    short,
    signed,
    source_range,
    stream_n,
    terms,
    thousands,
    unrun,
    words,
)

if TYPE_CHECKING:
    from markupsafe import Markup

#: Ends of the scale of errors and of differences, as red, green and blue: dark for many errors, blue for gain, orange
#: for harm. Both can be told apart by those who do not see red and green.
PALE, DARK = (255, 247, 224), (59, 15, 112)
MIDDLE = (224, 96, 80)
GAIN, HARM = (0, 114, 178), (213, 94, 0)


def render_html(content: dict[str, Any], examples: dict[str, Any]) -> str:
    """The page.

    Args:
        content: Of the report.
        examples: As the content's, with a `png` in base64 per cell; without pictures where there are none.

    Raises:
        TTAError: jinja2 or matplotlib is not installed.
    """
    require("jinja2", "the page of a report")
    import jinja2
    from markupsafe import Markup

    charts = pictures(content)
    # StrictUndefined: a name that does not exist is our mistake, and no gap in the page.
    around = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    around.filters |= {
        "number": number, "signed": signed, "thousands": thousands, "words": words, "short": short, "plain": plain,
        "json": lambda value: json.dumps(value, indent=1), "picture": _picture(Markup),
    }  # fmt: skip
    css, js, page = (_part(name) for name in ("page.css", "page.js", "page.html"))
    cells = sorted(content["robustness"]["grid"], key=lambda one: -one["error"])
    return around.from_string(page).render(
        c=content, t=terms(content), charts={name: charts.get(name) for name in CHARTS},
        css=css, js=js, script_hash=base64.b64encode(hashlib.sha256(js.encode()).digest()).decode(),
        error_name=label(content), worst_cells=cells, heat=heat(content, examples), gallery=gallery(content, examples),
        columns=content["protocol"]["streams"], matrix=matrix(content), source_range=source_range(content),
        stream_n=stream_n(content), reasons=unrun(content), glossary=glossary(content),
    )  # fmt: skip


def _part(name: str) -> str:
    return (files("tta.reporting") / "page" / name).read_text(encoding="utf-8")


def _place(one: dict[str, Any]) -> str:
    """The id of an example, made of nothing that a user named."""
    return f"example-{one['number']}"


def gallery(content: dict[str, Any], examples: dict[str, Any]) -> list[dict[str, Any]]:
    """The examples that have a picture, numbered: clean, then by falling severity, the worst corruptions first."""
    errors = {(one["corruption"], one["severity"]): one["error"] for one in content["robustness"]["grid"]}
    t = terms(content)
    shown = [
        one | {"number": number, "title": _title(one, t)}
        for number, one in enumerate(examples["cells"])
        if "png" in one
    ]
    clean = [one for one in shown if one["corruption"] == "clean"]
    rest = [one for one in shown if one["corruption"] != "clean"]
    return clean + sorted(rest, key=lambda one: (-one["severity"], -errors[one["corruption"], one["severity"]]))


def _title(one: dict[str, Any], t: Terms) -> str:
    """What an example is of."""
    if one["corruption"] == "clean":
        return t.clean
    return words(one["corruption"]) + ("" if t.natural else f" {one['severity']:g}")


def _picture(markup: type[Markup]) -> Callable[[dict[str, Any]], Markup]:
    """The filter that makes a figure of an example; `markup` escapes what is put into it."""

    def picture(one: dict[str, Any]) -> Markup:
        title = one["title"]
        answer = f"{one['prediction']} ({one['confidence']:.0f} %)"
        return markup(
            '<figure id="{}"><img src="data:image/png;base64,{}" alt="{}">'
            "<figcaption><b>{}</b><br>{} {}</figcaption></figure>"
        ).format(_place(one), one["png"], f"example: {title}", title, "✓" if one["right"] else "✗", answer)

    return picture


def heat(content: dict[str, Any], examples: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the heat map."""
    shown = {(one["corruption"], one["severity"]): _place(one) for one in gallery(content, examples)}
    found = []
    rows = content["robustness"]["corruptions"]
    for row in sorted(rows, key=lambda one: -one["error"]) if terms(content).natural else rows:
        cells = [one for one in content["robustness"]["grid"] if one["corruption"] == row["corruption"]]
        found.append(
            row
            | {
                "cells": [
                    one
                    | {"style": _heat_style(one["error"]), "example": shown.get((one["corruption"], one["severity"]))}
                    for one in cells
                ]
            }
        )
    return found


def _heat_style(error: float) -> str:
    """Background and ink of an error in %: by way of a middle colour, darker with every step."""
    share = min(1.0, max(0.0, error / 100))
    low, high, part = (PALE, MIDDLE, share * 2) if share < 0.5 else (MIDDLE, DARK, share * 2 - 1)
    colour = tuple(round(a + (b - a) * part) for a, b in zip(low, high, strict=True))
    # The ink with the higher contrast: relative luminance as in WCAG 2.
    light = sum(
        weight * ((v / 255 + 0.055) / 1.055) ** 2.4 for weight, v in zip((0.2126, 0.7152, 0.0722), colour, strict=True)
    )
    ink = "#000" if light > 0.18 else "#fff"
    return f"background:rgb{colour};color:{ink}".replace(" ", "")


def matrix(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the matrix: streams, with a cell per method, for there are more streams than methods."""
    entries = {(one["stream"], one["batch_size"], one["method"]): one for one in content["adaptation"]["entries"]}
    methods = [one["method"] for one in content["adaptation"]["methods"] if one["method"] != "source"]
    return [
        column
        | {
            "source": entries[column["stream"], column["batch_size"], "source"]["error"],
            "cells": [_cell(entries[column["stream"], column["batch_size"], name]) for name in methods],
        }
        for column in content["protocol"]["streams"]
    ]


def _cell(entry: dict[str, Any]) -> dict[str, Any]:
    """A difference with its colour, the stronger the larger."""
    difference = entry["difference"]
    if entry["failed"]:
        return {
            "difference": None,
            "style": "",
            "title": entry["failed"],
            "text": "–" if entry["refused"] else "failed",
        }
    colour = GAIN if difference < 0 else HARM
    strength = 0.6 * min(1.0, abs(difference) / 30) ** 0.5
    sure = entry["low"] > 0 or entry["high"] < 0
    style = f"background:rgba({colour[0]},{colour[1]},{colour[2]},{strength:.2f})" + (
        ";font-weight:700" if sure else ""
    )
    title = (
        f"95 %: {signed(entry['low'])} to {signed(entry['high'])}; error {number(entry['error'])} %, source"
        f" {number(entry['source_error'])} %; flips {number(entry['negative_flips'])} % to wrong,"
        f" {number(entry['positive_flips'])} % to right; n = {entry['n']}"
    )
    return {"difference": difference, "style": style, "title": title, "text": signed(difference)}
