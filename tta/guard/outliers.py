"""Images that do not look like the rest of their batch: noise, test cards, and most poison."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from tta.errors import TTAError
from tta.guard.teaching import Filter

#: Images that an image is compared with, at least, the latest ones where a batch has fewer; and too few to compare.
COMPANY, FEW = 32, 8
#: Greater shares of outliers are none, but a stream of many kinds.
MOST = 0.4


class Outlying(Filter):
    """Images whose texture is unlike that of the images they come with, and of source images.

    Each image is described by the strength of its details at three scales, in brightness and in colours, on log scales
    (`texture`), whitened by the source images. From the median of the batch it has a distance in each direction, in
    robust deviations of the batch (no less than half a deviation of source images); it is outlying if the root mean
    square of these is over the limit, and of those from the source images too. So a whole domain that is shifted is not
    outlying; a small minority of another domain may be.

    Finds most images of noise, and adversarial changes where they show: of poison within 0.3 of its images (DIA, Wu et
    al., ICML 2023) all on blurred images and hardly any on noisy ones (docs/deploy.md). Whoever knows the filter can
    make poison that passes it. No guarantee; robust statistics (`tta.wrap`) bound what passes.

    Where more than 40 % of the images are outlying, none is. Cost: one pass over the pixels, no pass through a network,
    and nothing that the host waits for.

    Args:
        limit: Deviations, root mean square over the directions.
    """

    name = "outlying"

    def __init__(self, limit: float = 2.0) -> None:
        super().__init__()
        if limit <= 0:
            raise TTAError(f"outlying: limit is a positive number of deviations, got {limit}")
        self.limit = limit
        self.memory = {"latest": None}
        self.source: tuple[Tensor, Tensor] | None = None

    def begin(self, images: Tensor) -> None:
        """Learns how source images vary; without it nothing is outlying."""
        described = texture(images)
        values, directions = torch.linalg.eigh(torch.cov(described.T).double())
        scale = values.clamp(min=1e-3 * float(values.mean()) + 1e-9).rsqrt()
        self.source = described.mean(0), (directions * scale).to(described)

    def reject(self, x: Tensor) -> Tensor:
        """See the class."""
        if self.source is None:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        mean, whiten = self.source = self.source[0].to(x.device), self.source[1].to(x.device)
        described = ((texture(x).nan_to_num(0, 0, 0) - mean) @ whiten).clamp(-1e4, 1e4)
        latest = self.memory["latest"]
        company = described if latest is None else torch.cat([latest.to(described), described])
        company = company[-max(COMPANY, len(x)) :]
        self.memory["latest"] = company[-COMPANY:]
        if len(company) < FEW:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        centre = company.median(0).values
        away = company - centre
        width = (1.4826 * away.abs().median(0).values).clamp(min=0.5)
        outlying = (rms(away / width) > self.limit) & (rms(company) > self.limit)
        return outlying[-len(x) :] & (outlying.float().mean() <= MOST)


def rms(x: Tensor) -> Tensor:
    """Root mean square of each row."""
    return x.square().mean(1).sqrt()


def texture(x: Tensor) -> Tensor:
    """How strong an image's details are: means and log strengths of its Haar wavelets at three scales.

    Args:
        x: Images in [0, 1], (B, C, H, W).

    Returns:
        For every channel of `opponents`: mean; then at 2, 4 and 8 pixels log strength of edges, and of checks; (B, 7C).
        Scales that are larger than the image have none.
    """
    x = opponents(x.float())
    numbers = [x.mean((2, 3))]
    for _ in range(3):
        if min(x.shape[2:]) < 2:
            break
        x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
        top, bottom = x[:, :, ::2], x[:, :, 1::2]
        sums, differences = top + bottom, top - bottom
        (left, right), (up, down) = ((each[..., ::2], each[..., 1::2]) for each in (sums, differences))
        edges, checks = (up + down).abs() + (left - right).abs(), (up - down).abs()
        numbers += [strength.mean((2, 3)) for strength in (edges / 4, checks / 2)]
        x = (left + right) / 4
    described = torch.cat(numbers, 1)
    described[:, x.shape[1] :].add_(0.01).log_()
    return described


def opponents(x: Tensor) -> Tensor:
    """Brightness, and differences of the channels: an orthogonal transform of them (DCT-II), (B, C, H, W)."""
    return torch.einsum("dc,bchw->bdhw", _basis(x.shape[1], x.device, x.dtype), x)


@functools.lru_cache(4)
def _basis(channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    place = torch.arange(channels, device=device, dtype=dtype)
    basis = torch.cos(math.pi / channels * (place + 0.5) * place[:, None])
    return basis / basis.norm(dim=1, keepdim=True)
