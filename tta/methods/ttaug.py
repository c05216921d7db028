"""Test-time augmentation: average the predictions over augmented views of each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tta import norms
from tta.adapter import Adapter
from tta.errors import TTAError
from tta.registry import register
from tta.source_data import SourceData
from tta.view_kinds import in_chunks, views_of


@register("ttaug")
class TTAug(Adapter):
    """Answers with the mean logits over the image itself and its views.

    Updates: nothing. State: the random generator. Cost: 1 forward, and one per view. Needs: nothing.
    Memory: the model; views are made `chunk` at a time, and no activations are kept.
    Differs from the published code of the same name (Doebler et al.'s benchmark, 32 AugMix views, batches of one image,
    batch-norm statistics mixed with alpha 0.1): the default views are mild and the statistics the source's.
    """

    @dataclass(frozen=True)
    class Config:
        """Which views, how many, and with whose statistics."""

        views: int = 8
        #: "shift" (whole pixels, mirror images) or another kind of `tta.view_kinds`.
        kind: str = "shift"
        #: Whether half of the views are mirrored.
        flip: bool = True
        #: Batch norm: the source's statistics, the batch's own (image and views together), or a mixture.
        statistics: Literal["source", "batch", "mixed"] = "source"
        #: Weight of the batch in "mixed".
        alpha: float = 0.1
        #: Views per pass with the source's statistics; None lets the device decide. Does not change results.
        chunk: int | None = None

        def __post_init__(self) -> None:
            views_of(self.kind)
            if self.statistics not in ("source", "batch", "mixed"):
                raise TTAError(f"ttaug: statistics is source, batch or mixed, got {self.statistics!r}")

    config: Config
    cost = "1F, +1F per view"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Sets the source of the statistics."""
        if self.config.statistics == "batch":
            norms.use_batch_statistics(model)
        elif self.config.statistics == "mixed":
            alpha = self.config.alpha
            self.model = norms.replace_batch_norms(model, lambda layer: norms.MixedBatchNorm(layer, alpha))
        return []

    def start(self, source_data: SourceData | None) -> None:
        """Makes the views."""
        self.transform = views_of(self.config.kind, self.config.flip)

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Mean logits over the image and its views."""
        if self.config.statistics != "source":  # the statistics are those of everything together
            logits = self.model(torch.cat((x, self.views(x))))
            return logits.view(-1, len(x), *logits.shape[1:]).mean(0)
        total = self.model(x)
        draws = self.transform.draw(self.config.views, x, self.host_generator)
        for part in in_chunks(self.transform, draws, x, self.config.views, self.config.chunk, self.generator):
            logits = self.model(part)
            total = total + logits.view(-1, len(x), *logits.shape[1:]).sum(0)
        return total / (self.config.views + 1)

    def views(self, x: Tensor) -> Tensor:
        """All views at once, shape (V * B, C, H, W)."""
        draws = self.transform.draw(self.config.views, x, self.host_generator)
        return self.transform.apply(x, draws, self.generator)
