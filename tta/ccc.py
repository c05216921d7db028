"""Continuously changing corruptions: two at a time, their severities along a path of constant accuracy.

CCC (Press et al., "RDumb", NeurIPS 2023) applies one corruption and then another. On a section of the stream, the first
one fades while the second one grows, in steps of a quarter severity, along a path on which a source model keeps a given
accuracy; the next section starts with the corruption that the last one ended with. So the stream changes all the
time and yet stays as hard as it was, for as long as one likes.

The published streams cannot be had bit by bit (their order of files and their random states are lost); this one has
their distribution, for any model, data, speed and seed. Differs from the published one: the accuracies are measured
at whole severities and interpolated in between, and crops are taken from the images as the data set gives them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import corruptions
from corruptions import jpeg
from corruptions.op import check_storage
from corruptions.randomness import image_keys
from tta.ccc_path import find_path
from tta.data.images import ImageData, Index, positions, sha256
from tta.errors import TTAError, unknown
from tta.random_crops import random_crops
from tta.streams import Domain, Stream

if TYPE_CHECKING:
    from tta.ccc_accuracy import Accuracies
    from tta.intruders import Intruders

_EASY = tuple(name for name in corruptions.COMMON if name != "brightness")
#: From difficulty to the accuracy of the source model in %, and to the corruptions that can reach it.
DIFFICULTIES: dict[str, tuple[float, tuple[str, ...]]] = {
    "easy": (40.0, _EASY),
    "medium": (20.0, tuple(name for name in _EASY if name != "jpeg_compression")),
    "hard": (0.0, ("gaussian_noise", "shot_noise", "impulse_noise", "contrast")),
}


@dataclass(frozen=True)
class CCC:
    """A stream of continuously changing corruptions; the published ones have speeds 1000, 2000 and 5000.

    Attributes:
        difficulty: "easy", "medium" or "hard": paths where the source model is right in 40, 20 or 0 % of the images.
        speed: Images at each step of a path; fewer is faster.
        images: Length of the stream, 7,500,000 as published; as many as 15 domains would have, if not given.
        target: Another accuracy in %, instead of the difficulty's.
        names: Other corruptions, at least two, instead of the difficulty's.
        crop: Mirror half of the images and crop each one at random, as published; else they come as they are.
        store_jpeg: Quality of a JPEG file that every image passes through; 85 as published. None for no such file.
    """

    difficulty: str = "medium"
    speed: int = 1000
    images: int | None = None
    target: float | None = None
    names: tuple[str, ...] = ()
    crop: bool = False
    store_jpeg: int | None = None

    def check(self) -> None:
        """Raises TTAError or CorruptionError for values that make no stream."""
        if self.difficulty not in DIFFICULTIES:
            raise unknown("difficulty", self.difficulty, DIFFICULTIES)
        for what, value in (("speed", self.speed), ("number of images", self.images)):
            if value is not None and value < 1:
                raise TTAError(f"the {what} of CCC is {value}; give at least 1")
        if self.target is not None and not 0 <= self.target <= 100:
            raise TTAError(f"the target accuracy of CCC is {self.target}; give a percentage from 0 to 100")
        for name in self.names:
            corruptions.get(name)
        if len(set(self.pool)) < max(2, len(self.pool)):
            raise TTAError(f"CCC needs two or more different corruptions, not {', '.join(self.pool)}")
        check_storage(None, self.store_jpeg)

    @property
    def pool(self) -> tuple[str, ...]:
        """The corruptions."""
        return self.names or DIFFICULTIES[self.difficulty][1]

    @property
    def accuracy(self) -> float:
        """The accuracy that paths keep, in %."""
        return DIFFICULTIES[self.difficulty][0] if self.target is None else self.target


@dataclass(frozen=True)
class Node:
    """A step of a path: two corruptions at two severities.

    Attributes:
        first: Applied first.
        first_severity: 0 (not applied) to 5.
        second: Applied to the result.
        second_severity: 0 (not applied) to 5.
    """

    first: str
    first_severity: float
    second: str
    second_severity: float

    def apply(self, x: Tensor, seed: int, index: Tensor) -> Tensor:
        """The images under both corruptions.

        Args:
            x: Images, uint8, shape (B, C, H, W).
            seed: Seed of the randomness.
            index: What keys each image's randomness, int64, shape (B,).

        Returns:
                Images, uint8, truncated after each corruption.
        """
        for name, severity in ((self.first, self.first_severity), (self.second, self.second_severity)):
            if severity > 0:
                x = corruptions.corrupt(x, name, severity, seed=seed, index=index)
        return x


def walk(ccc: CCC, accuracies: Accuracies, seed: int, images: int) -> Iterator[list[Node]]:
    """The sections of a stream: each starts with the corruption that the one before ended with.

    Args:
        ccc: Which corruptions, accuracy and speed.
        accuracies: Of the source model.
        seed: Seed of the choice of corruptions.
        images: Length of the stream; the last section may be longer than what is left.
    """
    pool, number = ccc.pool, 0

    def choose(among: tuple[str, ...]) -> str:
        nonlocal number
        number += 1
        return among[int(image_keys(seed, "ccc corruption", 0, torch.tensor([number]))) % len(among)]

    first = choose(pool)
    while images > 0:
        second = choose(tuple(name for name in pool if name != first))
        path = find_path(accuracies.surface(first, second), ccc.accuracy)
        yield [Node(first, i / 4, second, j / 4) for i, j in path]
        images -= len(path) * ccc.speed
        first = second


class Section:
    """The images of one section of a stream, computed when they are asked for; the data of a `Domain`.

    At each node come `speed` images of a fresh shuffle of the data (of several, where the data are fewer).

    Args:
        data: The clean images.
        ccc: Speed, crops and storage.
        nodes: The path.
        number: Of the section in its stream: another one draws other images and other noise.
        seed: Of the stream.
        images: At most so many images.
        device: Where to compute; the images are returned there.
    """

    def __init__(
        self, data: ImageData, ccc: CCC, nodes: list[Node], number: int, seed: int, images: int, device: torch.device
    ) -> None:
        self.data, self.ccc, self.nodes, self.device = data, ccc, nodes, device
        self.seed = int(image_keys(seed, "ccc section", 0, torch.tensor([number])))
        self.count = min(len(nodes) * ccc.speed, images)
        self.name, self.classes = f"{data.name}/ccc-{number}", data.classes
        self.mirrors = getattr(data, "mirrors", True)
        self.note = f"{data.note}; section {number} of CCC {ccc.difficulty}, {len(nodes)} steps, seed {seed}, computed"

    def __len__(self) -> int:
        return self.count

    @cached_property
    def index(self) -> Tensor:
        """Position of each image in the data, int64, shape (N,)."""
        parts = []
        for node in range(-(-self.count // self.ccc.speed)):
            rounds = -(-self.ccc.speed // len(self.data))
            shuffles = [self._shuffle(node, turn) for turn in range(rounds)]
            parts.append(torch.cat(shuffles)[: self.ccc.speed])
        return torch.cat(parts)[: self.count]

    def _shuffle(self, node: int, turn: int) -> Tensor:
        keys = image_keys(self.seed, f"ccc images {node}", turn, torch.arange(len(self.data)))
        return torch.argsort(keys, stable=True)

    @property
    def labels(self) -> Tensor:
        """Class of every image, int64, shape (N,)."""
        return self.data.labels[self.index]

    def images(self, index: Index) -> Tensor:
        """The images at some positions, uint8, shape (B, C, H, W), on the device of the section."""
        chosen = positions(index, len(self))
        x = self.data.images(self.index[chosen]).to(self.device)
        if self.ccc.crop:
            x = random_crops(x, image_keys(self.seed, "ccc crop", 0, chosen))
        out = torch.empty_like(x)
        nodes = chosen // self.ccc.speed
        for node in nodes.unique().tolist():
            here = (nodes == node).nonzero()[:, 0]
            out[here.to(x.device)] = self.nodes[node].apply(x[here.to(x.device)], self.seed, chosen[here])
        return out if self.ccc.store_jpeg is None else jpeg.roundtrip(out, self.ccc.store_jpeg)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the clean data's, the path, and all that determines the images."""
        own = [self.seed, self.count, self.ccc.speed, self.ccc.crop, self.ccc.store_jpeg, corruptions.frost_source()]
        return sha256(self.data.fingerprint.encode(), json.dumps([own, [asdict(node) for node in self.nodes]]).encode())


