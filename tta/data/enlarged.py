"""Images that are enlarged before their centre is cropped, as some published protocols do with ImageNet-C."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tta.data.image_files import in_threads
from tta.data.images import ImageData, Index, positions, sha256


class Enlarged(ImageData):
    """The images of another data set, enlarged to `side` (bilinear, by PIL); of that the centre, as large as they were.

    What torchvision's Resize(256) and CenterCrop(224) do with images of 224 pixels.

    Args:
        data: The images, square, of one size, with three channels.
        side: In pixels, at least that size.
    """

    def __init__(self, data: ImageData, side: int) -> None:
        self.data, self.side = data, side
        self.take_classes(data)
        self.name, self.shape = f"{data.name}, {side} pixels", data.shape
        self.labels, self.keys = data.labels, data.keys
        self.note = f"{data.note}; enlarged to {side} pixels and cropped"

    def images(self, index: Index) -> Tensor:
        """As in `ImageData`."""
        images = self.data.images(positions(index, len(self))).permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(np.stack(in_threads(self._enlarge, list(images)))).permute(0, 3, 1, 2).contiguous()

    def _enlarge(self, image: np.ndarray) -> np.ndarray:
        from PIL import Image

        size, start = len(image), round((self.side - len(image)) / 2)
        large = Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BILINEAR)
        return np.asarray(large.crop((start, start, start + size, start + size)))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the fingerprint of the images, and of the side."""
        return sha256(f"{self.data.fingerprint} enlarged {self.side}".encode())
