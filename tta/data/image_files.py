"""Image files, decoded when they are asked for."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tta.data.images import ImageData, Index, positions
from tta.data.resize import crop
from tta.errors import TTAError

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
#: More than 8 bits per value, which a conversion to RGB would clip to white.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
#: Threads that decode at a time; the decoders of PIL release the interpreter's lock.
WORKERS = min(8, os.cpu_count() or 1)
FINGERPRINT_FILES = 256
T = TypeVar("T")


class FileImages(ImageData):
    """Image files of any kind, decoded to RGB in a few threads when asked for; nothing decoded is kept.

    The headers of all files are read at construction. Files that are no images (or have more than 8 bits per value) are
    left out with a warning, and counted in `unreadable` and in the note. A million files take about 50 bytes each.

    Args:
        name: A short name, for tables.
        root: Folder that the files lie below.
        files: Paths below `root`, with forward slashes.
        labels: The class of each.
        folders: Name of the folder of each class.
        classes: Names of the classes for tables; the folder names if not given.
        size: Resize the short side and crop the centre to this side; None leaves the images as they are.
        limit: At most so many images, evenly spread over the files.
        where: Where the list of files comes from, for the note.

    Raises:
        TTAError: No readable images.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int],
        folders: Sequence[str],
        *,
        classes: Sequence[str] | None = None,
        size: int | None = None,
        limit: int | None = None,
        where: str = "",
    ) -> None:
        keys = np.arange(len(files))
        if limit is not None and limit < len(files):
            keys = np.arange(limit) * len(files) // limit
        sizes = in_threads(lambda key: header(root / files[key]), keys.tolist())
        good = [(key, size) for key, size in zip(keys.tolist(), sizes, strict=True) if isinstance(size, tuple)]
        broken = [(files[key], size) for key, size in zip(keys.tolist(), sizes, strict=True) if isinstance(size, str)]
        if not good:
            raise TTAError(f"{root}: none of {len(sizes)} files can be read: {broken[0][0]}: {broken[0][1]}")
        self.name, self.root, self.size = name, root, size
        self.folders, self.classes = tuple(folders), tuple(classes or folders)
        self.names = np.array([os.fsencode(files[key]) for key, _ in good])  # far smaller than a list of paths
        self.unreadable = tuple(root / file for file, _ in broken)
        self.labels = torch.tensor([labels[key] for key, _ in good])
        self.keys = torch.tensor([key for key, _ in good])
        self.sizes = Counter(size for _, size in good)
        self.shape = (3, size, size) if size else (3, *next(iter(self.sizes))) if len(self.sizes) == 1 else None
        self.note = f"{root}: {len(good):,} of {len(files):,} images {where}"
        if broken:
            self.note += f", {len(broken)} unreadable"
            first = f"{Path(broken[0][0]).name}: {broken[0][1]}"
            warnings.warn(f"{root}: {len(broken)} of {len(sizes)} files are left out; the first: {first}", stacklevel=3)

    def path(self, position: int) -> Path:
        """The file of the image at a position."""
        return self.root / os.fsdecode(self.names[position])

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`; raises TTAError for images of several sizes when no `size` was given."""
        chosen = positions(index, len(self)).tolist()
        if not chosen:
            return torch.empty(0, *(self.shape or (3, 0, 0)), dtype=torch.uint8)
        if self.shape is None:
            (a, _), (b, _) = self.sizes.most_common(2)
            raise TTAError(f"{self.root}: images differ in size ({a}, {b} ...); give size= to resize and crop them")
        decoded = in_threads(lambda i: decode(self.path(i), self.size), chosen)
        if broken := [image for image in decoded if isinstance(image, str)]:
            raise TTAError(
                f"{len(broken)} of {len(chosen)} images cannot be decoded; remove or replace them: "
                + "; ".join(broken[:5])
            )
        return torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image in decoded]))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all names, labels and file sizes, and of the contents of at most 256 files, evenly spread."""
        digest = hashlib.sha256(f"{self.size} {self.classes}".encode())
        digest.update(self.labels.numpy().tobytes())
        for i, name in enumerate(self.names):
            digest.update(name + f" {self.path(i).stat().st_size}\n".encode())
        count = min(FINGERPRINT_FILES, len(self.names))
        for i in range(count):
            digest.update(self.path(i * len(self.names) // count).read_bytes())
        return digest.hexdigest()


def image_files(folder: Path) -> list[str]:
    """The image files in a folder and below it, as paths in it with forward slashes, sorted part by part."""
    found = []
    for place, _, names in os.walk(folder):
        below = Path(place).relative_to(folder)
        found += [(below / name).as_posix() for name in names if is_image(name)]
    return sorted(found, key=lambda file: file.split("/"))


def is_image(name: str) -> bool:
    """Whether a file of this name is an image, and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def check_there(root: Path, files: Sequence[str], listed: Path) -> None:
    """Refuses a list that names files which are not there.

    Raises:
        TTAError: Some are not.
    """
    if missing := [file for file in files if not (root / file).is_file()]:
        raise TTAError(
            f"{listed} names {len(missing):,} of {len(files):,} files that are not in {root}, such as {missing[0]}"
        )


def header(file: Path) -> tuple[int, int] | str:
    """(H, W) of an image file from its header, or why it cannot be used."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode in DEEP_MODES:
                return f"{image.mode} pixels have more than 8 bits; convert to 8-bit first"
            return image.height, image.width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error)


def decode(file: Path, size: int | None) -> Any:
    """The RGB image as uint8, shape (H, W, 3), or a string that says which file is broken and why."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
            return np.asarray(crop(rgb, size) if size else rgb)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{file}: {error}"


def in_threads(function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
    """Results in the order of the items; the threads end with the call."""
    size = min(64, max(1, len(items) // (4 * WORKERS)))  # a task per item would cost more than to read a header
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(WORKERS) as pool:
        done = pool.map(lambda part: [function(item) for item in part], parts)
        return [result for results in done for result in results]
