"""Test-time augmentation with a filter: only views whose features stay close to the image's are averaged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.features import classifier, features_and_logits
from tta.registry import register
from tta.source_data import SourceData
from tta.view_kinds import in_chunks, views_of


@register("ttaug_close")
class CloseTTAug(Adapter):
    """Answers with the mean logits over the image and those of its views that have not lost it.

    Of every image's views, the share whose features have the largest cosine with the image's own is kept.

    Updates: nothing. State: the random generator. Cost: 1 forward, and one per view. Needs: a linear classifier.
    Memory: the model; views are made `chunk` at a time, and no activations are kept.
    Differs from the published code: Feng et al. ("DiffTPT", ICCV 2023) filter diffusion and crop views for a prompt of
    CLIP, and compare its outputs; here any views are filtered, and features in front of the classifier compared.
    """

    @dataclass(frozen=True)
    class Config:
        """Which views, how many, and how many of them to keep."""

        views: int = 8
        #: "shift" (whole pixels, mirror images) or another kind of `tta.view_kinds`.
        kind: str = "shift"
        #: Whether half of the views are mirrored.
        flip: bool = True
        #: Share of the views to keep, rounded, at least one view.
        keep: float = 0.8
        #: Views per pass; None lets the device decide. Does not change results.
        chunk: int | None = None

        def __post_init__(self) -> None:
            views_of(self.kind)
            if not 0 < self.keep <= 1:
                raise TTAError(f"ttaug_close: keep is a share of views above 0 and at most 1, got {self.keep}")
            if self.views < 1:
                raise TTAError(f"ttaug_close needs views of at least 1, got {self.views}")

    config: Config
    cost = "1F, +1F per view"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Makes sure that there are features."""
        classifier(model)
        return []

    def start(self, source_data: SourceData | None) -> None:
        """Makes the views."""
        self.transform = views_of(self.config.kind, self.config.flip)

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Mean logits over the image and its closest views."""
        features, own = features_and_logits(self.model, x)
        draws = self.transform.draw(self.config.views, x, self.host_generator)
        closeness, logits = [], []
        for part in in_chunks(self.transform, draws, x, self.config.views, self.config.chunk, self.generator):
            seen, found = features_and_logits(self.model, part)
            closeness.append(F.cosine_similarity(seen.view(-1, *features.shape).flatten(2), features.flatten(1), dim=2))
            logits.append(found.view(-1, *own.shape))
        kept = max(1, round(self.config.keep * self.config.views))
        best = torch.cat(closeness).topk(kept, dim=0).indices
        best = best.view(*best.shape, *[1] * (own.ndim - 1)).expand(-1, -1, *own.shape[1:])
        return (own + torch.cat(logits).gather(0, best).sum(0)) / (kept + 1)
