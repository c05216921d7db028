"""Images in arrays: .npz and .npy files, memory-mapped where the file is not compressed."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tta.data.image_files import in_threads
from tta.data.images import ImageData, Index, positions
from tta.data.npz import check_images
from tta.data.resize import crop_array
from tta.errors import TTAError


class ArrayImages(ImageData):
    """Images in one array, which may be a memory map.

    Args:
        name: A short name, for tables.
        images: uint8, shape (N, H, W, C), (N, C, H, W) or (N, H, W), C 1 or 3; with a limit, the first ones will do.
        labels: Integers from 0, shape (N,) or (N, 1), of all images.
        classes: Names of the classes; the digits 0 to K-1 if not given.
        note: Where it comes from, one line.
        size: Resize and crop to this side, where the images have another.
        channels: 3 repeats grey images.
        limit: At most so many images, the first ones.

    Raises:
        TTAError: Shapes, types, counts or labels that do not fit.
    """

    def __init__(
        self,
        name: str,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        classes: Sequence[str] | None = None,
        note: str = "arrays",
        size: int | None = None,
        channels: int | None = None,
        limit: int | None = None,
    ) -> None:
        self.layout = check_images(images.shape, images.dtype, note)
        count = len(labels) if limit is not None and len(images) == limit < len(labels) else len(images)
        whole = checked_labels(labels, count, classes, note)
        self.name, self.array, self.size, self.labels = name, images[:limit], size, whole[:limit].clone()
        self.counted = not classes
        self.classes = tuple(classes) if classes else tuple(str(k) for k in range(int(whole.max()) + 1))
        self.keys = torch.arange(len(self.labels))
        c, h, w = shape_of(images, self.layout)
        if channels not in (None, c) and (channels, c) != (3, 1):
            raise TTAError(
                f"{note}: the images have {c} channels and cannot be given as {channels}; leave channels out"
            )
        self.repeat = c == 1 and channels == 3
        self.shape = (3 if self.repeat else c, size or h, size or w)
        self.note = note if len(self) == count else f"{note}, {len(self):,} of {count:,} images"

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`."""
        chosen = positions(index, len(self)).numpy()
        batch = np.asarray(self.array[chosen])  # a copy already
        release(self.array)
        if self.layout == "NHW":
            batch = batch[:, None]
        elif self.layout == "NHWC":
            batch = np.moveaxis(batch, 3, 1)
        if (size := self.size) and batch.shape[2:] != (size, size):
            batch = np.stack(in_threads(lambda image: crop_array(image, size), list(batch)))
        x = torch.from_numpy(np.ascontiguousarray(batch))
        return x.repeat(1, 3, 1, 1) if self.repeat else x

    def __getstate__(self) -> dict[str, Any]:
        """Pickles a memory map as its file and place, not as its content."""
        state = dict(vars(self))
        if (place := place_in_file(self.array)) is not None:
            state["array"] = place
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Maps the file again."""
        if isinstance(state["array"], tuple):
            file, offset, shape, strides = state["array"]
            whole = np.memmap(file, np.uint8, "r")
            state["array"] = np.ndarray(shape, np.uint8, whole, offset, strides)
        vars(self).update(state)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, values as stored, labels, size and channels."""
        digest = hashlib.sha256(f"{self.array.shape} {self.size} {self.repeat}".encode())
        step = max(1, 2**24 // max(1, self.array[0].nbytes))
        for start in range(0, len(self), step):
            digest.update(self.array[start : start + step].tobytes())
            release(self.array)
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def mapped(array: np.ndarray) -> np.memmap | None:
    """The memory map that an array is, or is a part of; None for other arrays."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if isinstance(array, np.memmap) else None


def place_in_file(array: np.ndarray) -> tuple[str, int, tuple[int, ...], tuple[int, ...]] | None:
    """File, offset, shape and strides of a memory map or of a part of one; None for other arrays."""
    if (root := mapped(array)) is None or root.filename is None:
        return None
    offset = root.offset + array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return str(root.filename), offset, array.shape, array.strides


def release(array: np.ndarray) -> None:
    """Gives back the memory of what was read of a memory map; else all of the file would count as ours in the end."""
    root = mapped(array)
    if root is not None and hasattr(mmap, "MADV_DONTNEED"):
        root._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # numpy does not show it


def shape_of(images: np.ndarray, layout: str) -> tuple[int, int, int]:
    """(C, H, W) of an array in one of the layouts."""
    if layout == "NHW":
        return 1, images.shape[1], images.shape[2]
    h, w, c = images.shape[1:] if layout == "NHWC" else (*images.shape[2:], images.shape[1])
    return c, h, w


def checked_labels(labels: np.ndarray, count: int, classes: Sequence[str] | None, source: str) -> Tensor:
    """Labels as int64, shape (N,).

    Raises:
        TTAError: Another number of labels than images, several labels per image, no integers, or outside the classes.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise TTAError(
            f"{source}: labels have shape {labels.shape}: several labels or scores per image; one class number per "
            "image is needed (for one-hot labels store labels.argmax(1))"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TTAError(f"{source}: labels are {labels.dtype}; expected integers from 0")
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise TTAError(f"{source}: {count} images but {len(labels)} labels; expected one label per image")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes and high >= len(classes)):
        known = f"0 to {len(classes) - 1}, for {len(classes)} classes" if classes else "0 and more"
        raise TTAError(f"{source}: labels range from {low} to {high}; expected {known}")
    return torch.from_numpy(labels.astype(np.int64))


def read_npy(path: Path) -> np.ndarray:
    """A memory map of an .npy file.

    Raises:
        TTAError: Not an .npy file, or one of Python objects.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise TTAError(f"{path} is not there") from error
    except (OSError, ValueError, EOFError) as error:
        raise TTAError(f"{path} cannot be read as .npy ({error}); expected numpy.save(path, uint8 array)") from error


def read_pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of an .npy file and the labels beside it: NAME_labels.npy, labels.npy or y.npy.

    Raises:
        TTAError: No labels there.
    """
    beside = [path.with_name(name) for name in (f"{path.stem}_labels.npy", "labels.npy", "y.npy")]
    labels = next((file for file in beside if file.is_file()), None)
    if labels is None:
        raise TTAError(f"{path} has no labels beside it; looked for {', '.join(str(file) for file in beside)}")
    return read_npy(path), np.array(read_npy(labels))
