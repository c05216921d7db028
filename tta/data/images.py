"""What a data set is: labelled images that are read when they are asked for."""

from __future__ import annotations

import hashlib
from functools import cached_property

import torch
from torch import Tensor

from tta.errors import TTAError

Index = Tensor | slice


class ImageData:
    """Labelled images, read when asked for.

    Attributes:
        name: A short name, for tables.
        classes: Names of the K classes.
        labels: int64, shape (N,), in 0 to K-1.
        keys: The number of each image in its whole data set, int64, shape (N,). It keys the image's corruption, so that
            a part of a data set is corrupted as the whole is.
        shape: (C, H, W), or None where the images differ.
        note: What was found and where, one line.
        counted: Whether the classes are only those that the labels reach: there may be more.
        mirrors: Whether a mirrored image keeps its class, so that methods may mirror images.
        folders: Name of each class's folder, where the data set is published in folders; else empty.
        class_indices: Where the classes are some of ImageNet's 1,000: the place of each among these; else None. See
            `tta.class_subset`.
        balanced: Whether the published error is 100 % less the balanced accuracy, the mean over the classes.
    """

    counted: bool = False
    mirrors: bool = True
    folders: tuple[str, ...] = ()
    class_indices: tuple[int, ...] | None = None
    balanced: bool = False
    name: str
    classes: tuple[str, ...]
    labels: Tensor
    keys: Tensor
    shape: tuple[int, int, int] | None
    note: str

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, index: Index) -> Tensor:
        """The images at some positions.

        Args:
            index: Positions, int64, shape (B,), in 0 to N-1; or a slice.

        Returns:
            uint8, shape (B, C, H, W).

        Raises:
            TTAError: A position outside the data set, or an image that cannot be read.
        """
        raise NotImplementedError

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of images and labels, hexadecimal; computed when first asked for."""
        raise NotImplementedError

    def take_classes(self, data: ImageData) -> None:
        """Takes over from other data what is said of the classes, their names and what else holds for all images."""
        self.classes, self.mirrors, self.folders = data.classes, data.mirrors, data.folders
        self.class_indices, self.balanced, self.counted = data.class_indices, data.balanced, data.counted

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self):,} images {self.shape}, {len(self.classes)} classes>"


class Subset(ImageData):
    """Some images of another data set.

    Args:
        data: The whole.
        index: Positions in it, int64, shape (N,).
    """

    def __init__(self, data: ImageData, index: Tensor) -> None:
        self.data, self.index = data, positions(index, len(data))
        self.take_classes(data)
        self.name, self.shape = data.name, data.shape
        self.labels, self.keys = data.labels[self.index], data.keys[self.index]
        self.note = f"{data.note}; {len(self.index):,} of {len(data):,} images"

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`."""
        return self.data.images(self.index[positions(index, len(self))])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the fingerprint of the whole and the positions."""
        return sha256(self.data.fingerprint.encode(), self.index.numpy().tobytes())


class Corrupted(ImageData):
    """A data set under a corruption, computed when images are asked for.

    Args:
        data: The clean images, of 1 or 3 channels.
        name: A corruption, one of `corruptions.names()`.
        severity: In [0, 5]; 0 is clean.
        seed: Seed of the corruption's randomness, which is keyed by the image.
        device: Where to compute; the images are returned there.

    Raises:
        CorruptionError: No such corruption, or no such severity.
    """

    def __init__(
        self, data: ImageData, name: str, severity: float, seed: int = 0, *, device: torch.device | str = "cpu"
    ) -> None:
        import corruptions
        from corruptions.op import check_severity

        corruptions.get(name)
        check_severity(severity)
        self.data, self.corruption, self.severity, self.seed, self.device = data, name, severity, seed, device
        self.take_classes(data)
        self.name, self.shape = f"{data.name}/{name}-{severity:g}", data.shape
        self.labels, self.keys = data.labels, data.keys
        self.note = f"{data.note}; {name} at severity {severity:g}, seed {seed}, computed"

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`, on the device of the corruption."""
        import corruptions

        chosen = positions(index, len(self))
        clean = self.data.images(chosen).to(self.device)
        return corruptions.corrupt(clean, self.corruption, self.severity, seed=self.seed, index=self.keys[chosen])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the clean fingerprint and of the corruption's name, severity and seed."""
        return sha256(f"{self.data.fingerprint} {self.corruption} {float(self.severity)} {self.seed}".encode())


def positions(index: Index, count: int) -> Tensor:
    """An index as positions in 0 to count-1, int64, shape (B,).

    Raises:
        TTAError: Not integers of one dimension, or outside.

    >>> positions(slice(1, None, 2), 6)
    tensor([1, 3, 5])
    """
    if isinstance(index, slice):
        return torch.arange(count)[index]
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise TTAError(f"index has shape {tuple(index.shape)} and type {index.dtype}; expected integers of shape (B,)")
    index = index.to("cpu", torch.int64)
    if len(index) and not (index.min() >= 0 and index.max() < count):
        raise TTAError(f"index ranges from {index.min()} to {index.max()}; there are {count} images, 0 to {count - 1}")
    return index


def sha256(*parts: bytes) -> str:
    """SHA-256 of concatenated bytes, hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
