"""Which images may teach. Those that may not are answered all the same."""

from __future__ import annotations

import functools
from collections import deque
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
        return ~x.flatten(1).isfinite().all(1)


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

    def reject(self, x: Tensor) -> Tensor:
        """See the class."""
        seen = deque(self.memory["latest"], self.latest)
        known, repeated = set(seen), []
        for number in fingerprints(x).tolist():
            repeated.append(number in known)
            if number not in known:
                known.add(number)
                seen.append(number)
        self.memory["latest"] = list(seen)
        return torch.tensor(repeated, device=x.device)


def fingerprints(x: Tensor) -> Tensor:
    """A number for each image that depends on every bit of it and on nothing else, int64, shape (B,)."""
    bits = x.detach().to(torch.float32).contiguous().flatten(1).view(torch.int32).to(torch.int64)
    return ((bits + 0x5851F42D) * _weights(bits.shape[1], x.device)).sum(1)


@functools.lru_cache(4)
def _weights(count: int, device: torch.device) -> Tensor:
    """Odd numbers with bits all over, one for each place."""
    place = torch.arange(1, count + 1, device=device)
    return ((place * -7046029254386353131) ^ ((place * -4417276706812531889) >> 29)) | 1
