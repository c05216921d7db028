"""CIFAR-10 and CIFAR-100 in their official layouts."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tta.data.arrays import ArrayImages
from tta.data.npz import read_npz
from tta.data.places import Fit, array_file
from tta.data.published import PUBLISHED, not_there
from tta.errors import TTAError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: Folder, files of the test and training split, key of the labels: the "python version" of the data sets.
PYTHON = {
    "cifar10": ("cifar-10-batches-py", ["test_batch"], [f"data_batch_{i}" for i in range(1, 6)], b"labels"),
    "cifar100": ("cifar-100-python", ["test"], ["train"], b"fine_labels"),
}
#: Folder, files, bytes of labels before each image, of which the last is the class: the "binary version".
BINARY = {
    "cifar10": ("cifar-10-batches-bin", ["test_batch.bin"], [f"data_batch_{i}.bin" for i in range(1, 6)], 1),
    "cifar100": ("cifar-100-binary", ["test.bin"], ["train.bin"], 2),
}
PIXELS = 3 * 32 * 32


def load(name: str, root: Path, split: str, fit: Fit) -> ArrayImages:
    """CIFAR-10 or CIFAR-100: an .npz file, or the python or binary version.

    Raises:
        TTAError: Not there, incomplete or damaged.
    """
    classes = CIFAR10 if name == "cifar10" else tuple(str(k) for k in range(100))
    for place in (root / name, root):
        if file := array_file(place, split):
            images, labels = read_npz(file, split, fit["limit"])
            return ArrayImages(name, images, labels, classes=classes, note=str(file), **fit)
        for read, version in ((read_python, "python"), (read_binary, "binary")):
            if (pair := read(name, place, split)) is not None:
                return ArrayImages(name, *pair, classes=classes, note=f"{place}: {version} version, {split}", **fit)
    expected = f"{PYTHON[name][0]}/, {BINARY[name][0]}/ or {split}*.npz with x (uint8) and y"
    raise not_there(f"{name} ({split})", (root / name, root), expected, PUBLISHED[name])


def latin1(text: str, encoding: str) -> bytes:
    """What `_codecs.encode` does in pickles of bytes written with an old protocol."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of dictionaries, lists, bytes, numbers and numpy arrays; refuses everything else.

    A pickle is a program that can call any function it names. Here it can name only what rebuilds an array.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The few names that an array needs.

        Raises:
            pickle.UnpicklingError: Any other name.
        """
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("_codecs", "encode"):
            return latin1
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of an array")


def unpickle(path: Path) -> dict[bytes, Any]:
    """The dictionary in one file of the python version.

    Raises:
        TTAError: Not such a file, or one that would run code.
    """
    try:
        content = ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise TTAError(
            f"{path} is not a CIFAR file in the python version and was not opened further: {error}"
        ) from error
    if not isinstance(content, dict):
        raise TTAError(f"{path} holds {type(content).__name__}; expected a dictionary with data and labels")
    return {key.encode() if isinstance(key, str) else key: value for key, value in content.items()}


def read_python(name: str, root: Path, split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Images (N, 3, 32, 32) and labels of the python version below `root`; None where it is not there."""
    folder, test, train, key = PYTHON[name]
    files = present(root, folder, {"test": test, "train": train}.get(split, []))
    if files is None:
        return None
    images, labels = [], []
    for file in files:
        content = unpickle(file)
        if b"data" not in content or key not in content:
            raise TTAError(f"{file} holds {sorted(content)}; expected data and {key.decode()}")
        images.append(pixels(np.asarray(content[b"data"]), file))
        labels.append(np.asarray(content[key]))
    return np.concatenate(images), np.concatenate(labels)


def read_binary(name: str, root: Path, split: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Images (N, 3, 32, 32) and labels of the binary version below `root`; None where it is not there."""
    folder, test, train, before = BINARY[name]
    files = present(root, folder, {"test": test, "train": train}.get(split, []))
    if files is None:
        return None
    images, labels = [], []
    for file in files:
        values = np.fromfile(file, np.uint8)
        if len(values) % (before + PIXELS):
            raise TTAError(f"{file} has {len(values):,} bytes; expected a multiple of {before + PIXELS:,}")
        rows = values.reshape(-1, before + PIXELS)
        images.append(pixels(rows[:, before:], file))
        labels.append(rows[:, before - 1])
    return np.concatenate(images), np.concatenate(labels)


def present(root: Path, folder: str, names: list[str]) -> list[Path] | None:
    """The files in `root` or in its folder; None where the first is missing.

    Raises:
        TTAError: Only some are there.
    """
    for place in (root / folder, root) if names else ():
        files = [place / name for name in names]
        if files[0].is_file():
            if missing := [file for file in files if not file.is_file()]:
                raise TTAError(f"{missing[0]} is not there; expected {', '.join(names)} in {place}")
            return files
    return None


def pixels(rows: np.ndarray, file: Path) -> np.ndarray:
    """Rows of 3,072 values, red, green and blue plane after each other, as images.

    Raises:
        TTAError: Another type or number of values.
    """
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != PIXELS:
        raise TTAError(f"{file}: data is {rows.dtype} of shape {rows.shape}; expected uint8 of shape (N, {PIXELS})")
    return rows.reshape(-1, 3, 32, 32)
