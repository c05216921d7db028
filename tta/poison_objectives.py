"""What poison is made to do: objectives of the source model's answers to an attacker's images, to be maximised.

Every objective is the mean over images of a function of logits (B, K) and of the images' classes (B,).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms
from tta.objectives import entropy

#: Published batches, whose sums over images weigh the statistics of features.
PUBLISHED_BATCH = 200
#: Growth of the weights of those statistics per step.
GROWTH = 0.001


def notch_high_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """NHE: as uncertain as can be between all classes but the right one, which is ruled out.

    Learning from it by entropy pushes towards any wrong class. (Su et al., ICLR 2025)
    """
    spread = torch.full_like(logits, 1 / (logits.shape[1] - 1)).scatter_(1, y[:, None], 0.0)
    return -F.kl_div(logits.log_softmax(1), spread, reduction="batchmean")


def low_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """BLE: as certain as can be of one wrong class for each class, all wrong classes equally often.

    It passes the filters that reject uncertain images, and those that look for a collapse to one class. (Su et al.)

    Args:
        logits: (B, K).
        target: The wrong class of each image, see `confused_with`, int64, shape (B,).
    """
    return -F.cross_entropy(logits, target)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """MaxCE: as wrong as can be, an ordinary adversarial example."""
    return F.cross_entropy(logits, y)


def high_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """TePA: as uncertain as can be. (Cong et al., IEEE S&P 2024)"""
    return entropy(logits).mean()


OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nhe": notch_high_entropy,
    "ble": low_entropy,
    "maxce": cross_entropy,
    "tepa": high_entropy,
    "dia": cross_entropy,  # of the other images in the batch
}


def confused_with(probs: Tensor) -> Tensor:
    """The wrong class that each class is to be mistaken for: each one once, and the likeliest ones in all.

    Differs from the published code, which takes the likeliest pair of those left again and again; its last class may
    find nothing left but itself.

    Args:
        probs: Mean probabilities that the model gives to the images of each class, shape (K, K).

    Returns:
        int64, shape (K,), a permutation without a fixed point.

    >>> confused_with(torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]]))
    tensor([1, 2, 0])
    """
    from scipy.optimize import linear_sum_assignment  # a second to import, for every process that could poison

    own = torch.eye(len(probs), dtype=torch.bool, device=probs.device)
    _, columns = linear_sum_assignment(probs.masked_fill(own, -1e6).double().cpu().numpy(), maximize=True)
    return torch.from_numpy(columns).to(probs.device)


class FeatureStatistics:
    """How far the features of poison stray from those of the images it was made of, layer by layer.

    Poison whose features keep their statistics is hard to tell by them, and survives batch norm. What is compared is
    the mean and the deviation of every channel of every image before a normalisation layer, as normal distributions, by
    KL(clean || poison); summed over channels and over a published batch of 200 images.

    Differs from the published code, which names the layers before the last stage of three architectures: here they are
    those whose maps are larger than the smallest, which adds the first layers of that stage. Networks without maps have
    none.

    Reference:
        Su et al., "On the Adversarial Risk of Test Time Adaptation", ICLR 2025, section 3.3; the dual ascent is that of
        the authors' code.

    Args:
        model: Its normalisation layers are watched from now on.
        scale: Of the growth of the weights.
    """

    def __init__(self, model: nn.Module, scale: float) -> None:
        self.scale = scale
        self._seen: dict[str, tuple[Tensor, Tensor, int]] = {}
        for name, layer in norms.layers(model):
            layer.register_forward_pre_hook(self._watch(name))

    def _watch(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            if x.ndim == 4:
                var = x.var((2, 3), unbiased=False)
                self._seen[name] = x.mean((2, 3)), (var + getattr(layer, "eps", 1e-5)).sqrt(), x.shape[2] * x.shape[3]

        return hook

    def start(self) -> None:
        """Takes what the model has just seen as clean; the weights start at zero."""
        smallest = min((size for _, _, size in self._seen.values()), default=0)
        self.clean = {name: seen[:2] for name, seen in self._seen.items() if seen[2] > smallest}
        self.weights: Tensor | float = 0.0

    def penalty(self) -> Tensor | float:
        """Weighted mean over the layers of what the model has just seen; the weights then grow with it."""
        if not self.clean:
            return 0.0
        strayed = torch.stack([self._strayed(name) for name in self.clean]) * PUBLISHED_BATCH / len(self.clean)
        penalty = (self.weights * strayed).sum()
        self.weights = self.weights + GROWTH * self.scale * strayed.detach()
        return penalty

    def _strayed(self, name: str) -> Tensor:
        """KL divergence summed over the channels, mean over the images."""
        (mean, deviation), (new_mean, new_deviation, _) = self.clean[name], self._seen[name]
        ratio = (deviation.square() + (mean - new_mean).square()) / (2 * new_deviation.square())
        return ((new_deviation / deviation).log() + ratio - 0.5).sum(1).mean()
