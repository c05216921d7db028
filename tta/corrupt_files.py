"""What `tta corrupt --dataset` does: a data set under corruptions, written to disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from corruptions.writing import Plan, Watch, Written, read_record, write
from corruptions.writing.pictures import PUBLISHED_QUALITY
from corruptions.writing.record import RECORD
from tta.data.image_files import FileImages, decode, in_threads
from tta.data.imagenet import descriptions, wnids
from tta.data.images import Subset
from tta.errors import TTAError

if TYPE_CHECKING:
    from tta.data.images import ImageData


@dataclass(frozen=True)
class Prepared:
    """A data set of which every image can be read.

    Attributes:
        data: The readable images.
        paths: CLASS/IMAGE of each, without suffix.
        unreadable: The files that were left out, below the data set's folder.
    """

    data: ImageData
    paths: tuple[str, ...]
    unreadable: tuple[str, ...]


def write_set(
    data: ImageData,
    out: Path,
    plan: Plan,
    workers: int = 1,
    engine: str = "processes",
    address: str | None = None,
    watch: Watch | None = None,
) -> tuple[Written, Prepared]:
    """Writes a data set under corruptions.

    Files that cannot be read are left out, and listed in corruptions.json.

    Raises:
        TTAError: Images of several sizes, or none that can be read.
        CorruptionError: As `corruptions.writing.write`.
    """
    plan.check()
    if data.shape is None:
        raise TTAError(f"{data.note}: the images differ in size; give --size to resize and crop them")
    prepared = prepare(data, out)
    written = write(
        prepared.data, out, plan, paths=prepared.paths, notes={"unreadable": list(prepared.unreadable)},
        workers=workers, engine=engine, address=address, watch=watch,
    )  # fmt: skip
    return written, prepared


def prepare(data: ImageData, out: Path) -> Prepared:
    """Looks for files that cannot be decoded, before hours are spent; a set that is continued remembers them."""
    whole, index = (data.data, data.index) if isinstance(data, Subset) else (data, torch.arange(len(data)))
    if not isinstance(whole, FileImages):
        return Prepared(data, class_paths(data), ())
    names = [whole.path(i).relative_to(whole.root) for i in range(len(whole))]
    headers = [file.relative_to(whole.root).as_posix() for file in whole.unreadable]
    if (out / RECORD).is_file():
        known = set(read_record(out).get("unreadable", ()))
        good = [i for i in index.tolist() if names[i].as_posix() not in known]
    else:
        broken = in_threads(lambda i: isinstance(decode(whole.path(i), whole.size), str), index.tolist())
        good = [i for i, bad in zip(index.tolist(), broken, strict=True) if not bad]
    if not good:
        raise TTAError(f"{data.note}: none of the images can be decoded")
    kept = set(good)
    unreadable = (*headers, *(names[i].as_posix() for i in index.tolist() if i not in kept))
    stems = [names[i].with_suffix("").as_posix() for i in good]
    twice = Counter(stems)
    paths = tuple(stem if twice[stem] == 1 else names[i].as_posix() for i, stem in zip(good, stems, strict=True))
    readable = data if len(good) == len(index) else Subset(whole, torch.tensor(good))
    return Prepared(readable, paths, unreadable)


def class_paths(data: ImageData) -> tuple[str, ...]:
    """CLASS/IMAGE of images that lie in no files: WordNet id or number of the class, number of the image."""
    full = len(data.classes) == 1000 and data.classes == descriptions()
    folders = wnids() if full else [f"{label:05d}" for label in range(len(data.classes))]
    return tuple(
        f"{folders[label]}/{key:08d}" for label, key in zip(data.labels.tolist(), data.keys.tolist(), strict=True)
    )


def with_quality(plan: Plan, lossless: bool) -> Plan:
    """The plan with the published JPEG quality of ImageNet-C, unless another or none is asked for."""
    if lossless and plan.store_jpeg is not None:
        raise TTAError("give either --lossless or --store-jpeg, not both")
    if plan.layout == "imagenet" and plan.store_jpeg is None and not lossless:
        return replace(plan, store_jpeg=PUBLISHED_QUALITY)
    return plan


@contextmanager
def progress() -> Iterator[Watch | None]:
    """A bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console) as bar:
        task = bar.add_task("writing", total=None)
        yield lambda finished, total: bar.update(task, completed=finished, total=total)
