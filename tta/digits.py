"""The embedded example: scikit-learn's handwritten digits at 32x32, and the small batch-norm network that reads them.

It needs no download, so that everything can be tried, tested and demonstrated offline in seconds.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights" / "digits_resnet.safetensors"
CLASSES = tuple("0123456789")
#: Mean and standard deviation of the training images, one value for the three equal channels.
MEAN, STD = 0.1875, 0.1045
SIDE = 32
#: Grey values of the background and of full ink.
PAPER, INK = 38, 166
TEST_PER_CLASS = 100
SPLIT_SEED = 0


def digits(split: str) -> tuple[Tensor, Tensor]:
    """The handwritten digits of one split.

    The 1,797 images of 8x8 pixels with values 0 to 16 (the test part of the UCI "Optical Recognition of Handwritten
    Digits" set, as shipped with scikit-learn) are enlarged bilinearly to 16x16, drawn in light grey on the middle of a
    dark grey square of 32x32, and repeated in three channels. Size and contrast are moderate so that corruptions made
    for photographs hurt here too. Of each class, 100 images drawn with a fixed seed are the test split; both splits are
    in a fixed random order.

    Args:
        split: "test" (1,000 images) or "train" (797).

    Returns:
        Images, uint8, shape (N, 3, 32, 32), and labels, int64, shape (N,).
    """
    raw = table()
    grey = draw(raw[:, :-1].reshape(-1, 8, 8))
    order = np.random.RandomState(SPLIT_SEED).permutation(len(grey))
    labels = raw[order, -1]
    place = np.zeros(len(labels), np.int64)  # how many of the same class stand before it in the order
    for k in range(len(CLASSES)):
        place[labels == k] = np.arange((labels == k).sum())
    chosen = (place < TEST_PER_CLASS) == (split == "test")
    images = np.repeat(grey[order[chosen], None], 3, axis=1)
    return torch.from_numpy(images), torch.from_numpy(labels[chosen])


def table() -> np.ndarray:
    """Pixels, row by row, and class of every digit, int64, shape (1797, 65)."""
    found = find_spec("sklearn")
    file = Path(found.origin or "").parent / "datasets" / "data" / "digits.csv.gz" if found else None
    if file is not None and file.is_file():  # past the library, which takes seconds to import
        with gzip.open(file, "rt") as lines:
            return np.loadtxt(lines, delimiter=",").astype(np.int64)
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target]).astype(np.int64)


def draw(raw: np.ndarray) -> np.ndarray:
    """Digits with values 0 to 16, int64, shape (N, 8, 8), as grey images, uint8, shape (N, 32, 32).

    In integers, so that the images and their hash are the same on every platform.
    """
    weights = interpolation(raw.shape[-1], 2)
    ink = weights @ raw @ weights.T  # 4 * 4 times the interpolated value, so 256 for full ink
    grey = PAPER + ((INK - PAPER) * ink + 128) // 256
    margin = (SIDE - grey.shape[-1]) // 2
    return np.pad(grey, ((0, 0), (margin, margin), (margin, margin)), constant_values=PAPER).astype(np.uint8)


def interpolation(size: int, factor: int) -> np.ndarray:
    """Weights of a linear interpolation times 2 * factor, int64, shape (size * factor, size); edges are replicated."""
    weights = np.zeros((size * factor, size), np.int64)
    for i in range(size * factor):
        twice = 2 * i + 1 - factor  # 2 * factor times the position between pixel centres
        left, part = divmod(twice, 2 * factor)
        weights[i, min(max(left, 0), size - 1)] += 2 * factor - part
        weights[i, min(max(left + 1, 0), size - 1)] += part
    return weights


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut, which strides and adds zero channels where shapes change."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.new = stride, c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        """From (B, c_in, H, W) to (B, c_out, H / stride, W / stride)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(short, (0, 0, 0, 0, 0, self.new)))


class DigitsResNet(nn.Module):
    """A ResNet for CIFAR-sized images with 16-32-64 channels and batch norm (He et al., CVPR 2016, section 4.2).

    Args:
        blocks: Blocks per stage; the depth is 6 * blocks + 2.
        classes: Number of classes K.
    """

    def __init__(self, blocks: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(*(Block(32 if i else 16, 32, 1 if i else 2) for i in range(blocks)))
        self.layer3 = nn.Sequential(*(Block(64 if i else 32, 64, 1 if i else 2) for i in range(blocks)))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of normalised images (B, 3, H, W)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))
