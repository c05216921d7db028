"""The command `tta report`: how robust a checkpoint is, on one page."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tta.commands import INTERRUPTED, OK, complain
from tta.errors import TTAError
from tta.setup import Folder, Name, Names, Setup

if TYPE_CHECKING:
    from tta.cell_job import Watch
    from tta.reporting import call
    from tta.reporting.lab import ReportLab
    from tta.reporting.profiles import Profile

REPORT = """Report how robust a model is: one page that opens offline, the same as Markdown and JSON, and a summary on
the terminal. Alone, it reports on the embedded digits, in less than three minutes.

examples:
  tta report --out report
  tta report robustbench:cifar10/corruptions/Standard --dataset cifar10 --data DIR --out report
  tta report 'model.py:build' --weights model.safetensors --dataset images.npz --profile standard --out report
  tta report --out new --compare old/report.json --fail-if "mean_error > 30"
  tta report model.py:build --dataset xrays.npz --suite medmnist-c/pneumoniamnist --balanced --out report
  tta report model.py:build --dataset PACS --reference photo --out report"""
#: Exit code where a condition of --fail-if holds.
GATE = 3
#: As many images as the embedded digits have.
DIGITS = 1000


@dataclass(frozen=True)
class Report(Setup):
    """Report how robust a model is, where it breaks, and whether adaptation would help."""

    checkpoint: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT|NAME")] = None
    """The model, as --model takes it; the embedded one if neither is given."""
    profile: Name = "quick"
    """quick (3 severities, 192 images, 6 methods, 3 streams), standard (5, 1000, 8, 10), full (5, all, 9, 36)."""
    suite: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Corruptions by the name of their suite; --domains names single ones. If neither is given, the suite of the
    MedMNIST data set, or the 15 common ones."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of natural domains (folders DOMAIN/CLASS/IMAGE), the one whose images count as clean, say the one that the model
    was trained on; the others, or those of --domains, are the shifts."""
    balanced: bool = False
    """Errors as the mean over the classes, whatever their sizes, as MedMNIST data sets have them anyway."""
    methods: Names = ()
    """Adaptation methods; those of the profile if not given."""
    streams: Names = ()
    """Kinds of streams, as `tta stress` takes them; those of the profile if not given."""
    out: Folder = None
    """Folder for the report and its finished cells. The same command again continues where it stopped."""
    format: Names = ("html", "md", "json")
    """What to write: html, md, json, card (a section for a model card of the Hugging Face hub), robustbench."""
    compare: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE ...")] = ()
    """Files report.json of other models: a table beside this one, paired where the images are the same."""
    fail_if: Annotated[tuple[str, ...], tyro.conf.arg(metavar='"NAME > N" ...')] = ()
    """Exit with 3 and the reason if a condition holds: "mean_error > 30". Names: clean_error, mean_error,
    mean_error_high, worst_cell_error, worst_class_error, ece_clean, ece_shifted, flip_rate, mce, adaptation_gain."""

    def run(self) -> int:
        """Measures, writes and shows the report; 3 if a condition of --fail-if holds, 130 after Ctrl-C."""
        from rich.console import Console

        from tta.reporting import call
        from tta.reporting.gate import Condition
        from tta.reporting.gather import gather
        from tta.reporting.profiles import profile_of
        from tta.reporting.terminal import summary

        conditions = [Condition.read(text) for text in self.fail_if]
        others = [call.read_report(path) for path in self.compare]
        extent = profile_of(self.profile)
        extent = replace(extent, methods=self.methods or extent.methods, streams=self.streams or extent.streams)
        self._check(extent)
        names, lab = self._lab(extent)
        call.check_comparable(others, lab.images, names, (0.0,) if self.natural else extent.severities)
        if self.out is None:
            complain("no --out is given: the summary will be shown here, and nothing is kept")
        place = None if self.out is None else self.out / call.CELLS
        try:
            measured = gather(lab, names, extent, name=self.profile, out=place, watching=_bar)
        except KeyboardInterrupt:
            rest = "nothing was kept, for no --out was given"
            if place is not None:
                rest = f"finished cells are kept in {place}; the same command again runs the rest"
            complain(f"interrupted: {rest}")
            return INTERRUPTED
        finished = call.Report.of(measured, others)
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(summary(finished.content), highlight=False)
        self._write(finished)
        reasons = [reason for one in conditions if (reason := one.reason(finished.content["headline"])) is not None]
        for reason in reasons:
            complain(f"--fail-if {reason}")
        return GATE if reasons else OK

    def _check(self, extent: Profile) -> None:
        """What can be told before anything is loaded."""
        from tta.files import folder
        from tta.registry import method, split_preset
        from tta.reporting.call import form
        from tta.reporting.figures import require
        from tta.scenarios import Scenario

        self.check_setup()
        if self.checkpoint is not None and self.model is not None:
            raise TTAError(f"the model is given twice, {self.checkpoint} and --model {self.model}; give one")
        if self.suite is not None and self.domains:
            raise TTAError("--suite and --domains both name the corruptions; give one")
        if self.limit is not None and self.limit < 2:
            raise TTAError(f"--limit is {self.limit}; give at least 2 images")
        for name in extent.methods:
            method(split_preset(name)[0])
        for text in extent.streams:
            Scenario.read(text)
        for name in self.format:
            if name != "robustbench":
                form(name)
        if self.out is not None and "html" in self.format:
            for module in ("jinja2", "matplotlib"):
                require(module, "the page and the charts of a report")
        if self.out is not None:
            folder(self.out, "the output folder")

    def _lab(self, extent: Profile) -> tuple[tuple[str, ...], ReportLab]:
        """The corruptions of the grid, and the lab."""
        import corruptions
        from tta.reporting.call import suite_for
        from tta.reporting.lab import ReportLab
        from tta.setup import CLEAN

        limit = extent.limit if self.limit is None else self.limit
        model = self.checkpoint or self.model
        if self.natural:
            if self.suite or self.stored:
                raise TTAError(
                    f"{self.dataset} holds natural domains, which are not corrupted: no --suite, no --stored"
                )
            lab = ReportLab(replace(self, model=model, limit=limit), reference=self.reference)
            return lab.shifts, lab
        named = corruptions.suite(self.suite) if self.suite else tuple(n for n in self.shifts() if n != CLEAN)
        names = named if self.suite or self.domains else suite_for(self.dataset.removeprefix("medmnist/"))
        if limit is None and self.dataset == "digits":
            limit = DIGITS
        lab = ReportLab(
            replace(self, model=model, limit=limit, domains=extent.for_streams(names)), reference=self.reference
        )
        if self.balanced:
            lab.images.balanced = True
        return names, lab

    def _write(self, finished: call.Report) -> None:
        if self.out is None:
            return
        files = finished.write(self.out, self.format)
        sys.stdout.write("".join(f"{file}\n" for file in files))


@contextmanager
def _bar(title: str) -> Iterator[Watch]:
    """A progress bar on stderr with the remaining time, for one part of the work."""
    from rich.console import Console

    from tta.progress import CellProgress

    with CellProgress(Console(stderr=True)) as watch:
        yield watch
