"""Harm: what an adapted model costs those who would have been served better by the source model.

Both have answered the same images in the same order. In every window of 1,000 consecutive images (of the whole stream,
if that is shorter), harm is the error of the adapter minus that of the source model, in points. A good mean can hide
it: an adapter that gains on fog and collapses on the night after it has harmed.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np

from tta.errors import TTAError
from tta.record_metrics import mistakes
from tta.records import Arrays, scored
from tta.results import Results, Row
from tta.tails import WINDOW, window_means

#: A window counts for the harm rate if the adapter is worse by more than so many points.
MARGIN = 1.0
#: Rows that `add_harm` adds, named as the fields of `AgainstSource`.
METRICS = ("negative_flips", "positive_flips", "harm", "harm_mean", "harm_rate")


class AgainstSource(NamedTuple):
    """An adapter beside the source model on the same images.

    Windows begin at every image. Chance alone makes the worst of many windows positive: two models that err equally
    often, on d % of the images not together, differ in a window of 1,000 by sqrt(d / 10) points as a matter of course
    (one point for d = 10), and in the worst of many by up to three times that.

    Attributes:
        negative_flips: Images that the source model gets right and the adapter wrong, in % of the images.
        positive_flips: The reverse, in % of the images. Error of the source model minus that of the adapter is
            positive minus negative flips.
        harm: The worst window: the highest difference of the errors, in points; negative if the adapter is better in
            every window.
        harm_mean: The positive part of the difference, averaged over all windows, in points.
        harm_rate: Share of the windows in which the adapter is worse by more than the margin, in %.
        start: Number of the first image of the worst window among the labelled images of the stream.
        n: Images.

    Reference:
        Flips: Yan et al., "Positive-congruent training: towards regression-free model updates", CVPR 2021.
    """

    negative_flips: float
    positive_flips: float
    harm: float
    harm_mean: float
    harm_rate: float
    start: int
    n: int


def against_source(
    records: Arrays, source_records: Arrays, *, window: int = WINDOW, margin: float = MARGIN
) -> AgainstSource:
    """Compares an adapter with the source model, image by image. Images without a label count nowhere.

    Args:
        records: Of the adapter.
        source_records: Of the source model, on the same stream.
        window: Images in a window.
        margin: Points by which a window must be worse to count for the harm rate.

    Raises:
        TTAError: The records are not of the same images in the same order, or none of them has a label.
    """
    ours, theirs = scored(records), scored(source_records)
    if not all(np.array_equal(ours[field], theirs[field]) for field in ("domain", "index", "label")):
        raise TTAError(
            f"these {len(ours['label'])} and {len(theirs['label'])} images are not the same in the same order; compare"
            " with the source model on the same stream with the same seed"
        )
    if len(ours["label"]) == 0:
        raise TTAError("none of the images has a label; harm is counted in errors")
    wrong, source_wrong = mistakes(ours), mistakes(theirs)
    differences = window_means(100.0 * wrong - 100.0 * source_wrong, window)
    return AgainstSource(
        float(100 * (wrong & ~source_wrong).mean()),
        float(100 * (~wrong & source_wrong).mean()),
        float(differences.max()),
        float(differences.clip(min=0).mean()),
        float(100 * (differences > margin).mean()),
        int(differences.argmax()),
        len(wrong),
    )


def add_harm(results: Results) -> Results:
    """The same results with rows of flips and harm for every cell whose source cell is there.

    A cell's source cell is that of the method "source" with the same model, stream, seed and reset policy. The source
    model itself gets no such rows. Rows that are there already are replaced, so it may be called again when more cells
    have come; rows of cells without records stay as they are.

    Args:
        results: With records.
    """
    entries = [entry for entry in results.provenance.get("cells", []) if entry["cell"] in results.records]
    sources = {_setting(entry): entry["cell"] for entry in entries if entry["method"] == "source"}
    added: list[Row] = []
    for entry in entries:
        records, source = results.records[entry["cell"]], sources.get(_setting(entry))
        if entry["method"] == "source" or source is None or not (records["label"] >= 0).any():
            continue
        found = against_source(records, results.records[source])
        protocol = results.provenance["protocols"][entry["protocol"]]
        place = (
            entry["method"], entry["seed"], protocol["stream"], protocol["batch_size"], protocol["reset"],
            -1, "all", None, found.n,
        )  # fmt: skip
        added += [Row(*place, metric, getattr(found, metric)) for metric in METRICS]
    replaced = {row[:-1] for row in added}
    kept = [row for row in results.rows if row[:-1] not in replaced]
    return Results([*kept, *added], results.provenance, results.records)


def _setting(entry: dict[str, object]) -> str:
    """What two cells must share to be compared: the protocol (stream, seed, reset policy, probe) and the model."""
    return json.dumps([entry["protocol"], entry["model"]], sort_keys=True)
