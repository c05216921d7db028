"""Where the images of a split lie below a folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypedDict

from tta.errors import TTAError

#: How the folders and files of each split begin, in the order in which they are looked for.
SPLITS = {"test": ("test", "val"), "val": ("val",), "train": ("train",)}
#: Where the labels of the test folder are not public, the validation images are the test split.
VALIDATED = {"test": ("val",), "val": ("val",), "train": ("train",)}


class Fit(TypedDict):
    """How images are brought to size and channels, and how many there are at most."""

    size: int | None
    channels: int | None
    limit: int | None


class FileFit(TypedDict):
    """The same for image files, which always have three channels."""

    size: int | None
    limit: int | None


def of_files(fit: Fit) -> FileFit:
    """What of it concerns image files."""
    return {"size": fit["size"], "limit": fit["limit"]}


def split_folder(
    place: Path, split: str, names: Mapping[str, tuple[str, ...]] = SPLITS, classes: Collection[str] = ()
) -> Path | None:
    """The folder of class folders of a split: place/test, or place itself if it is not divided into splits.

    None where there is none, or where `classes` are given and no folder is one of them.
    """
    inside = folders(place)
    if divided := inside & {"test", "val", "train"}:
        return next((place / name for name in names[split] if name in divided), None)
    if classes:
        return place if inside & set(classes) else None
    return place if inside and not any(place.glob("*.npz")) else None


def folders(place: Path) -> set[str]:
    """Names of the folders in a folder that are not hidden."""
    if not place.is_dir():
        return set()
    return {entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")}


def array_file(place: Path, split: str) -> Path | None:
    """The .npz file of a split in a folder: the one that begins with its name, or the only one.

    Raises:
        TTAError: Several could be meant.
    """
    files = sorted(place.glob("*.npz"))
    for name in SPLITS[split]:
        named = [file for file in files if file.name.startswith(name)]
        if len(named) > 1:
            raise TTAError(f"{place} holds {', '.join(f.name for f in named)}; give the path of one")
        if named:
            return named[0]
    others = [file for file in files if not file.name.startswith(("test", "val", "train"))]
    return others[0] if len(others) == 1 else None
