"""The command `tta reproduce`: published values beside what comes out here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import tyro

from tta.commands import BAD_INPUT, INTERRUPTED, OK, complain, print_columns
from tta.errors import TTAError
from tta.setup import File, Folder, Name, Number

if TYPE_CHECKING:
    from tta.ledger import Entry, Ledger
    from tta.reproduction_files import Places
    from tta.verdict import Verdict

REPRODUCE = """Run the exact protocol of published values, and say of each: match, deviation, or what is missing. Alone,
it lists the published values with their sources.

Exit code: 0 if all match, 3 if one does not or was not run as published, else 2 if data or weights are missing or the
input cannot be used; 130 after Ctrl-C.

examples:
  tta reproduce
  tta reproduce cifar10-c/cotta --data DIR
  tta reproduce "cifar10-c/*" --data DIR --stored DIR --weights Standard.pt --out reproduction
  tta reproduce cifar10-c/bn --data DIR --limit 1000"""
DEVIATED = 3


@dataclass(frozen=True)
class Reproduce:
    """Run the protocol of published values, and say whether they come out."""

    ids: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="ID ...")] = ()
    """Entries of the ledger, PROTOCOL/METHOD; * and ? stand for any."""
    list_: Annotated[bool, tyro.conf.arg(name="list")] = False
    """List the entries instead of running them."""
    data: Folder = None
    """Folder in which the data sets lie; the environment variable TTA_DATA if not given."""
    stored: Folder = None
    """Folder of the published corrupted images, CIFAR-10-C say, or the one around it; looked for in --data."""
    weights: File = None
    """Checkpoint of the published model; where RobustBench and torchvision keep theirs if not given."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Another model than the published one, as in `tta bench`; then nothing counts as a match."""
    limit: Number = None
    """At most so many images per visit; then nothing counts as a match."""
    device: Name = "auto"
    """auto (CUDA if there is a device), cpu, cuda, cuda:1, mps."""
    workers: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Processes, each with one seed at a time."""
    out: Folder = None
    """Folder for reproduction.json, reproduction.csv and finished cells. The same command again continues."""
    fresh: bool = False
    """Run again what is finished in the output folder."""
    ledger: File = None
    """Another ledger, a JSON file like tta/published.json."""

    def run(self) -> int:
        """Shows the ledger, or runs the entries and prints a verdict on each."""
        from tta.ledger import read_ledger

        ledger = read_ledger(self.ledger)
        entries = ledger.select(self.ids)
        if self.list_ or not self.ids:
            show(ledger, entries)
            return OK
        self._check(entries)
        return self._reproduce(entries)

    def _check(self, entries: Sequence[Entry]) -> None:
        """What can be told before anything is loaded."""
        from corruptions.engines import check_engine
        from tta import files

        if self.limit is not None and self.limit < 1:
            raise TTAError(f"--limit is {self.limit}; give at least 1, or leave it out")
        check_engine("processes", self.workers)
        models = {entry.protocol.model for entry in entries}
        option = "--weights" if self.weights is not None else "--model"
        if (self.weights is not None or self.model is not None) and len(models) > 1:
            raise TTAError(
                f"{option} is for one model, but these entries have {', '.join(sorted(models))}; run them one by one"
            )
        if self.out is not None:
            files.folder(self.out, "the output folder")

    def _reproduce(self, entries: Sequence[Entry]) -> int:
        from rich.console import Console

        from tta.reproduce import reproduce
        from tta.table import LiveTable
        from tta.verdict import keep

        verdicts = []
        for entry in entries:
            watch = LiveTable(Console(stderr=True, width=None if sys.stderr.isatty() else 250), Console(stderr=True))
            try:
                with watch:
                    verdict = reproduce(
                        entry, self._places(), out=self.out, fresh=self.fresh, watch=watch, workers=self.workers
                    )
            except KeyboardInterrupt:
                kept = f"finished seeds are kept in {self.out}" if self.out is not None else "give --out to keep seeds"
                complain(f"interrupted in {entry.id}; {kept}")
                return INTERRUPTED
            verdicts.append(verdict)
            if self.out is not None:
                keep([verdict], self.out)
            sys.stdout.write("\n".join(told(verdict)) + "\n")
            sys.stdout.flush()
        return exit_code(verdicts)

    def _places(self) -> Places:
        from tta.reproduction_files import Places

        return Places(self.data, self.stored, self.weights, self.model, self.limit, self.device)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 if all match, 3 if one was run and does not, else 2."""
    from tta.verdict import MATCH, MISSING

    kinds = {verdict.verdict for verdict in verdicts}
    if kinds <= {MATCH}:
        return OK
    return BAD_INPUT if kinds <= {MATCH, MISSING} else DEVIATED


def told(verdict: Verdict) -> list[str]:
    """A verdict in a line, and what there is to say about it in others."""
    lines = [f"{verdict.id}: {verdict.verdict}"]
    if verdict.measured is not None and verdict.difference is not None:
        seeds = f"{len(verdict.seeds)} seeds" if len(verdict.seeds) > 1 else "1 seed"
        spread = f" ± {verdict.spread:.2f}" if verdict.spread is not None else ""
        lines[0] += (
            f": {verdict.measured:.1f}{spread} % ({seeds}, n = {verdict.n:,} each), published {verdict.published:g}"
            f" ({verdict.source}): {verdict.difference:+.1f} points, tolerance {verdict.tolerance:g}"
        )
    return lines + [f"  {' '.join(remark.split())}" for remark in verdict.remarks]


def show(ledger: Ledger, entries: Sequence[Entry]) -> None:
    """Writes entries in aligned columns, under the protocol that they share, and what the sources are."""
    sys.stdout.write("published error in %, its spread, what other sources have, our method, seeds or orders, source\n")
    for protocol, group in groupby(entries, key=lambda entry: entry.protocol):
        sys.stdout.write(f"{protocol}:\n")
        rows = []
        for entry in group:
            others = ", ".join(f"{value:g} {tag}" for tag, value in entry.others.items())
            spread = f"±{entry.spread:g}" if entry.spread is not None else ""
            told = (f"{entry.error:.1f}", spread, others, entry.method, f"{len(entry.seeds)}x", entry.source)
            rows.append((f"  {entry.id}", *told))
        print_columns(rows)
    tags = dict.fromkeys(tag for entry in entries for tag in (entry.source, *entry.others))
    sys.stdout.write("".join(f"{tag}: {ledger.sources[tag]}\n" for tag in tags))
