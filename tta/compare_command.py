"""The command `tta compare`: two runs beside each other, on the same images where they have the same."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tta.errors import TTAError

if TYPE_CHECKING:
    from rich.table import Table

    from tta.compare import Line
    from tta.results import Results

COMPARE = """Compare two runs of `tta bench --out`: the difference B - A of every method, with a 95 % interval over the
images and the spread over the seeds. Runs on the same images are compared image by image, whatever else differs
(checkpoint, method, batch size, reset policy, order); of others it is said that they are not.

examples:
  tta compare run-a run-b
  tta compare run-a run-b --metric nll --out difference.json
  tta compare run-a run-a --methods tent=cotta bn=cotta"""


@dataclass(frozen=True)
class Compare:
    """Compare two runs: differences of their methods with intervals, on the same images where they have the same."""

    a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """Output folder of the first run, or its results.json."""
    b: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """The second run; a positive difference means that its value is higher."""
    metric: Annotated[str, tyro.conf.arg(metavar="NAME")] = "error"
    """error, error_balanced, nll or brier, which have an interval; ece, aurc or another one per domain without."""
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME[=NAME] ...")] = ()
    """Methods to compare, tent=cotta for tent of A with cotta of B; all that both have if not given."""
    resamples: Annotated[int, tyro.conf.arg(metavar="N")] = 2000
    """Resamples of the bootstrap."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the comparison as JSON, with the differences by domain."""

    def run(self) -> int:
        """Prints the table."""
        from rich.console import Console

        from tta.compare import compare
        from tta.output import read_output

        if self.resamples < 100:
            raise TTAError(f"--resamples is {self.resamples}; give at least 100")
        first, second = read_output(self.a), read_output(self.b)
        lines = compare(first, second, self.metric, [_pair(name) for name in self.methods], resamples=self.resamples)
        if self.out is not None:
            self._write(self.out, lines)
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(f"A: {self.a}, {_about(first)}\nB: {self.b}, {_about(second)}", highlight=False, soft_wrap=True)
        console.print(render(lines, self.metric))
        console.print(caption(lines, self.metric, self.resamples), highlight=False, soft_wrap=True)
        return 0

    def _write(self, path: Path, lines: Sequence[Line]) -> None:
        from tta.files import write
        from tta.intervals import LEVEL

        about = {"a": str(self.a), "b": str(self.b), "metric": self.metric}
        method = {"resamples": self.resamples, "level": LEVEL, "resampled": "images"}
        content = {**about, **method, "lines": [_plain(line._asdict()) for line in lines]}
        write(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def render(lines: Sequence[Line], metric: str) -> Table:
    """The comparison as a table, a line per method."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method (A = B)")
    for heading in ("A", "B", "B - A", "95 % interval", "n", "seeds", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("images")
    places = len({line.place for line in lines if line.place}) > 1
    digits = 2 if max(abs(value) for line in lines for value in (line.a, line.b)) >= 10 else 3
    for line in lines:
        name = line.first if line.first == line.second else f"{line.first} = {line.second}"
        interval = "-" if math.isnan(line.low) else f"[{line.low:+.{digits}f}, {line.high:+.{digits}f}]"
        table.add_row(
            f"{name} ({line.place})" if places and line.place else name,
            f"{line.a:.{digits}f}",
            f"{line.b:.{digits}f}",
            f"{line.difference:+.{digits}f}",
            interval,
            f"{line.n:,}",
            str(len(line.seeds)),
            "-" if math.isnan(line.spread) else f"{line.spread:.{digits}f}",
            "the same" if line.paired else "not the same",
        )
    return table


def caption(lines: Sequence[Line], metric: str, resamples: int) -> str:
    """What the numbers are, and every remark, with the methods it is about."""
    told = f"{metric}, averaged over visits to domains and over seeds; a negative B - A means that B has less of it."
    if not all(math.isnan(line.low) for line in lines):
        told += (
            f" Interval: {resamples:,} resamples of the images, each with all its answers; other orders and seeds are"
            " not covered."
        )
    told += " n: answers compared. spread: standard deviation of B - A over the seeds."
    remarks: dict[str, list[str]] = {}
    for line in lines:
        if line.note:
            remarks.setdefault(line.note, []).append(line.first)
    return "\n".join([told, *(f"{', '.join(dict.fromkeys(names))}: {note}." for note, names in remarks.items())])


def _pair(name: str) -> tuple[str, str]:
    first, _, second = name.partition("=")
    if not first or (not second and "=" in name):
        raise TTAError(f"--methods {name}: give a method, or a pair like tent=cotta")
    return first, second or first


def _about(results: Results) -> str:
    """Models and protocols of a run in a few words."""
    cells = [entry for entry in results.provenance.get("cells", []) if "failed" not in entry]
    models = {entry["model"]["name"] or "a model without a name" for entry in cells}
    weights = {(entry["model"]["sha256"] or "")[:8] for entry in cells} - {""}
    protocols = results.provenance.get("protocols", {}).values()
    streams = dict.fromkeys(
        f"{one['stream']}, batches of {one['batch_size']}, reset: {one['reset']}" for one in protocols
    )
    seeds = sorted({entry["seed"] for entry in cells})
    told = [" and ".join(sorted(models)) + (f" ({' '.join(sorted(weights))})" if weights else "")]
    told += [*streams] if len(streams) < 3 else [f"{len(streams)} settings"]
    return "; ".join([*told, f"seeds {' '.join(map(str, seeds))}"])


def _plain(value: Any) -> Any:
    """With null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
