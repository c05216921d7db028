"""Temperature scaling: one number that the logits are divided by, fitted on clean images."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.cells import device_of, weights_hash
from tta.provenance import digest
from tta.streams import Data, to_unit

#: The temperature is looked for between these.
LOWEST, HIGHEST = 0.05, 20.0


class Tempered(nn.Module):
    """A model whose logits are divided by a temperature: the same answers, less or more sure.

    Args:
        model: Gives logits (B, K).
        temperature: Above 1 takes confidence away.
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature
        self.name = f"{getattr(model, 'name', 'model')}, temperature {temperature:.3f}"
        self.sha256 = digest([weights_hash(model), temperature])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.model(x) / self.temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest negative log-likelihood, to one part in a thousand.

    The likelihood has one maximum in 1 / temperature, so a golden-section search finds it.

    Args:
        logits: Shape (n, K).
        labels: Classes, int64, shape (n,).

    Returns:
        In [0.05, 20]; the lower bound where all answers are right and more confidence is always better.

    Reference:
        Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    """
    logits = logits.double()

    def loss(position: float) -> float:
        return F.cross_entropy(logits * math.exp(-position), labels).item()

    low, high, ratio = math.log(LOWEST), math.log(HIGHEST), (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return math.exp((low + high) / 2)


def halves(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of n images at random, ascending: to fit on, and to measure on."""
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[: n // 2]), np.sort(order[n // 2 :])


@torch.no_grad()
def logits_of(model: nn.Module, data: Data, index: np.ndarray, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """Logits (n, K) and classes (n,) of some images, on the CPU."""
    device = device_of(model)
    model.eval()
    parts = torch.as_tensor(index).split(batch_size)
    found = [model(to_unit(data.images(part), data.name, device)).float().cpu() for part in parts]
    return torch.cat(found), data.labels[torch.as_tensor(index)]
