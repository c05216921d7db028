"""`tta.report`: a report from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tta.data.arrays import ArrayImages
from tta.data.images import ImageData, Subset
from tta.errors import TTAError, unknown
from tta.files import folder, write
from tta.reporting.answers import common_cells, compare_reports
from tta.reporting.gather import Measured, Watching, gather, metric_of, silent, strict
from tta.reporting.html import render_html
from tta.reporting.lab import ReportLab
from tta.reporting.markdown import render_markdown
from tta.reporting.model_card import render_model_card
from tta.reporting.profiles import profile_of
from tta.results import Results
from tta.setup import Setup

#: Where a report keeps the cells that are finished, within its folder.
CELLS = "cells"


@dataclass(frozen=True)
class Report:
    """A finished report; a notebook shows it as a page.

    Attributes:
        content: The JSON document, see `schema.json`.
        pictures: One image under the corruptions.
        grid: Results of the source model on the grid.
    """

    content: dict[str, Any]
    pictures: dict[str, Any]
    grid: Results

    @classmethod
    def of(cls, measured: Measured, others: Sequence[dict[str, Any]] = ()) -> Report:
        """A report of what was measured, beside other reports."""
        lines = [strict(compare_reports(measured.content, other)) for other in others]
        return cls({**measured.content, "comparisons": lines}, measured.pictures, measured.grid)

    def html(self) -> str:
        """One page that opens offline; needs the extra `report`."""
        return render_html(self.content, self.pictures)

    def markdown(self) -> str:
        """The numbers in tables."""
        return render_markdown(self.content)

    def json(self) -> str:
        """The content."""
        return json.dumps(self.content, indent=1, allow_nan=False) + "\n"

    def model_card(self) -> str:
        """A section for a model card of the Hugging Face hub."""
        return render_model_card(self.content)

    def write(self, out: Path | str, formats: Sequence[str] = ("html", "md", "json")) -> list[Path]:
        """Writes some of the forms, each atomically.

        Args:
            out: Folder, made if it is not there.
            formats: Of "html", "md", "json", "card" and "robustbench".

        Returns:
            The files.

        Raises:
            TTAError: An unknown form, or a package that it needs is not installed.
        """
        out, written = folder(Path(out), "the output folder"), []
        for name in formats:
            if name == "robustbench":
                written += self.grid.to_robustbench(out / name)
                continue
            file, render = form(name)
            write(out / file, render(self))
            written.append(out / file)
        return written

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{escape(self.html())}" style="width:100%;height:50rem;border:0"></iframe>'


#: From the name of a form to its file and how it is made.
FORMS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "html": ("report.html", Report.html),
    "md": ("report.md", Report.markdown),
    "json": ("report.json", Report.json),
    "card": ("model_card.md", Report.model_card),
}


def form(name: str) -> tuple[str, Callable[[Report], str]]:
    """File and renderer of a form.

    Raises:
        TTAError: There is no such form.
    """
    if name not in FORMS:
        raise unknown("format", name, [*FORMS, "robustbench"])
    return FORMS[name]


def report(
    model: nn.Module,
    data: ImageData | tuple[Tensor | np.ndarray, Tensor | np.ndarray],
    *,
    profile: str = "quick",
    corruptions: Sequence[str] = (),
    methods: Sequence[str] = (),
    streams: Sequence[str] = (),
    source_data: ImageData | None = None,
    limit: int | None = None,
    severity: float = 5.0,
    compare: Sequence[Path | str] = (),
    out: Path | str | None = None,
    watching: Watching = silent,
) -> Report:
    """Evaluates a classifier and reports: how robust it is, where it breaks, whether adaptation would help.

    Args:
        model: Takes images in [0, 1], (B, C, H, W), gives logits (B, K); from `tta.load_source`, or any module. It is
            not changed, but put into eval mode.
        data: Clean images with labels: from `tta.load_data`, or arrays (images uint8 NHWC or NCHW, labels).
        profile: "quick", "standard" or "full".
        corruptions: Names; those of the suite that belongs to the data if not given.
        methods: Adaptation methods; those of the profile if not given.
        streams: Kinds of streams, see `tta.scenarios`; those of the profile if not given.
        source_data: Images the model was trained on, for the methods that need some; without, these refuse.
        limit: At most so many images; as the profile says if not given.
        severity: Of the corruptions in the streams.
        compare: Files report.json of other models.
        out: Folder for finished cells, so that the same call continues where it stopped.
        watching: Shows progress; nothing is shown if not given.

    Returns:
        The report: `content`, `html()`, `markdown()`, `json()`, `write(folder)`.

    Raises:
        TTAError, CorruptionError: Model, data or names that do not fit.
    """
    extent = profile_of(profile)
    data = data if isinstance(data, ImageData) else _of_arrays(*data)
    most = extent.limit if limit is None else limit
    if most is not None and most < len(data):
        if most < 2:
            raise TTAError(f"limit is {most}; give at least 2 images")
        data = Subset(data, torch.arange(most))
    extent = replace(extent, methods=tuple(methods) or extent.methods, streams=tuple(streams) or extent.streams)
    if source_data is None and any("poison" in stream or "benign" in stream for stream in extent.streams):
        raise TTAError("users who send their own images need source_data; give it, or leave these streams out")
    names = tuple(corruptions) or suite_for(data.name)
    setup = Setup(dataset="", domains=extent.for_streams(names), severity=severity)
    setup.check_setup()
    lab = ReportLab.given(model, data, source_data, setup)
    others = [read_report(path) for path in compare]
    check_comparable(others, lab.images, names, extent.severities)
    place = None if out is None else Path(out) / CELLS
    return Report.of(gather(lab, names, extent, name=profile, out=place, watching=watching), others)


def _of_arrays(images: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> ImageData:
    return ArrayImages("arrays", np.asarray(images), np.asarray(labels), note="the given arrays")


def suite_for(data: str) -> tuple[str, ...]:
    """The corruptions that belong to a data set: those of its own suite, else the 15 common ones.

    >>> len(suite_for("cifar10"))
    15
    >>> suite_for("pneumoniamnist")[0].partition("/")[0]
    'medmnist-c'
    """
    import corruptions

    own = f"medmnist-c/{data.partition('/')[0]}"
    return corruptions.suite(own) if own in corruptions.suites() else corruptions.COMMON


def check_comparable(
    others: Sequence[dict[str, Any]], data: ImageData, corruptions: Sequence[str], severities: Sequence[float]
) -> None:
    """Raises TTAError, before anything is measured, if a report on these images cannot stand beside the others."""
    cells = [f"{name}@{severity:g}" for name in corruptions for severity in severities]
    for other in others:
        common_cells(metric_of(data), len(data.classes), cells, other)


def read_report(path: Path | str) -> dict[str, Any]:
    """The content of a report.json.

    Raises:
        TTAError: It is no such file, or of another version.
    """
    from tta.reporting.gather import SCHEMA

    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    if not path.is_file():
        raise TTAError(f"{path} is not there; give the report.json of another `tta report --out`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != "tta-report" or content["schema"] != SCHEMA:
            raise TTAError(f"{path} has layout {content['schema']}, this version reads {SCHEMA}: make the report again")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, TTAError):
            raise
        raise TTAError(f"{path} is no report ({error}); give the report.json of `tta report --out`") from error
    assert isinstance(content, dict)
    return content
