"""Data sets by name or path: digits (embedded), CIFAR, ImageNet and its variants, MedMNIST, image folders, arrays."""

from __future__ import annotations

import os
from pathlib import Path

from tta.data import cifar, imagenet, medmnist, tiny_imagenet
from tta.data.arrays import ArrayImages, read_pair
from tta.data.domains import domain_folders, holds_domains
from tta.data.folders import FolderImages
from tta.data.images import Corrupted, ImageData, Subset
from tta.data.npz import read_npz
from tta.data.places import SPLITS, Fit, array_file, of_files, split_folder
from tta.data.stored import stored_corruption, stored_names
from tta.errors import TTAError, unknown

__all__ = ["Corrupted", "ImageData", "Subset", "domain_folders", "load_data", "stored_corruption", "stored_names"]

NAMES = (
    "digits", "cifar10", "cifar100", "imagenet", *imagenet.VARIANTS, "tiny-imagenet", *medmnist.CLASSES
)  # fmt: skip


def load_data(
    name: str,
    root: Path | str | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    size: int | None = None,
    channels: int | None = None,
) -> ImageData:
    """A labelled data set.

    Args:
        name: "digits", "cifar10", "cifar100"; "imagenet", "imagenet-v2" (also -v2-threshold-0.7, -v2-top-images),
            "imagenet-r", "imagenet-a", "imagenet-sketch", "tiny-imagenet"; a MedMNIST name such as "bloodmnist"; or the
            path of an .npz file, of an .npy file with labels.npy beside it, or of a folder with one folder of images
            per class.
        root: Where to look; the environment variable TTA_DATA, else the folder "data", if not given.
        split: "test", "val" or "train". Where there is no test folder or file, "test" takes "val".
        limit: At most so many images: the first of arrays, evenly spread over the classes for folders.
        size: Side in pixels to resize and crop to, short side to size / 0.875 first; None leaves images as they are.
        channels: 3 repeats grey images; None leaves them with one.

    Returns:
        The data set. Where `class_indices` are set, its classes are some of ImageNet's 1,000, and a model of 1,000
        classes has to be restricted to them: see `tta.class_subset.fit_classes`.

    Raises:
        TTAError: Unknown, missing, empty or inconsistent data; the message says where it looked for what, with which
            published hash, and what to do.

    >>> load_data("digits", limit=100)
    <digits: 100 images (3, 32, 32), 10 classes>
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    for what, number in (("limit", limit), ("size", size)):
        if number is not None and number < 1:
            raise TTAError(f"{what} is {number}; expected a positive number, or leave it out")
    if channels not in (None, 1, 3):
        raise TTAError(f"channels is {channels}; expected 1, 3 or None")
    place = Path(root or os.environ.get("TTA_DATA") or "data")
    fit: Fit = {"size": size, "channels": channels, "limit": limit}
    data = by_name(name.removeprefix("medmnist/"), place, split, fit) or by_path(name, place, split, fit)
    if channels == 1 and data.shape is not None and data.shape[0] == 3:
        raise TTAError(
            f"{data.note}: image files are read in colour and cannot be given with 1 channel; use an .npz file"
        )
    return data


def by_name(name: str, place: Path, split: str, fit: Fit) -> ImageData | None:
    """The data set of a name; None where the name is none of `NAMES`."""
    if name == "digits":
        return embedded(split, fit)
    if name in cifar.PYTHON:
        return cifar.load(name, place, split, fit)
    if name == "imagenet":
        return imagenet.load(place, split, fit)
    if name in imagenet.VARIANTS:
        return imagenet.load_variant(name, place, split, fit)
    if name == tiny_imagenet.NAME:
        return tiny_imagenet.load(place, split, fit)
    if name in (*medmnist.CLASSES, "chestmnist"):
        return medmnist.load(name, place, split, fit)
    return None


def embedded(split: str, fit: Fit) -> ImageData:
    """The handwritten digits."""
    from tta.digits import CLASSES, digits

    if split == "val":
        raise TTAError("digits have no split 'val'; choose 'test' or 'train'")
    x, y = digits(split)
    data = ArrayImages("digits", x.numpy(), y.numpy(), classes=CLASSES, note=f"digits, {split} split, embedded", **fit)
    data.mirrors = False
    return data


def by_path(name: str, place: Path, split: str, fit: Fit) -> ImageData:
    """Images at a path: a folder of class folders (or of test/ val/ train/ with such), an .npz or an .npy file."""
    path = next((p for p in (Path(name), place / name) if p.exists()), None)
    if path is None:
        if "/" in name or name.endswith((".npz", ".npy")):
            raise TTAError(f"{name} is not there (looked in . and in {place}); give a folder, an .npz or an .npy file")
        raise unknown("data set", name, NAMES)
    name = path.resolve().stem
    if path.is_dir():
        if folder := split_folder(path, split):
            return from_folder(name, folder, fit)
        if (file := array_file(path, split)) is None:
            raise TTAError(
                f"{path} holds no images of the split {split!r}; expected CLASS/IMAGE, {split}/CLASS/IMAGE or "
                f"{split}*.npz"
            )
        path = file
    if path.suffix == ".npz":
        images, labels = read_npz(path, split, fit["limit"])
        return ArrayImages(name, images, labels, note=f"{path}: {split}", **fit)
    if path.suffix == ".npy":
        return ArrayImages(name, *read_pair(path), note=str(path), **fit)
    raise TTAError(f"{path} is neither a folder nor an .npz or .npy file; single images go into a folder CLASS/IMAGE")


def from_folder(name: str, folder: Path, fit: Fit) -> ImageData:
    """Images in class folders; those named by WordNet ids are known to be classes of ImageNet."""
    if holds_domains(folder):
        raise TTAError(
            f"{folder} looks like DOMAIN/CLASS/IMAGE; give the folder of one domain, or take all of them with "
            "tta.datasets.domain_folders"
        )
    data = FolderImages(name, folder, **of_files(fit))
    data.class_indices = imagenet.indices_of(data.folders)
    return data
