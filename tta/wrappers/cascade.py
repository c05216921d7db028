"""Window cascade: the dear prediction only for images inside an uncertainty window (Xia & Bouganis, ICCV 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta.adapter import StepInfo
from tta.errors import TTAError
from tta.objectives import entropy
from tta.uncertainty import ComputeGate
from tta.wrappers.wrapper import Wrapper, WrapperConfig


class Cascade(Wrapper):
    """The source model answers; images whose entropy lies in a window of quantiles go on to the inner adapter.

    Below the window the source model is sure, above it more computation would not make the prediction acceptable (set
    the upper end to 1 where nothing is rejected). Quantiles run with the stream; the window's width is the budget,
    which holds at every moment. An inner method with batch statistics sees the batch of chosen images only.

    Updates: what the inner method does, from the chosen images. State: the latest entropies, two counters, and the
    inner method's. Cost: 1 forward of the source model, and the inner method's times the window's width.
    Memory: the inner method's, and the source's value of what it changes. Needs: nothing.
    Differs from the published code: there the window is placed around the threshold of a binary decision on validation
    data, and the dear prediction is a deep ensemble.

    Reference:
        Xia & Bouganis, "Window-based early-exit cascades for uncertainty estimation", ICCV 2023, algorithm 2.
    """

    name = "cascade"
    cost = "1F, as inside for the window"

    @dataclass(frozen=True)
    class Config(WrapperConfig):
        """The window, and over how many images its quantiles are taken."""

        window: tuple[float, float] = (0.55, 1.0)
        #: Number of latest entropies that the quantiles are taken over.
        recent: int = 512

        def __post_init__(self) -> None:
            low, high = self.window
            if not 0 <= low < high <= 1:
                raise TTAError(f"cascade: the window is two quantiles, 0 <= low < high <= 1, got {self.window}")

    config: Config

    def around(self, source: nn.Module) -> None:
        """Keeps the source model and makes the gate."""
        self.anchor = self.frozen_source(source)
        low, high = self.config.window
        self.gate = ComputeGate(self.config.window, high - low, self.config.recent).to(self.generator.device)

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """The source model's answers, and a step of the inner adapter on the chosen images."""
        logits, uncertainty, chosen = self.judged(x)
        self.gate.learn(uncertainty, chosen)
        index, info = chosen.nonzero()[:, 0], StepInfo()
        if len(index):
            logits = logits.index_copy(0, index, self.inner(x[index]).to(logits.dtype))
            info = self.inner.info
        return logits, info

    def answer(self, x: Tensor) -> Tensor:
        """The source model's answers, and the inner adapter's for the chosen images."""
        logits, _, chosen = self.judged(x)
        index = chosen.nonzero()[:, 0]
        if len(index):
            logits = logits.index_copy(0, index, self.inner.predict(x[index]).to(logits.dtype))
        return logits

    @torch.no_grad()
    def judged(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The source model's logits (B, K), their entropies (B,), and which images are chosen (B,)."""
        logits = self.anchor(x)
        uncertainty = entropy(logits.float())
        return logits, uncertainty, self.gate.pick(uncertainty)
