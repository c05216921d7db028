"""What to write, and how one unit of it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from corruptions.errors import CorruptionError
from corruptions.frost import set_frost_folder
from corruptions.op import Quantise, check_severity, check_storage, corrupt, get
from corruptions.writing.arrays import CifarLayout, MedmnistLayout
from corruptions.writing.layout import Block, Images, Layout, Unit
from corruptions.writing.pictures import ImagenetLayout, ShardLayout

LAYOUTS: dict[str, type[Layout]] = {
    "cifar": CifarLayout,
    "imagenet": ImagenetLayout,
    "medmnist": MedmnistLayout,
    "shards": ShardLayout,
}
#: Values that are read, corrupted and written at a time, in each worker.
_BLOCK = 2**22


@dataclass(frozen=True)
class Plan:
    """What to write.

    Attributes:
        layout: "cifar", "imagenet", "medmnist" or "shards".
        names: The corruptions.
        severities: Each in [0, 5]; the layouts of arrays hold 1, 2, 3, 4, 5.
        seed: Seed of the keyed randomness: images come out as `corrupt` gives them on the fly.
        exact: As in `corrupt`.
        quantise: As in `corrupt`.
        store_jpeg: Quality of the JPEG files of images; in arrays, of a pass through such a file. None is lossless.
        shard_images: Images in a shard.
        device: Where to compute.
    """

    layout: str
    names: tuple[str, ...]
    severities: tuple[float, ...] = (1, 2, 3, 4, 5)
    seed: int = 0
    exact: bool = False
    quantise: Quantise | None = None
    store_jpeg: int | None = None
    shard_images: int = 25_000
    device: str = "cpu"

    def check(self) -> None:
        """Raises CorruptionError for what can be told without the data."""
        if self.layout not in LAYOUTS:
            raise CorruptionError(f"unknown format {self.layout!r}: choose from {', '.join(LAYOUTS)}")
        for what, values in (("corruption", self.names), ("severity", self.severities)):
            if not values:
                raise CorruptionError(f"there is no {what} to write")
            if len(set(values)) < len(values):
                raise CorruptionError(f"a {what} is given twice: {', '.join(map(str, values))}")
        for name in self.names:
            get(name)
        for severity in self.severities:
            check_severity(severity)
        check_storage(self.quantise, self.store_jpeg)
        if self.shard_images < 1:
            raise CorruptionError(f"a shard of {self.shard_images} images is none; give at least 1")


@dataclass(frozen=True)
class Job:
    """All that a worker needs."""

    plan: Plan
    layout: Layout
    data: Images
    frost: str | None

    def begin(self) -> None:
        """Called once in each worker process."""
        set_frost_folder(self.frost)

    def run(self, unit: Unit) -> Unit:
        """Writes one unit, with one thread: so that the bytes depend on no machine's number of cores."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self.layout.write(unit, self._blocks(unit))
        finally:
            torch.set_num_threads(threads)
        return unit

    def _blocks(self, unit: Unit) -> Iterator[Block]:
        plan = self.plan
        channels, height, width = self.layout.shape
        step = max(1, _BLOCK // (channels * height * width))
        in_files = plan.layout in ("imagenet", "shards")
        for start in range(unit.start, unit.stop, step):
            index = torch.arange(start, min(start + step, unit.stop))
            clean = self.data.images(index)
            if clean.dtype != torch.uint8 or tuple(clean.shape[1:]) != self.layout.shape:
                raise CorruptionError(
                    f"{self.data.name}: images {start} and on are {clean.dtype} of shape {tuple(clean.shape[1:])}; "
                    f"expected uint8 of shape {self.layout.shape}, as the first"
                )
            damaged = corrupt(
                clean.to(plan.device), unit.name, unit.severity, seed=plan.seed, index=self.data.keys[index],
                exact=plan.exact, quantise=plan.quantise, store_jpeg=None if in_files else plan.store_jpeg,
            )  # fmt: skip
            yield range(start, start + len(index)), damaged.permute(0, 2, 3, 1).contiguous().cpu().numpy()
