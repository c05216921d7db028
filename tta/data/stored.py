"""Corrupted images stored in the layouts of CIFAR-10-C, ImageNet-C (-C-bar, Tiny-ImageNet-C) and MedMNIST-C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import corruptions
from corruptions.errors import CorruptionError
from corruptions.files import SEVERITIES, names, one_severity, severity_folder, shard_files
from corruptions.writing.layout import stem
from tta.data.arrays import ArrayImages, read_npy
from tta.data.folders import FolderImages
from tta.data.images import ImageData
from tta.data.npz import find_npz
from tta.data.published import publication_of_corrupted, what_to_do
from tta.data.shards import ShardImages
from tta.errors import TTAError, unknown

#: Bytes of images that one domain may hold in memory; a stream has up to 75 of them.
IN_MEMORY = 2**23


def stored_names(root: Path) -> list[str]:
    """Names of the corruptions stored in a folder, sorted."""
    return names(root)


def stored_corruption(
    root: Path | str,
    name: str,
    severity: int,
    *,
    like: ImageData | None = None,
    limit: int | None = None,
    size: int | None = None,
    channels: int | None = None,
) -> ImageData:
    """One corruption at one severity from images on disk.

    Layouts: CIFAR-10-C (root/NAME.npy with root/labels.npy), MedMNIST-C (root/NAME.npz with test_images and
    test_labels), both with five severities after each other; ImageNet-C (root/NAME/SEVERITY/CLASS/IMAGE, also inside
    one more folder as in its archives: root/noise/NAME/...), which ImageNet-C-bar and Tiny-ImageNet-C share; shards as
    `tta corrupt` writes them (root/NAME-SEVERITY-000000.tar). Which order the severities of an array were found in is
    told in the note.

    Args:
        root: Folder of the stored set, or of several such folders named like the clean data sets (as MedMNIST-C has).
        name: Name of the corruption; of "medmnist-c/bloodmnist/bubble", the last part.
        severity: 1 to 5.
        like: The clean data set: gives the classes, and its labels are checked against where the counts agree.
        limit: At most so many images: the first of arrays, evenly spread ones of folders.
        size: As in `load_data`.
        channels: As in `load_data`.

    Raises:
        TTAError: Not there, not in such a layout, or lengths that do not match.
    """
    root = Path(root)
    if severity not in range(1, SEVERITIES + 1):
        raise TTAError(f"severity {severity} is not stored; stored sets have the severities 1 to {SEVERITIES}")
    severity, name = int(severity), stem(name)
    if like is not None and (root / like.name).is_dir():
        root = root / like.name
    label = f"{root.name}/{name}-{severity}"
    classes = like.classes if like is not None else None
    data: ImageData
    if shards := shard_files(root, name, severity):
        data = ShardImages(label, shards, classes=classes, limit=limit, size=size)
    elif folder := severity_folder(root, name, severity):
        of_classes = like.folders if like is not None and like.folders else None
        words = classes if of_classes else None
        data = FolderImages(label, folder, size=size, classes=of_classes, class_names=words, limit=limit)
    else:
        images, labels, order = read_severity(root, name, severity, like, limit)
        data = ArrayImages(
            label,
            images[:limit],
            labels[:limit],
            classes=classes or [str(k) for k in range(int(labels.max()) + 1)],
            note=f"{root}: {name} at severity {severity}, {len(images[:limit]):,} of {len(labels):,} images, "
            f"stored {order}",
            size=size,
            channels=channels,
        )
    if like is not None:
        if len(like) == len(data) and not torch.equal(like.labels, data.labels):
            raise TTAError(f"{data.note}: the labels differ from those of {like.note}; are they the same images?")
        if len(like.classes) == len(data.classes):
            data.take_classes(like)
    return data


def read_severity(
    root: Path, name: str, severity: int, like: ImageData | None, limit: int | None
) -> tuple[np.ndarray, np.ndarray, str]:
    """The first images of one corruption at one severity, the labels of all, and the order of the severities there.

    Raises:
        TTAError: Not there, or counts that are no multiple of five, or do not match.
    """
    try:
        if (file := root / f"{name}.npy").is_file():
            pair = read_npy(file), one_column(np.array(read_npy(root / "labels.npy")))
            (images, labels), order = one_severity(*pair, severity, f"{root}/{name}")
            return images, labels, order
        if (file := root / f"{name}.npz").is_file():
            stored = find_npz(file, "test")
            numbers = np.arange(len(stored))
            (rows, labels), order = one_severity(numbers, one_column(stored.labels), severity, f"{root}/{name}")
            rows = rows[:limit]
            first, step = int(rows[0]), int(rows[1] - rows[0]) if len(rows) > 1 else 1
            return stored.rows(first, int(rows[-1]) + 1, IN_MEMORY)[::step], labels, order
    except CorruptionError as error:
        raise TTAError(str(error)) from error
    raise missing(root, name, like)


def one_column(labels: np.ndarray) -> np.ndarray:
    """Labels of shape (N,) from (N,) or (N, 1)."""
    return labels.reshape(len(labels), -1)[:, 0]


def missing(root: Path, name: str, like: ImageData | None) -> TTAError:
    """The error for a corruption that is not there."""
    publication = None
    if like is not None:
        spelled = (*corruptions.names(), *map(stem, corruptions.names(f"medmnist-c/{like.name}")))
        publication = publication_of_corrupted(like.name, name) if name in spelled else None
    # Most archives unpack to a folder of their own, those of ImageNet-C to the corruptions themselves.
    looked = (root,) if publication is not None and publication.bare else (root, root.parent)
    hint = what_to_do(looked, publication, "leave the stored folder out, and the corruptions are computed")
    if known := stored_names(root):
        if publication is None:
            return unknown(f"corruption in {root}", name, known)
        return TTAError(f"{root} has {', '.join(known)}, but no {name}; {hint}")
    state = "holds no stored corruptions" if root.is_dir() else "is not there"
    return TTAError(
        f"{root} {state}; expected {name}.npy with labels.npy, {name}.npz, or {name}/SEVERITY/CLASS/IMAGE; {hint}"
    )
