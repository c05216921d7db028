"""Adaptive smoothing: mix the source model's and the adapted model's probabilities per image (Bai et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.adapter import StepInfo
from tta.objectives import entropy
from tta.wrappers.wrapper import Wrapper, WrapperConfig


class Smoothing(Wrapper):
    """Answers with log((1 - a) * p_source + a * p_adapted): the source on its own domain, the adapted model elsewhere.

    a(x) = sigmoid(slope * (H_source(x) - H_adapted(x)) + gain * (d - tolerated)), with entropies H in nats and d the
    share of the latest images on which both models disagree: a sign of shift even where the source model is sure of
    itself.

    Updates: what the inner method does. State: the frozen source model, d, and the inner method's. Cost: the inner
    method's and 1 forward of the source model. Memory: the inner method's, and the source's value of what it changes.
    Needs: nothing.
    Differs from the published code: the paper mixes an accurate and an adversarially robust classifier, and a trained
    network gives a(x); it has no d.

    Reference:
        Bai et al., "Improving the accuracy-robustness trade-off of classifiers via adaptive smoothing", SIMODS 2024.
    """

    name = "smoothing"
    cost = "as inside, +1F"

    @dataclass(frozen=True)
    class Config(WrapperConfig):
        """How the share of the adapted model follows from entropies and disagreement; our choice, on CIFAR-10."""

        slope: float = 4.0
        gain: float = 20.0
        tolerated: float = 0.2
        #: Number of latest images that d is the share of; larger batches stand for themselves.
        images: int = 64

    config: Config
    disagreement: Tensor

    def around(self, source: nn.Module) -> None:
        """Keeps the source model; nothing is known of the disagreement."""
        self.anchor = self.frozen_source(source)
        self.register_buffer("disagreement", torch.tensor(-1.0, device=self.generator.device))

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """A step of the inner adapter, and the mixture of its answer."""
        logits, disagreement = self.smooth(x, self.inner(x))
        self.disagreement.copy_(disagreement)
        return logits, self.inner.info

    def answer(self, x: Tensor) -> Tensor:
        """The mixture of the inner adapter's answer."""
        return self.smooth(x, self.inner.predict(x))[0]

    @torch.no_grad()
    def smooth(self, x: Tensor, adapted: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the mixture, shaped like the adapted logits, and the disagreement, a scalar."""
        dtype, config = torch.promote_types(adapted.dtype, torch.float32), self.config
        source, logits = self.anchor(x).to(dtype), adapted.to(dtype)
        now = (source.argmax(1) != logits.argmax(1)).to(self.disagreement.dtype).mean()
        mean = torch.lerp(self.disagreement, now, min(1.0, len(x) / config.images))
        disagreement = torch.where(self.disagreement < 0, now, mean)
        share = config.slope * (entropy(source) - entropy(logits)) + config.gain * (disagreement - config.tolerated)
        from_source = F.logsigmoid(-share).unsqueeze(1) + source.log_softmax(1)
        from_adapted = F.logsigmoid(share).unsqueeze(1) + logits.log_softmax(1)
        return torch.logaddexp(from_source, from_adapted).to(adapted.dtype), disagreement
