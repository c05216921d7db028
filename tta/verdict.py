"""Verdicts: whether a measured error is the published one, and how that came about."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tta import files
from tta.errors import TTAError
from tta.ledger import ALIKE, SAME, Entry

#: What a verdict can be.
MATCH = "match"
DEVIATION = "deviation"
DISPUTED = "disputed"
NOT_PUBLISHED = "not the published protocol"
FAILED = "failed"
MISSING = "missing"
#: Version of the JSON layout.
SCHEMA = 1


@dataclass(frozen=True)
class Verdict:
    """What became of one entry of the ledger.

    Attributes:
        id: Of the entry.
        verdict: "match"; "deviation"; "disputed", a deviation that agrees with another source; "not the published
            protocol", which nothing can match; "failed", if the method refused or diverged; "missing", if it could not
            be run.
        published: Error in %.
        tolerance: In points.
        source: Tag of the source.
        others: What other sources have.
        method: With its preset.
        protocol: In words.
        remarks: What is missing, what differs from the published protocol, which sources disagree.
        measured: Error in %, averaged over visits and seeds; None if it was not measured.
        difference: Measured less published, in points.
        spread: Standard deviation over the seeds; None for fewer than two.
        n: Images per seed.
        seeds: Those that were run.
        model: Specification of the source model.
        checkpoint: SHA-256 of its weights, as loaded.
        commit: Of this code; "+" after it if files had been changed.
        versions: Of the software.
        date: When the first seed was run.
    """

    id: str
    verdict: str
    published: float
    tolerance: float
    source: str
    others: Mapping[str, float]
    method: str
    protocol: str
    remarks: tuple[str, ...] = ()
    measured: float | None = None
    difference: float | None = None
    spread: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    model: str = ""
    checkpoint: str = ""
    commit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""

    @classmethod
    def of(cls, entry: Entry, verdict: str, remarks: Sequence[str] = (), **measured: Any) -> Verdict:
        """A verdict on an entry."""
        return cls(
            entry.id, verdict, entry.error, entry.tolerance, entry.source, dict(entry.others), entry.method,
            str(entry.protocol), (*remarks, *([entry.note] if entry.note else ())), **measured,
        )  # fmt: skip


def judge(entry: Entry, measured: float, unlike: Sequence[str] = ()) -> tuple[str, list[str]]:
    """The verdict on a measured error, and remarks.

    The measured error is rounded to a tenth, as the published one is. It matches if it differs by no more than the
    tolerance of the entry, and if nothing in the run was unlike the published protocol.

    Args:
        entry: The published value.
        measured: Error in %.
        unlike: What was unlike the published protocol.
    """
    rounded = round(measured, 1)
    remarks = list(unlike)
    values = {entry.source: entry.error, **entry.others}
    if any(abs(other - entry.error) > ALIKE for other in entry.others.values()):
        told = ", ".join(f"{value:g} ({tag})" for tag, value in values.items())
        remarks.append(f"the sources disagree by {max(values.values()) - min(values.values()):.1f} points: {told}")
    if unlike:
        return NOT_PUBLISHED, remarks
    if _within(rounded, entry.error, entry.tolerance):
        return MATCH, remarks
    agreeing = [f"{value:g} ({tag})" for tag, value in entry.others.items() if _within(rounded, value, SAME)]
    if agreeing:
        return DISPUTED, [*remarks, f"agrees with {', '.join(agreeing)}"]
    return DEVIATION, remarks


def _within(a: float, b: float, points: float) -> bool:
    return round(abs(a - b), 2) <= points  # 16.2 - 15.7 is a little more than 0.5


def keep(verdicts: Iterable[Verdict], out: Path) -> None:
    """Adds verdicts to reproduction.json and reproduction.csv in a folder; a new one on an entry replaces the old one.

    What could not be run now does not replace what was once measured.

    Raises:
        TTAError: The folder cannot be made, or holds a reproduction.json of something else.
    """
    file = files.folder(out, "the output folder") / "reproduction.json"
    known = {row["id"]: row for row in _read(file)}
    for verdict in verdicts:
        if verdict.verdict != MISSING or known.get(verdict.id, {}).get("measured") is None:
            known[verdict.id] = json.loads(json.dumps(asdict(verdict)))
    rows = list(known.values())
    files.write(file, json.dumps({"schema": SCHEMA, "verdicts": rows}, indent=1) + "\n")
    text = io.StringIO()
    names = [entry.name for entry in fields(Verdict)]
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows({name: _flat(row[name]) for name in names} for row in rows)
    files.write(file.with_suffix(".csv"), text.getvalue())


def _read(file: Path) -> list[dict[str, Any]]:
    """The rows of a reproduction.json; none if it is not there."""
    if not file.is_file():
        return []
    try:
        content, names = json.loads(file.read_text()), {entry.name for entry in fields(Verdict)}
        if content["schema"] != SCHEMA or any(set(row) != names for row in content["verdicts"]):
            raise KeyError("schema")
        return list(content["verdicts"])
    except (ValueError, KeyError, TypeError) as error:
        raise TTAError(f"{file} holds no verdicts of this version ({error}); give another --out") from error


def _flat(value: Any) -> Any:
    """A cell of the CSV: lists and mappings in one."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {item}" for key, item in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else value
