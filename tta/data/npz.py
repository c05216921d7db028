"""Images and labels in .npz files, without holding more of them in memory than is small.

An array that is stored uncompressed is mapped. A compressed one (as in MedMNIST) cannot be read at a place in its
middle: it is read whole where that is small, and else unpacked once into a file that is mapped. The 224-pixel files of
MedMNIST+ unpack to 0.01 to 2.4 GB for the test images, to 13.5 GB for the training images of PathMNIST.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from corruptions.files import map_member
from tta import files
from tta.errors import TTAError

#: Names under which images and labels are found in an .npz file, in this order.
IMAGE_KEYS = ("{split}_images", "x_{split}", "x", "images", "data")
LABEL_KEYS = ("{split}_labels", "y_{split}", "y", "labels", "targets")
#: Bytes of images that are read into memory from a compressed file; what is larger is unpacked to disk.
IN_MEMORY = 2**28


@dataclass(frozen=True)
class NpzImages:
    """Images in an .npz file, and their labels; only the labels are read yet.

    Attributes:
        path: The file.
        member: The array of images in it, "x.npy".
        shape: Its shape, images first.
        labels: The array of labels, as stored.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, start: int = 0, stop: int | None = None, memory: int | None = None) -> np.ndarray:
        """The images from `start` to before `stop`: a memory map, or an array of at most `memory` bytes (256 MiB).

        Raises:
            TTAError: A damaged file, or no room to unpack a large one.
        """
        memory = IN_MEMORY if memory is None else memory
        size = math.prod(self.shape[1:])
        shape = (min(len(self), len(self) if stop is None else stop) - start, *self.shape[1:])
        with readable(self.path):
            if (mapped := map_member(self.path, self.member)) is not None:
                return mapped[start:stop]
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                if size * len(self) <= memory:
                    return npy.read_array(stream, allow_pickle=False)[start:stop]
                if header(stream)[1]:
                    raise TTAError(
                        f"{self.path}: {self.member} is stored column by column; save it again, "
                        "with numpy.ascontiguousarray(images)"
                    )
                if math.prod(shape) > memory:
                    return self._unpacked(stream, archive.getinfo(self.member).CRC, start * size, shape)
                skip(stream, start * size)
                return np.frombuffer(take(stream, math.prod(shape)), np.uint8).reshape(shape)

    def _unpacked(self, stream: IO[bytes], checksum: int, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        """A map of a part of the array in the cache, where it is put if it is not there yet."""
        from tta.ccc_accuracy import cache_folder

        folder = files.folder(cache_folder() / "unpacked", "the folder for unpacked images")
        name = f"{self.path.stem}-{self.member.removesuffix('.npy')}-{checksum:08x}-{offset}-{shape[0]}.raw"
        target, size = folder / name, math.prod(shape)
        if not (target.is_file() and target.stat().st_size == size):
            if (free := shutil.disk_usage(folder).free) < size + IN_MEMORY:
                raise TTAError(
                    f"{self.path} is compressed and its {shape[0]:,} images need {size / 1e9:.1f} GB unpacked, but "
                    f"{folder} has room for {free / 1e9:.1f} GB; set TTA_CACHE to a folder with more room"
                )
            warnings.warn(f"{self.path}: unpacking {size / 1e9:.1f} GB of images to {target}, once", stacklevel=4)
            skip(stream, offset)
            copy(stream, target, size)
        return np.memmap(target, np.uint8, "r", shape=shape)


def find_npz(path: Path, split: str) -> NpzImages:
    """The images and labels of a split in an .npz file.

    Keys: x, y; images, labels; data, targets; or per split, as in MedMNIST: test_images, test_labels.

    Raises:
        TTAError: Not an .npz file, or without such keys.
    """
    with readable(path), np.load(path, allow_pickle=False) as file:
        names = list(file.files)
        # A file with x and y is the test split unless its name says otherwise: no training on test images.
        known = 5 if split == "test" or path.name.startswith(split) else 2
        images, labels = find_key(names, IMAGE_KEYS[:known], split), find_key(names, LABEL_KEYS[:known], split)
        if images is None or labels is None:
            raise TTAError(
                f"{path} holds {', '.join(names) or 'nothing'}; expected {split}_images and {split}_labels, "
                f"or x and y in a file whose name begins with {split}"
            )
        with zipfile.ZipFile(path) as archive, archive.open(f"{images}.npy") as stream:
            shape, _, dtype = header(stream)
        check_images(shape, dtype, str(path))
        return NpzImages(path, f"{images}.npy", shape, file[labels])


def read_npz(path: Path, split: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first images of a split in an .npz file, mapped unless they are small, and the labels of all.

    Raises:
        TTAError: Not an .npz file, without the keys (see `find_npz`), or of other counts of images and labels.
    """
    found = find_npz(path, split)
    if len(found) != len(found.labels):
        raise TTAError(f"{path}: {len(found)} images but {len(found.labels)} labels; expected one label per image")
    return found.rows(0, limit), found.labels


def find_key(names: list[str], patterns: tuple[str, ...], split: str) -> str | None:
    """The first of the patterns that a file holds."""
    return next((p.format(split=split) for p in patterns if p.format(split=split) in names), None)


def check_images(shape: tuple[int, ...], dtype: np.dtype, source: str) -> str:
    """Where the channels of an array of images are: "NHWC", "NCHW" or "NHW".

    Raises:
        TTAError: No images, not uint8, or another number of dimensions or channels.
    """
    if dtype != np.uint8:
        raise TTAError(
            f"{source}: images are {dtype}; expected uint8 in 0 to 255 (for floats in [0, 1], store "
            "(255 * x).round() as uint8)"
        )
    if 0 in shape:
        raise TTAError(f"{source}: there are no images in it (shape {shape})")
    if len(shape) == 3:
        return "NHW"
    if len(shape) == 4 and shape[3] in (1, 3):
        return "NHWC"
    if len(shape) == 4 and shape[1] in (1, 3):
        return "NCHW"
    raise TTAError(f"{source}: images have shape {shape}; expected (N, H, W, C), (N, C, H, W) or (N, H, W), C 1 or 3")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever a damaged or foreign file raises into one message."""
    try:
        yield
    except TTAError:
        raise
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise TTAError(f"{path} cannot be read as .npz ({error}); expected numpy.savez(x=images, y=labels)") from error


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether column-major, and type of an array, read from the beginning of its .npy file."""
    if npy.read_magic(stream) == (1, 0):
        return npy.read_array_header_1_0(stream)
    return npy.read_array_header_2_0(stream)


def skip(stream: IO[bytes], size: int) -> None:
    """Reads over so many bytes."""
    while size:
        size -= len(read(stream, min(size, 2**20)))


def take(stream: IO[bytes], size: int) -> bytearray:
    """So many bytes."""
    taken = bytearray(size)
    view, start = memoryview(taken), 0
    while start < size:
        part = read(stream, min(size - start, 2**20))
        view[start : start + len(part)] = part
        start += len(part)
    return taken


def copy(stream: IO[bytes], target: Path, size: int) -> None:
    """Writes so many bytes to a file, which is there completely or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            while size:
                part = read(stream, min(size, 2**20))
                file.write(part)
                size -= len(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TTAError(
                f"{target} cannot be written ({error.strerror}); set TTA_CACHE to a folder with room"
            ) from error
        raise


def read(stream: IO[bytes], size: int) -> bytes:
    """At least one and at most so many bytes.

    Raises:
        EOFError: There are no more.
    """
    if not (part := stream.read(size)):
        raise EOFError("it ends too early")
    return part