def make_ccc(
    data: ImageData,
    accuracies: Accuracies,
    ccc: CCC | None = None,
    batch_size: int = 64,
    seed: int = 0,
    *,
    device: torch.device | str = "cpu",
    intruders: Intruders | None = None,
) -> Stream:
    """A stream of continuously changing corruptions, its images computed when they are asked for.

    Every section is a domain "FIRST>SECOND"; its severity is the mean of the larger of the two along the path.

    Args:
        data: The clean images.
        accuracies: Of the source model that the stream is to be equally hard for; measured where they are missing.
        ccc: What stream; medium at speed 1000 if not given.
        batch_size: At least 1.
        seed: Seed of everything in it.
        device: Where to compute.
        intruders: Images that nobody is scored on, from one domain, mixed into every section; see `tta.intruders`.

    Raises:
        TTAError: Values that make no stream.
        CorruptionError: Likewise.

    Reference:
        Press et al., "RDumb: A simple approach that questions our progress in continual test-time adaptation",
        NeurIPS 2023.
    """
    ccc = CCC() if ccc is None else ccc
    ccc.check()
    if batch_size < 1:
        raise TTAError(f"the batch size is {batch_size}; give at least 1")
    if not len(data):
        raise TTAError(f"{data.name} has no images")
    if intruders is not None and len(intruders.domains) > 1:
        raise TTAError(f"intruders come from {len(intruders.domains)} domains; give one, for CCC chooses its sections")
    left = images = ccc.images or 15 * len(data)
    domains: list[Domain] = []
    expected = []
    for number, nodes in enumerate(walk(ccc, accuracies, seed, images)):
        section = Section(data, ccc, nodes, number, seed, left, torch.device(device))
        left -= len(section)
        name = f"{nodes[0].first}>{nodes[0].second}"
        again = sum(domain.name.partition("#")[0] == name for domain in domains)
        severity = sum(max(node.first_severity, node.second_severity) for node in nodes) / len(nodes)
        domains.append(Domain(f"{name}#{again + 1}" if again else name, round(severity, 2), section))
        expected.append(round(accuracies.along(nodes), 2))
    warn_if_missed(ccc.accuracy, sum(a * len(d.data) for a, d in zip(expected, domains, strict=True)) / images)
    stream = Stream(domains, "ccc", batch_size, seed, "shuffled", intruders)
    stream.definition["ccc"] = {
        **asdict(ccc),
        "images": images,
        "names": list(ccc.pool),
        "target": ccc.accuracy,
        "calibration": accuracies.key,
        "expected_accuracy": expected,
    }
    return stream


def warn_if_missed(target: float, reached: float) -> None:
    """Warns of paths far from their target; that of the hard ones, 0 %, is out of reach for every model."""
    if target > 0 and abs(reached - target) > 5:
        warnings.warn(
            f"the source model is right in {reached:.0f} % of the images of this CCC stream, not in {target:.0f} %: no "
            "path under these corruptions comes nearer; choose other corruptions or another target",
            stacklevel=3,
        )
