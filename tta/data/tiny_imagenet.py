"""Tiny-ImageNet: 200 classes, 64 pixels (Stanford CS231n)."""

from __future__ import annotations

from pathlib import Path

from tta.data.folders import FolderImages, class_folders
from tta.data.image_files import SUFFIXES, FileImages, check_there, is_image
from tta.data.places import VALIDATED, Fit, folders, of_files
from tta.data.published import PUBLISHED, not_there
from tta.errors import TTAError

NAME = "tiny-imagenet"
#: The file of classes and files in the folder of validation images, as published.
ANNOTATIONS = "val_annotations.txt"


def load(root: Path, split: str, fit: Fit) -> FileImages:
    """Tiny-ImageNet as published (val/images with val_annotations.txt), or with val/WNID/IMAGE.

    Labels are numbered in the order of the WordNet ids, as in Tiny-ImageNet-C and wherever folders are sorted by name;
    the order of wnids.txt is another one.

    Raises:
        TTAError: Not there, or an annotation that does not fit.
    """
    looked = (root / "tiny-imagenet-200", root / NAME, root)
    for place in looked:
        folder = place / VALIDATED[split][0]
        if not folder.is_dir() or (not (place / "wnids.txt").is_file() and not wnid_folders(folder)):
            continue
        classes, described = class_names(place, folder), describe(place)
        if len(classes) > 200:  # ImageNet itself
            continue
        words = [described.get(wnid, wnid) for wnid in classes]
        if (folder / ANNOTATIONS).is_file() and not wnid_folders(folder):
            return annotated(folder, classes, words, fit)
        return FolderImages(NAME, folder, classes=classes, class_names=words, **of_files(fit))
    expected = f"{VALIDATED[split][0]}/WNID/IMAGE, or val/images with {ANNOTATIONS}"
    raise not_there(f"{NAME} ({split})", (root / "tiny-imagenet-200", root), expected, PUBLISHED[NAME])


def wnid_folders(folder: Path) -> list[str]:
    """The folders in a folder that are named by WordNet id, sorted."""
    return sorted(name for name in folders(folder) if name[:1] == "n" and name[1:].isdigit())


def class_names(place: Path, folder: Path) -> list[str]:
    """The WordNet ids of the classes, sorted: those of wnids.txt, of the training images, or of the split."""
    if (listed := place / "wnids.txt").is_file():
        return sorted(listed.read_text().split())
    return wnid_folders(place / "train") or class_folders(folder)


def describe(place: Path) -> dict[str, str]:
    """From WordNet id to words, from words.txt; empty where that is not there."""
    if not (words := place / "words.txt").is_file():
        return {}
    return dict(line.split("\t", 1) for line in words.read_text().splitlines() if "\t" in line)


def annotated(folder: Path, classes: list[str], words: list[str], fit: Fit) -> FileImages:
    """The validation images as published: val/images/IMAGE, and their classes in a file of lines "IMAGE WNID ..."."""
    listed = folder / ANNOTATIONS
    places = {wnid: label for label, wnid in enumerate(classes)}
    found = []
    for number, line in enumerate(listed.read_text().splitlines(), 1):
        file, wnid = (*line.split("\t"), "", "")[:2]
        if wnid not in places or not is_image(file):
            raise TTAError(
                f"{listed}, line {number}: expected the name of an image ({', '.join(SUFFIXES[:3])}), a tab and one of "
                f"{len(classes)} WordNet ids such as {classes[0]}; got {line[:60]!r}"
            )
        found.append((places[wnid], f"images/{file}"))
    found.sort()  # as the files of one folder per class are sorted
    labels, files = [label for label, _ in found], [file for _, file in found]
    check_there(folder, files, listed)
    return FileImages(NAME, folder, files, labels, classes, classes=words, where=f"of {ANNOTATIONS}", **of_files(fit))
