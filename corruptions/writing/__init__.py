"""Writes corruption sets: streamed with bounded memory, resumable, and the same bytes for any number of workers.

What a set is made of (`Plan` and data) is recorded in corruptions.json beside it. Finished units are recorded in a
folder .progress, so that the same call after any interruption continues; another plan in the same folder is refused.
"""

from __future__ import annotations

import errno
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from corruptions.engines import check_engine, run
from corruptions.errors import CorruptionError
from corruptions.frost import frost_source
from corruptions.writing.layout import Images, Layout, Unit, replace
from corruptions.writing.plan import LAYOUTS, Job, Plan
from corruptions.writing.record import RECORD, as_json, definition, is_complete, read_record, record

__all__ = ["LAYOUTS", "Plan", "Written", "read_record", "write"]

PROGRESS = ".progress"
#: Errors of a disk that has no room left.
FULL = (errno.ENOSPC, errno.EDQUOT)
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """What lies on disk after `write`.

    Attributes:
        images: Images in the set, counted on disk.
        units: Pieces the set was written in.
        resumed: How many of them an earlier run had written.
    """

    images: int
    units: int
    resumed: int


def write(
    data: Images,
    out: Path | str,
    plan: Plan,
    *,
    paths: Sequence[str] = (),
    notes: dict[str, Any] | None = None,
    workers: int = 1,
    engine: str = "processes",
    address: str | None = None,
    watch: Watch | None = None,
) -> Written:
    """Writes a corruption set, or what is missing of it.

    Args:
        data: The clean images, all of one shape; pickled for the workers.
        out: Folder of the set; made if it is not there.
        plan: What to write.
        paths: For the layout "imagenet", CLASS/IMAGE of every image without suffix; by class number if not given.
        notes: More to record in corruptions.json.
        workers: Processes; 1 is this one. On a Ray cluster, tasks at a time.
        engine: "processes", or "ray" for a cluster, whose nodes must all see `out` and the data.
        address: Of the Ray cluster; a local one if not given.
        watch: Called with the numbers of finished and of all units.

    Returns:
        What lies on disk, counted there.

    Raises:
        CorruptionError: A plan that cannot be written, another plan in the folder, a full disk, or counts on disk that
            do not match at the end.
    """
    out, layout = Path(out), _layout(data, Path(out), plan, paths)
    check_engine(engine, workers)
    record(out, definition(data, plan, layout, notes))
    progress, complete = out / PROGRESS, is_complete(out)
    units = layout.units()
    try:
        if not complete:
            progress.mkdir(exist_ok=True)
            _prepare(layout, units, progress)
        done = [u for u in units if complete or layout.complete(u.name) or (progress / u.key).exists()]
        known = set(done)
        missing = [unit for unit in units if unit not in known]
        job = Job(plan, layout, data, None if frost_source() == "procedural" else frost_source())
        left = Counter(unit.name for unit in missing)
        for name in plan.names:
            if not complete and not left[name] and not layout.complete(name):
                layout.finish(name)
        finished = len(done)
        for unit in run(job, missing, workers, engine, address):
            (progress / unit.key).touch()
            left[unit.name] -= 1
            if not left[unit.name]:
                layout.finish(unit.name)
            finished += 1
            if watch is not None:
                watch(finished, len(units))
    except OSError as error:
        if error.errno not in FULL:
            raise
        layout.discard()
        raise CorruptionError(
            f"the disk of {out} is full; free space or choose another folder: the same command then continues with "
            "what is missing (unfinished files were removed)"
        ) from error
    return Written(_verify(out, layout), len(units), len(done))


def _prepare(layout: Layout, units: Sequence[Unit], progress: Path) -> None:
    """Makes room for the unfinished corruptions, and forgets the units of those whose file is gone."""
    for name in layout.names:
        if not layout.complete(name) and not layout.start(name):
            for unit in units:
                if unit.name == name:
                    (progress / unit.key).unlink(missing_ok=True)


def _layout(data: Images, out: Path, plan: Plan, paths: Sequence[str]) -> Layout:
    """The layout, checked against the data."""
    plan.check()
    if not len(data):
        raise CorruptionError(f"{data.name} has no images")
    channels, height, width = data.images(torch.tensor([0])).shape[1:]
    if not paths and plan.layout == "imagenet":
        paths = [f"{label:05d}/{position:08d}" for position, label in enumerate(data.labels.tolist())]
    severities = tuple(float(severity) for severity in plan.severities)
    layout = LAYOUTS[plan.layout](
        out, plan.names, severities, data.labels.numpy().copy(), (channels, height, width),
        plan.store_jpeg, plan.shard_images, tuple(paths),
    )  # fmt: skip
    layout.check()
    return layout


def _verify(out: Path, layout: Layout) -> int:
    """Counts the images on disk, and marks the set as complete.

    Raises:
        CorruptionError: They are not all there.
    """
    expected = len(layout.severities) * len(layout.labels)
    wrong = {name: found for name in layout.names if (found := _count(layout, name)) != expected}
    if wrong:
        replace(out / RECORD, as_json({**read_record(out), "complete": False}))
        (out / PROGRESS).mkdir(exist_ok=True)
        for unit in layout.units():
            if unit.name in wrong:
                (out / PROGRESS / unit.key).unlink(missing_ok=True)
            else:
                (out / PROGRESS / unit.key).touch()
        name, found = next(iter(wrong.items()))
        raise CorruptionError(
            f"{out} holds {found:,} images of {name}, not {expected:,}: files were removed, added or cut short; remove "
            f"what there is of {', '.join(wrong)}, and the same command writes it again"
        )
    replace(out / RECORD, as_json({**read_record(out), "complete": True}))
    shutil.rmtree(out / PROGRESS, ignore_errors=True)
    return expected * len(layout.names)


def _count(layout: Layout, name: str) -> int:
    """Images of a corruption on disk; 0 where its file is missing or damaged."""
    try:
        return layout.count(name)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return 0
