"""What the images of a stream look like, beside source images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: Images over which the style of a stream is averaged, about.
MEMORY = 128
#: Deviations of single images by which two styles differ that are not those of two classes. On the development
#: corruptions batches of different classes differed by 1.3 at most, most pairs of corruptions by 2 to 20.
APART = 1.5
#: Of a larger batch so many images, evenly spread, are enough.
ENOUGH = 48


class Style:
    """Power in eight rings of frequencies, brightness and contrast, against those of source images.

    Cost: a Fourier transform of at most 48 images of a batch.

    Args:
        images: Source images as floats, (N, C, H, W).
    """

    def __init__(self, images: Tensor) -> None:
        bands = torch.cat([_bands(part) for part in images.split(256)])
        levels = _levels(images)
        self.bands, self.band_spread = bands.mean(0), bands.std(0, correction=0).clamp(min=1e-3)
        self.levels, self.level_spread = levels.mean(0), levels.std(0, correction=0).clamp(min=1e-3)
        #: The style of late, the images that it rests on, how much those of the last batch differ, and the style from
        #: which a change is counted.
        self.memory: dict[str, Any] = {"mean": None, "weight": 0.0, "spread": None, "noted": None}

    def describe(self, x: Tensor) -> Tensor:
        """Four numbers of a batch, on a log scale, shape (4,); 0 where it looks as source images do.

        How much its images differ among each other in power and in levels (more than source images do: several shifts
        at a time), and how far they are from source images in both.

        Args:
            x: Images, float, (B, C, H, W).
        """
        bands, levels = _bands(few := _few(x)), _levels(few)
        pairs = ((bands, self.bands, self.band_spread), (levels, self.levels, self.level_spread))
        spreads = [
            (values.std(0, correction=0) / spread.to(values)).clamp(min=0.1).log().mean()
            if len(values) > 1
            else values.new_zeros(())
            for values, _, spread in pairs
        ]
        ways = [((v.mean(0) - mean.to(v)) / spread.to(v)).abs().mean().log1p() for v, mean, spread in pairs]
        return torch.stack([*spreads, *ways])

    def take(self, x: Tensor) -> bool:
        """Takes in images, float, (B, C, H, W), and tells whether the style has changed since `note` was called.

        A change is a difference in one of the rings that chance would not make of as many source images.
        """
        bands, count = _bands(_few(x)), len(x)
        self.band_spread = self.band_spread.to(bands)
        if (noted := self.memory["noted"]) is not None and noted.device != bands.device:  # of a snapshot
            self.memory |= {key: self.memory[key].to(bands) for key in ("mean", "spread", "noted")}
        now, spread = bands.mean(0), bands.std(0, correction=0) if count else self.band_spread
        mean = self.memory["mean"]
        weight = min(self.memory["weight"] + count, float(max(MEMORY, count)))
        styles = [(now, float(count)), (now if mean is None else torch.lerp(mean, now, count / weight), weight)]
        changed = self._changed(styles)
        # A batch that is large enough speaks for itself.
        which = 0 if mean is None or (count >= MEMORY // 4 and changed[0]) else 1
        self.memory.update(mean=styles[which][0], weight=styles[which][1], spread=spread)
        return changed[which]

    def is_another(self) -> bool:
        """Whether the style has changed since `note` by more than images of other classes would change it."""
        mean, noted, spread = (self.memory[key] for key in ("mean", "noted", "spread"))
        if mean is None or noted is None:
            return True
        return bool(((mean - noted).abs() > APART * torch.maximum(spread, self.band_spread.to(spread))).any())

    def note(self) -> None:
        """From now on changes are counted from the present style."""
        self.memory["noted"] = self.memory["mean"]

    def _changed(self, styles: Sequence[tuple[Tensor, float]]) -> list[bool]:
        """Whether styles, means of so many images, are others than the one noted."""
        noted = self.memory["noted"]
        if noted is None:
            return [True] * len(styles)
        means = torch.stack([mean for mean, _ in styles])
        chance = torch.stack([self.band_spread / max(int(weight), 1) ** 0.5 for _, weight in styles])
        changed: list[bool] = ((means - noted).abs() > (6 * chance).clamp(min=0.25)).any(1).tolist()
        return changed


def _few(x: Tensor) -> Tensor:
    return x[_spread(len(x), x.device)].float()


@functools.lru_cache(8)
def _spread(count: int, device: torch.device) -> Tensor:
    """Places of `ENOUGH` of so many images."""
    return torch.linspace(0, count - 1, min(count, ENOUGH)).long().to(device)


def _levels(x: Tensor) -> Tensor:
    """Mean and standard deviation of each image's channels, (B, 2 C)."""
    flat = x.float().flatten(2)
    return torch.cat([flat.mean(2), flat.std(2, correction=0)], 1)


def _bands(x: Tensor) -> Tensor:
    """Mean log power of each image in eight rings of frequencies, over its channels, (B, 8)."""
    logs = (torch.fft.rfft2(x.float()).abs().square() + 1e-4).log()
    return logs.mean(1).flatten(1) @ _averages(logs.shape[-2], logs.shape[-1], logs.device)


@functools.lru_cache(4)
def _averages(height: int, width: int, device: torch.device) -> Tensor:
    """Weights that average over each ring, (H (W // 2 + 1), 8)."""
    rows = torch.fft.fftfreq(height, device=device).abs()[:, None]
    columns = torch.linspace(0, 0.5, width, device=device)[None]
    ring = ((rows.square() + columns.square()).sqrt() * 16).long().clamp(max=7)
    weights = torch.nn.functional.one_hot(ring.flatten(), 8).float()
    return weights / weights.sum(0).clamp(min=1)
