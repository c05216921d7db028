"""Batch-norm statistics of the stream: the batch's own, mixed with the source's, or a running average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter, Requirements, StepInfo
from tta.errors import TTAError
from tta.registry import register


@register("bn")
class BN(Adapter):
    """Normalises with the statistics of the stream instead of the source's; no parameter is learned.

    - "batch": the current batch's (biased variance). Li et al., "Revisiting batch normalization" (AdaBN), 2016.
    - "mixed": (1 - alpha) * source + alpha * batch (unbiased variance), for small batches. Schneider et al., 2020.
    - "running": a pass in training mode updates the running statistics with the given momentum (unbiased variance),
      a second pass answers with them. Answers after its update; `predict` uses the statistics as they are.

    Updates: nothing but statistics. State: the running statistics ("running" only). Cost: 1 forward ("running": 2).
    Needs: batch norm layers.
    Memory: the model and its statistics; no activations are kept.
    Differs from the published code: dropout is off in the pass that updates running statistics.
    """

    @dataclass(frozen=True)
    class Config:
        """Whose statistics to use."""

        statistics: Literal["batch", "mixed", "running"] = "batch"
        #: Weight of the batch in "mixed".
        alpha: float = 0.1
        #: Weight of the batch in "running".
        momentum: float = 0.1

        def __post_init__(self) -> None:
            if self.statistics not in ("batch", "mixed", "running"):
                raise TTAError(f"bn: statistics is batch, mixed or running, got {self.statistics!r}")

        @classmethod
        def single_image(cls) -> BN.Config:
            """Batches of one image, alpha 0.1 (the setting of Doebler et al.'s benchmark, "norm_alpha")."""
            return cls(statistics="mixed", alpha=0.1)

    config: Config
    requires = Requirements(batch_norm=True)
    updates = "norm statistics"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Sets the source of the statistics."""
        if self.config.statistics == "batch":
            norms.use_batch_statistics(model)
        elif self.config.statistics == "mixed":
            alpha = self.config.alpha
            self.model = norms.replace_batch_norms(model, lambda layer: norms.MixedBatchNorm(layer, alpha))
        else:
            for layer in norms.batch_norms(model):
                layer.momentum = self.config.momentum
        return []

    @torch.no_grad()
    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Updates the running statistics if they are used, then answers."""
        if self.config.statistics == "running":
            for layer in norms.batch_norms(self.model):
                layer.train()
            self.model(x)
            self.model.eval()
        return self.model(x), StepInfo(used=len(x))
