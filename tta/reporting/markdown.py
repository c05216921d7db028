"""The report as Markdown: the same numbers in tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tta.reporting.figures import label
from tta.reporting.glossary import glossary
from tta.reporting.words import number, plain, short, signed, source_range, stream_n, terms, thousands, unrun, words

LEVELS = {"act": "Act", "know": "Know", "fine": "Fine"}


def render_markdown(content: dict[str, Any]) -> str:
    """The report as GitHub Markdown.

    Args:
        content: Of the report.
    """
    model, data = content["model"], content["data"]
    parts = [
        f"# Robustness of {inline(short(model['name']))} on {inline(data['name'])}",
        f"{thousands(data['n'])} images, {data['classes']} classes, profile {content['protocol']['profile']}."
        f" {label(content)}s in %, with 95 % bootstrap intervals over images in brackets.",
        "## How robust is this model?", *_robust(content),
        "## Where does it break?", *_breaks(content),
        "## Can its confidence be trusted?", *_confidence(content),
        "## Would test-time adaptation help?", *_adaptation(content),
        "## What should I do?", *_advice(content),
        "## How was this made?", *_made(content),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def inline(text: object) -> str:
    """Text in Markdown that stays text: no markup, no HTML, one line.

    >>> inline("<b>a_b|c</b>")
    '&lt;b&gt;a\\\\_b\\\\|c&lt;/b&gt;'
    """
    plain_text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#!$~" else c for c in plain_text)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column to the left, the others to the right. Cells are escaped."""
    lines = [
        "| " + " | ".join(inline(head) for head in heads) + " |",
        "|" + "|".join([":--"] + ["--:"] * (len(heads) - 1)) + "|",
    ]
    lines += ["| " + " | ".join(inline(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _interval(one: dict[str, Any]) -> str:
    if one["low"] is None:  # a class with a single image
        return number(one["error"])
    return f"{number(one['error'])} ({number(one['low'])} to {number(one['high'])})"


def _robust(content: dict[str, Any]) -> list[str]:
    told, mce, t = content["robustness"], content["mce"], terms(content)
    clean, shifted = told["clean"], told["corrupted"]
    pairs = t.shifts if t.natural else "pairs of corruption and severity"
    rows = [
        (t.clean, _interval(clean), thousands(clean["n"])),
        (f"mean over {shifted['cells']} {pairs}", _interval(shifted), thousands(shifted["n"])),
    ]
    found = [table(("images", label(content), "n"), rows)]
    baseline = f"relative to {mce['baseline']}" if mce["baseline"] else mce["note"]
    found.append(f"Mean corruption error (mCE): {number(mce['mce'])} ({inline(baseline)}).")
    for other in content["comparisons"]:
        found.append(f"### Beside {inline(short(other['model']))} ({inline(other['data'])})")
        lines = [
            (
                words(one["what"]), number(one["ours"]), number(one["theirs"]), signed(one["difference"]),
                "–" if one["low"] is None else f"{signed(one['low'])} to {signed(one['high'])}", thousands(one["n"]),
            )
            for one in other["lines"]
        ]  # fmt: skip
        found.append(table(("what", "this model", short(other["model"]), "difference", "95 %", "n"), lines))
        found.append("Paired: both answered the same images." if other["paired"] else f"{other['note']}.")
    return found


def _breaks(content: dict[str, Any]) -> list[str]:
    shift, t = content["shift"], terms(content)
    moved = (
        f"{number(shift['adversarial_flip_rate'])} % of the {t.clean_images} are turned into another class by at least"
        f" one of {shift['shifts']} shifts; {number(shift['mean_flip_rate'])} % of all shifted images get another"
        f" answer (n = {thousands(shift['n'])})."
    )
    return [
        *(_domains(content) if t.natural else _corruptions(content)),
        "### Worst classes",
        table(
            ("class", t.under, t.clean, "most often taken for", "images"),
            [
                (
                    one["name"], _interval(one), number(one["clean_error"]),
                    _taken(one), one["images"],
                )
                for one in content["classes"][:10]
            ],
        ),
        *([] if t.natural else _worst_cells(content)),
        "### When the camera moves by a pixel",
        moved,
    ]  # fmt: skip


def _domains(content: dict[str, Any]) -> list[str]:
    """A line for each natural domain."""
    told = content["robustness"]
    cells = {one["corruption"]: one for one in told["grid"]}
    rows = [
        (words(row["corruption"]), _interval(row), number(cells[row["corruption"]]["ece"]), thousands(row["n"]))
        for row in sorted(told["corruptions"], key=lambda one: -one["error"])
    ]
    return [table(("domain", label(content), "calibration error", "n"), rows)]


def _corruptions(content: dict[str, Any]) -> list[str]:
    """A line for each corruption, a column for each severity."""
    severities, told = content["protocol"]["severities"], content["robustness"]
    cells = {(one["corruption"], one["severity"]): one for one in told["grid"]}
    heads = ("corruption", "family", *(f"severity {plain(one)}" for one in severities), "mean")
    rows = [
        (
            words(row["corruption"]), row["family"],
            *(number(cells[row["corruption"], severity]["error"]) for severity in severities), _interval(row),
        )
        for row in told["corruptions"]
    ]  # fmt: skip
    return [table(heads, rows), f"n = {thousands(content['data']['n'])} images in every cell."]


def _worst_cells(content: dict[str, Any]) -> list[str]:
    worst = sorted(content["robustness"]["grid"], key=lambda one: -one["error"])[:8]
    return [
        "### Worst single cells",
        table(
            ("corruption", "severity", label(content), "calibration error", "n"),
            [
                (words(one["corruption"]), plain(one["severity"]), _interval(one), number(one["ece"]), one["n"])
                for one in worst
            ],
        ),
    ]


def _taken(one: dict[str, Any]) -> str:
    return "–" if one["taken_for"] is None else f"{one['taken_for']} ({one['taken_share']:.0f} %)"


def _confidence(content: dict[str, Any]) -> list[str]:
    told = content["confidence"]
    scaled = told["temperature"]
    t = terms(content)
    sides = ((t.clean, "clean"), (t.shifted, "shifted"))
    heads = ("images", "error", "mean confidence", "calibration error", "NLL (nats)", "Brier", "AURC",
             "coverage at 5 % risk", "n")  # fmt: skip
    rows = [
        (
            name, number(one["error"]), number(one["confidence"]), number(one["ece"]), number(one["nll"], 2),
            number(one["brier"], 2), number(one["aurc"]), number(one["coverage_at_5_risk"]), thousands(one["n"]),
        )
        for name, one in ((name, told[side]) for name, side in sides)
    ]  # fmt: skip
    after = [
        (
            name, number(one["ece_before"]), number(one["ece_after"]), number(one["nll_before"], 2),
            number(one["nll_after"], 2), thousands(one["n"]),
        )
        for name, one in ((name, scaled[side]) for name, side in sides)
    ]  # fmt: skip
    bins = [
        (name, f"{one['low']:.0f} to {one['high']:.0f}", number(one["confidence"]), number(one["accuracy"]), one["n"])
        for name, side in sides
        for one in told[side]["bins"]
    ]
    return [
        table(heads, rows),
        f"Temperature {number(scaled['temperature'], 2)}, fitted on {scaled['fitted_on']} {inline(t.clean_images)}"
        f" ({scaled['mistakes']} of them answered wrongly), measured on the other images:",
        table(("images", "ECE before", "ECE after", "NLL before", "NLL after", "n"), after),
        "Reliability:",
        table(("images", "bin", "confidence", "accuracy", "n"), bins),
    ]


def _adaptation(content: dict[str, Any]) -> list[str]:
    told = content["adaptation"]
    columns = content["protocol"]["streams"]
    heads = ("method", *(f"{one['stream']}, {one['batch_size']}" for one in columns), "mean", "harm rate", "F", "ms")
    rows = []
    for one in told["methods"]:
        if one["method"] == "source":
            continue
        entries = [entry for entry in told["entries"] if entry["method"] == one["method"]]
        values = [
            ("–" if entry["refused"] else "failed") if entry["failed"] else signed(entry["difference"])
            for entry in entries
        ]
        rate = "–" if one["harm_rate"] is None else f"{one['harm_rate']:.0f} %"
        costs = number(one["forward_equivalents"]), number(one["milliseconds_per_image"], 2)
        rows.append((one["method"], *values, signed(one["difference"]), rate, *costs))
    remarks = "".join(f" {inline(reason)}." for reason in unrun(content))
    return [
        "Points of error against the source model on the same images; negative is a gain, positive is harm. Columns:"
        " stream and batch size; F: forward-equivalents per image; ms: measured milliseconds per image.",
        table(heads, rows),
        "; ".join(f"{name}: {line}" for name, line in glossary(content)["streams"].items()) + ".",
        f"Source model: {source_range(content)}. n = {stream_n(content)} images per stream and seed,"
        f" {len(content['protocol']['seeds'])} seed(s).{remarks}",
    ]


def _advice(content: dict[str, Any]) -> list[str]:
    return [
        "\n".join(
            f"- **{LEVELS[one['level']]}.** {inline(one['text'])} Because: {inline(one['because'])}."
            f" *{inline(one['limits'])}*"
            for one in content["advice"]
        )
    ]


def _made(content: dict[str, Any]) -> list[str]:
    model, data, protocol, made = (content[key] for key in ("model", "data", "protocol", "provenance"))
    around, t = made["environments"][0], terms(content)
    names = f"{t.shift}s: {', '.join(inline(words(one)) for one in protocol['corruptions'])};"
    if t.natural:
        names += f" reference: {inline(t.clean)}"
    else:
        names += f" severities {', '.join(plain(one) for one in protocol['severities'])};"
        names += f" {'read from files' if protocol['stored'] else 'computed'}"
    lines = [
        f"- model: {inline(model['name'])}; {inline(model['preprocessing'])}; weights SHA-256 {model['sha256']}",
        f"- data: {inline(data['name'])}, {thousands(data['n'])} images, fingerprint {data['fingerprint']}",
        f"- {names}",
        f"- streams of {', '.join(inline(words(one)) for one in protocol['stream_corruptions'])}"
        f"{'' if t.natural else ' at severity ' + plain(protocol['stream_severity'])};"
        f" seeds {', '.join(str(one) for one in protocol['seeds'])}",
        f"- {made['cells']} cells, from {made['first']} to {made['last']}",
    ]
    told = json.dumps(around, indent=1)
    return ["\n".join(lines), f"```\n{around['command']}\n```", f"```json\n{told}\n```"]
