"""The table of `perf_guard.py`, and which bars are met."""

from collections.abc import Sequence
from typing import Any

#: Title and key of every column of numbers, and its decimals.
COLUMNS = (
    ("n", "n", 0), ("source", "source", 1), ("alone", "alone", 1), ("guarded", "guarded", 1),
    ("harm alone", "harm_alone", 1), ("harm guarded", "harm_guarded", 1), ("windows harmed %", "windows_harmed", 0),
    ("gain kept %", "gain_kept", 0), ("cost passes %", "cost_passes", 1), ("with answers %", "cost_with_answers", 1),
    ("seconds %", "cost_seconds", 0), ("by source %", "by_source", 0),
    ("doubt", "doubt", 1), ("doubt, classes together", "doubt_ordered", 1), ("looks", "looks", 0),
    ("resets", "resets", 0),
)  # fmt: skip


def markdown(rows: Sequence[dict[str, Any]], head: str) -> str:
    """The cells as Markdown tables, one for each model and kind of source data, with the bars.

    Args:
        rows: Of cells.jsonl.
        head: A line above.
    """
    text = ["# The guard over the stress matrix", "", head, ""]
    for model, data in dict.fromkeys((row["model"], row["source_data"]) for row in rows):
        own = [row for row in rows if (row["model"], row["source_data"]) == (model, data)]
        text += [
            f"## {model}, {data} images as source data",
            "",
            "| stream | method | " + " | ".join(title for title, _, _ in COLUMNS) + " |",
        ]
        text += ["|---|---|" + "---:|" * len(COLUMNS)]
        for row in own:
            numbers = (_number(row[key], digits) for _, key, digits in COLUMNS)
            stream = row["stream"] if row["domains"] == "common" else f"{row['stream']}, {row['domains']}"
            text.append(f"| {stream} | {_named(row)} | " + " | ".join(numbers) + " |")
        text += ["", *bars(own), ""]
    return "\n".join(text)


def bars(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How many cells of a model meet each bar."""
    kept = [row["gain_kept"] for row in rows if row["gain_kept"] == row["gain_kept"]]
    lines = [
        f"- At most 1 point above the source model in every window: guarded {_share(rows, 'harm_guarded', 1)},"
        f" alone {_share(rows, 'harm_alone', 1)}.",
        f"- At least 90 % of a gain of more than 1 point kept: {sum(each >= 90 for each in kept)} of {len(kept)}.",
        f"- At most 10 %: passes {_share(rows, 'cost_passes', 10)}, with the source model's answers"
        f" {_share(rows, 'cost_with_answers', 10)}, seconds {_share(rows, 'cost_seconds', 10)}.",
    ]
    alike = ("method", "settings", "limit", "seed", "domains")
    all_of = {(row["stream"], *(str(row[key]) for key in alike)): row for row in rows}
    for row in rows:
        without = all_of.get((row["stream"].split("+poison")[0], *(str(row[key]) for key in alike)))
        if "+poison" in row["stream"] and without is not None:
            alone, guarded = (row[key] - without[key] for key in ("alone", "guarded"))
            lines.append(
                f"- {row['stream']}, {_named(row)}: the benign users' error rises by {alone:+.1f} points alone,"
                f" {guarded:+.1f} guarded."
            )
    return lines


def _named(row: dict[str, Any]) -> str:
    return str(row["method"]) + "".join(f", {key} {value}" for key, value in row["settings"].items())


def _share(rows: Sequence[dict[str, Any]], key: str, limit: float) -> str:
    told = [row[key] for row in rows if row[key] == row[key]]
    return f"{sum(each <= limit for each in told)} of {len(told)}"


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
