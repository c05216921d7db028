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
            statistics; the source model answers them.
    """

    name: ClassVar[str] = ""
    apart: ClassVar[bool] = True

    def __init__(self) -> None:
        self.memory: dict[str, Any] = {}

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


class Far(Filter):
    """Images that look unlike the source images and also unlike what else comes: noise, test cards, other cameras.

    Each image is described by five numbers (brightness, contrast, colour, and roughness at two scales, on log scales).
    It is far if its distance from the source images, in standard deviations of theirs, is over the limit and so is its
    distance from the running mean of the stream, and from most of its batch. A whole domain that is shifted is
    therefore not far, or not for long. Cost:
    one pass over the pixels. Does not see adversarial images, whose pixels look as usual; no guarantee.

    Args:
        limit: Standard deviations, in each of the two distances.
        follow: Weight of an image in the running mean and deviation of the stream.
    """

    name = "far"

    def __init__(self, limit: float = 6.0, follow: float = 0.01) -> None:
        super().__init__()
        if limit <= 0 or not 0 < follow < 1:
            raise TTAError(f"far: limit is positive and follow a weight from 0 to 1, got {limit} and {follow}")
        self.limit, self.follow = limit, follow
        self.source: tuple[Tensor, Tensor] | None = None

    def begin(self, images: Tensor) -> None:
        """Learns what source images look like; without it nothing is far."""
        described = description(images)
        self.source = described.mean(0), described.std(0).clamp(min=1e-3)

    def reject(self, x: Tensor) -> Tensor:
        """See the class."""
        described = description(x).nan_to_num(0, 1e6, -1e6)
        if self.source is None:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        mean, std = (t.to(described) for t in self.source)
        from_source = ((described - mean) / std).abs().amax(1)
        # The median lets a minority of strange images not move the mean; a majority is the new domain.
        now = described.median(0).values
        width = ((described - now).abs().median(0).values * 1.4826).clamp(min=std / 2)
        if "mean" not in self.memory:
            self.memory = {"mean": now, "std": torch.maximum(width, std)}
        ours, spread = self.memory["mean"], self.memory["std"]
        from_stream = ((described - ours) / spread).abs().amax(1)
        if len(x) >= 8:  # a batch that is large enough speaks for itself: a new domain is not far from itself
            from_stream = torch.minimum(from_stream, ((described - now) / width).abs().amax(1))
        far = (from_source > self.limit) & (from_stream > self.limit)
        if len(x) >= 8 and far.float().mean() > 1 / 3:
            far = torch.zeros_like(far)  # so many are no intruders, but a stream of many kinds
        share = 1 - (1 - self.follow) ** len(x)
        self.memory = {
            "mean": torch.lerp(ours, now, share),
            "std": torch.lerp(spread, width, share) if len(x) > 1 else spread,
        }
        return far


def description(x: Tensor) -> Tensor:
    """Five numbers for each image: mean, log contrast, log colour, log roughness at one and at four pixels, (B, 5)."""
    grey = x.float().mean(1)
    colour = (x[:, 0].float() - x[:, -1].float()).abs().mean((1, 2))
    small = torch.nn.functional.avg_pool2d(grey[:, None], 4, ceil_mode=True)[:, 0]
    rough = [(g[:, 1:, 1:] - g[:, :-1, :-1]).abs().flatten(1) for g in (grey, small)]
    scales = [grey.flatten(1).std(1, correction=0), colour]
    scales += [r.mean(1) if r.shape[1] else torch.zeros(len(x), device=x.device) for r in rough]
    return torch.stack([grey.mean((1, 2)) * 4, *((s + 0.01).log() for s in scales)], 1)
