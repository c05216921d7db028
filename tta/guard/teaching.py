"""Which images may teach. Those that may not are answered all the same."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import torch
from torch import Tensor

from tta.errors import TTAError


class Filter:
    """Rejects images from learning; what a filter remembers is in `memory`.

    Attributes:
        name: In metrics and in the log.
        apart: Whether rejected images are also kept away from the adapter's answers, where they could move batch
            statistics; they are answered by themselves, or by the source model.
    """

    name: ClassVar[str] = ""
    apart: ClassVar[bool] = True

    def __init__(self) -> None:
        self.memory: dict[str, Any] = {}

    def begin(self, images: Tensor) -> None:
        """Called once with source images, (N, C, H, W) in [0, 1], if there are any."""

    def reject(self, x: Tensor) -> Tensor:
        """Which images must not teach, bool, shape (B,)."""
        raise NotImplementedError


class NotFinite(Filter):
    """Images with NaN or infinite values. Cost: one pass over the pixels. Certain."""

    name = "not_finite"

    def reject(self, x: Tensor) -> Tensor:
        """See the class."""
        return (x.flatten(1) * 0).sum(1) != 0  # NaN where a value is not finite


class Repeated(Filter):
    """Images that are equal, value by value, to one of the latest: a camera that hangs, a client that retries.

    Cost: one pass over the pixels, and the host waits for a number per image. Two different images are taken for equal
    with a probability of 2^-64. An image changed in one bit is a new one.

    Args:
        latest: Images that are remembered.
    """

    name = "repeated"
    apart = False

    def __init__(self, latest: int = 4096) -> None:
        super().__init__()
        if latest < 1:
            raise TTAError(f"the filter of repeated images remembers at least one, got latest={latest}")
        self.latest = latest
        self.memory = {"latest": []}
        #: The list in the memory when it was last used, and what is in it.
        self._listed: tuple[list[int], set[int]] = ([], set())

    def reject(self, x: Tensor) -> Tensor:
        """See the class."""
        latest, known = self.memory["latest"], self._listed[1]
        if latest is not self._listed[0]:  # of a snapshot
            del latest[: -self.latest]
            known = set(latest)
            self._listed = latest, known
        repeated = []
        for number in fingerprints(x).tolist():
            repeated.append(number in known)
            if number not in known:
                known.add(number)
                latest.append(number)
        known.difference_update(latest[: -self.latest])
        del latest[: -self.latest]
        if any(repeated):
            return torch.tensor(repeated, device=x.device)
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)


def fingerprints(x: Tensor) -> Tensor:
    """A number for each image that depends on every bit of it and on nothing else, int64, shape (B,)."""
    bits = x.detach().to(torch.float32).contiguous().flatten(1).view(torch.int32)
    weights, start = _weights(bits.shape[1], x.device)
    return (bits * weights).sum(1) + start


@functools.lru_cache(4)
def _weights(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Odd numbers with bits all over, one for each place; and what all sums begin with, so that no bits make no 0."""
    place = torch.arange(1, count + 1, device=device)
    weights = ((place * -7046029254386353131) ^ ((place * -4417276706812531889) >> 29)) | 1
    return weights, (0x5851F42D * weights).sum()
