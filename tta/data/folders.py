"""Images in folders, root/class/image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tta.data.image_files import SUFFIXES, FileImages, image_files
from tta.errors import TTAError


class FolderImages(FileImages):
    """Image files in one folder per class; see `FileImages` for what is read when.

    Args:
        name: A short name, for tables.
        root: Folder of the class folders.
        size: Resize the short side and crop the centre to this side; None leaves the images as they are.
        classes: The folder names in the order of their labels; sorted by name if not given.
        class_names: Names for tables, in the same order; the folder names if not given.
        limit: At most so many images, evenly spread over the files sorted by class.
        others: Pass over folders that are no class, instead of refusing them.

    Raises:
        TTAError: No class folders, a folder that is not a class, or no readable images.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        *,
        size: int | None = None,
        classes: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        limit: int | None = None,
        others: bool = False,
    ) -> None:
        folders = class_folders(root)
        known = {folder: label for label, folder in enumerate(classes if classes is not None else folders)}
        strange = [folder for folder in folders if folder not in known]
        if strange and not others:
            raise TTAError(
                f"{root}: {strange[0]!r} is not one of the {len(known)} expected classes, such as {next(iter(known))!r}"
            )
        folders = [folder for folder in folders if folder in known]
        found = [(f"{folder}/{file}", known[folder]) for folder in folders for file in image_files(root / folder)]
        if not found:
            raise TTAError(
                f"{root}: {len(folders)} class folders but no images in them; expected {', '.join(SUFFIXES)}"
            )
        files, labels = zip(*found, strict=True)
        super().__init__(
            name, root, files, labels, tuple(known), classes=class_names, size=size, limit=limit,
            where=f"in {len(folders)} class folders",
        )  # fmt: skip


def class_folders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones.

    Raises:
        TTAError: There are none.
    """
    if not root.is_dir():
        raise TTAError(f"{root} is not there; expected a folder with one folder of images per class")
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise TTAError(f"{root} has no folders in it; expected one folder of images per class: {root}/CLASS/IMAGE")
    return folders
