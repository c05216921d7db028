"""Source images in the style of the stream: labelled images under something like the present shift."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

#: Images over which the style of a stream is averaged, about.
MEMORY = 128
#: Of a larger batch so many images, evenly spread, are enough.
ENOUGH = 48
#: Frequencies from 0 to this one are scaled up as well as down: they are content, not noise.
LOW = 3


class Style:
    """The amplitude spectrum of the stream, and how to give it to source images.

    Where the stream has less power at a frequency than the source, source images are damped there (blur, loss of
    contrast, fog); where it has more, noise of that power is added. Where the stream's images differ more in power than
    source images do, as in a mixture of domains, each source image is given the style of another one of them. What has
    no trace in the spectrum (glass, weather that covers things, new objects) is not imitated. Cost: a Fourier transform
    of at most 48 images of a batch.

    Args:
        images: Source images as floats, (N, C, H, W).

    Reference:
        Amplitudes as style: Yang & Soatto, "FDA: Fourier domain adaptation for semantic segmentation", CVPR 2020.
        Differs: powers averaged over images instead of one image's amplitudes, and noise with phases of its own.
    """

    def __init__(self, images: Tensor) -> None:
        logs = torch.cat([log_power(part) for part in images.split(256)])
        self.source = logs.mean(0)
        # The spread of an image's power in a few bands tells which differences are chance.
        self.spread = _bands(logs - self.source).std(0).clamp(min=1e-3)
        self.memory: dict[str, Any] = {"mean": None, "weight": 0.0, "worn": None, "latest": None}

    def fits(self, x: Tensor) -> bool:
        """Whether the images have the shape of the source images."""
        return log_power(x[:1]).shape[1:] == self.source.shape

    def take(self, x: Tensor) -> bool:
        """Takes in images, float, (B, C, H, W), and tells whether the style has changed since it was last worn.

        A change is a difference in one of the bands that chance would not make of as many source images.
        """
        x = x[torch.linspace(0, len(x) - 1, min(len(x), ENOUGH)).long().to(x.device)]
        logs = log_power(x)
        now = logs.mean(0)
        mean, weight, worn = (self.memory[key] for key in ("mean", "weight", "worn"))
        changed = worn is None or self._differs(now - worn, len(x))
        if mean is None or (changed and len(x) >= MEMORY // 4):  # a batch that is large enough speaks for itself
            mean, weight = now, float(len(x))
        else:
            weight = min(weight + len(x), float(max(MEMORY, len(x))))
            mean = torch.lerp(mean, now, len(x) / weight)
        bands, latest = _bands(logs), self.memory["latest"]
        latest = bands if latest is None or changed else torch.cat((latest, bands))[-MEMORY:]
        self.memory.update(mean=mean, weight=weight, latest=latest)
        return worn is None or self._differs(mean - worn, int(weight))

    def wear(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images in the style of the stream, in [0, 1]; they are source images, shape (N, C, H, W).

        Args:
            images: Floats in [0, 1].
            generator: For the noise, on the CPU.
        """
        mean = self.memory["mean"]
        if mean is None:
            return images
        self.memory["worn"] = mean
        mean = mean + self._own(len(images), generator)  # (N, C, H, W // 2 + 1)
        ratio = (0.5 * (mean - self.source)).exp().to(images)
        spectrum = torch.fft.rfft2(images.float())
        noise = torch.randn(images.shape, generator=generator).to(images.device, torch.float32)
        excess = (mean.exp() - self.source.exp()).clamp(min=0).sqrt().to(noise)
        # White noise of unit variance has the power H W at every frequency; exp(mean of logs) is below the mean power.
        added = torch.fft.rfft2(noise) / (noise.shape[-1] * noise.shape[-2]) ** 0.5 * excess * _FROM_LOGS
        low = torch.zeros_like(ratio, dtype=torch.bool)
        low[..., :LOW, :LOW] = low[..., 1 - LOW :, :LOW] = True
        made = torch.where(low, spectrum * ratio, spectrum * ratio.clamp(max=1) + added)
        return torch.fft.irfft2(made, s=images.shape[-2:]).clamp(0, 1).to(images.dtype)

    def _own(self, count: int, generator: torch.Generator) -> Tensor:
        """What sets single images of the stream apart from its mean, in log power, (count, 1, H, W // 2 + 1).

        Source images differ among themselves too, by content: only the rest of the variance counts.
        """
        latest = self.memory["latest"]
        apart = latest - latest.mean(0)
        kept = (1 - (self.spread / apart.square().mean(0).sqrt().clamp(min=1e-6)).square()).clamp(min=0)
        drawn = apart[torch.randint(len(apart), (count,), generator=generator).to(apart.device)] * kept
        return drawn[:, _rings(self.source)][:, None]

    def _differs(self, difference: Tensor, count: int) -> bool:
        bands = _bands(difference[None])[0].abs()
        chance = self.spread.to(bands) / max(count, 1) ** 0.5
        return bool((bands > (6 * chance).clamp(min=0.25)).any())


#: exp(E log P) / E P of an exponentially distributed power is exp(-Euler's constant); amplitudes go with its root.
_FROM_LOGS = 1.3346


def log_power(x: Tensor) -> Tensor:
    """Logarithm of the power spectrum of each image, (B, C, H, W // 2 + 1)."""
    return (torch.fft.rfft2(x.float()).abs().square() + 1e-4).log()


def _bands(logs: Tensor) -> Tensor:
    """Means over the images' channels in eight rings of frequencies, (B, 8)."""
    return logs.mean(1).flatten(1) @ _averages(logs.shape[-2], logs.shape[-1], logs.device).to(logs)


@functools.lru_cache(4)
def _averages(height: int, width: int, device: torch.device) -> Tensor:
    """Weights that average over each ring, (H (W // 2 + 1), 8)."""
    ring = _rings(torch.zeros(height, width, device=device))
    weights = torch.nn.functional.one_hot(ring.flatten(), 8).float()
    return weights / weights.sum(0).clamp(min=1)


def _rings(like: Tensor) -> Tensor:
    """The ring that each frequency of a spectrum (..., H, W // 2 + 1) is in, 0 to 7."""
    height, width = like.shape[-2:]
    rows = torch.fft.fftfreq(height, device=like.device).abs()[:, None]
    columns = torch.linspace(0, 0.5, width, device=like.device)[None]
    return ((rows.square() + columns.square()).sqrt() * 16).long().clamp(max=7)
