"""Gated test-time augmentation: views only for the images that the model is unsure of, within a compute budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tta.adapter import Adapter, StepInfo
from tta.errors import TTAError
from tta.objectives import entropy
from tta.registry import register
from tta.source_data import SourceData
from tta.uncertainty import ComputeGate
from tta.view_kinds import in_chunks, views_of


@register("ttaug_gated")
class GatedTTAug(Adapter):
    """Answers sure images with the model's own prediction, and unsure ones with the mean logits over their views.

    An image is unsure if its entropy is above a threshold: the running quantile that lets the budgeted share through.
    Unsure images get a few views first; those whose mean prediction is still unsure, by a quantile of its own, get the
    other views. So most of the budget goes to images whose answer may yet change. It holds at every moment of the
    stream.

    Updates: nothing. State: the latest entropies and two counters for each of the two looks, the random generator.
    Answers: before its counters. Cost: 1 forward, and on average at most `budget` * `views` more. Needs: nothing.
    Memory: the model; views are made `chunk` at a time, and no activations are kept.
    Differs from the published code: the gate of O'Brien et al. ("LLM-TTA", 2024, for text) has a threshold that is
    found on validation data, and is passed once; here it follows the stream, and there are two. The host waits for each
    look to know which images are unsure.
    """

    @dataclass(frozen=True)
    class Config:
        """Which views, how many, and for how many images."""

        views: int = 8
        #: "shift" (whole pixels, mirror images) or another kind of `tta.view_kinds`.
        kind: str = "shift"
        #: Whether half of the views are mirrored.
        flip: bool = True
        #: Share of the views of all images that may be computed.
        budget: float = 0.45
        #: Views of the first look; 0 for one look with all views.
        first: int = 2
        #: Share of the budget that the first look may spend.
        first_budget: float = 0.4
        #: Number of latest entropies that the thresholds are taken from.
        memory: int = 512
        #: Views per pass; None lets the device decide. Does not change results.
        chunk: int | None = None

        def __post_init__(self) -> None:
            views_of(self.kind)
            for what, share in (("budget", self.budget), ("first_budget", self.first_budget)):
                if not 0 <= share <= 1:
                    raise TTAError(f"ttaug_gated: {what} is a share from 0 to 1, got {share}")
            if self.views < 1 or not 0 <= self.first <= self.views:
                raise TTAError(
                    f"ttaug_gated: views is at least 1 and first from 0 to views, got {self.views} and {self.first}"
                )

        def looks(self) -> tuple[tuple[int, float], ...]:
            """Number of views, and share of the images that may get them, of each look.

            >>> GatedTTAug.Config(views=8, budget=0.5, first=2, first_budget=0.25).looks()
            ((2, 0.5), (6, 0.5))
            >>> GatedTTAug.Config(views=8, budget=0.5, first=2, first_budget=0.5).looks()
            ((2, 1.0), (6, 0.3333333333333333))
            """
            rest = self.views - self.first
            if self.first and rest:
                many = min(1.0, self.first_budget * self.budget * self.views / self.first)
                few = (self.budget * self.views - many * self.first) / rest
                if few < many:
                    return (self.first, many), (rest, few)
                return (self.first, self.budget), (rest, self.budget)
            return ((self.views, self.budget),)

    config: Config
    gates: Any  # a list of one ComputeGate for each look
    cost = "1F, +45% of 1F per view"

    def start(self, source_data: SourceData | None) -> None:
        """Makes the views and a gate for each look."""
        self.transform = views_of(self.config.kind, self.config.flip)
        shares = [share for _, share in self.config.looks()]
        gates = [ComputeGate((1 - share, 1.0), share, self.config.memory) for share in shares]
        self.gates = nn.ModuleList(gates).to(self.generator.device)

    def networks(self) -> list[nn.Module]:
        """Without the gates, which see no images."""
        return [self.model]

    @torch.no_grad()
    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers, then remembers the entropies."""
        logits, seen = self.gated(x)
        for gate, (uncertainty, picked) in zip(self.gates, seen, strict=True):
            gate.learn(uncertainty, picked)
        return logits, StepInfo(used=seen[0][1].sum())

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Mean logits over the views of unsure images, the model's own of the others."""
        return self.gated(x)[0]

    def gated(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (B, K), and for each look the entropies (B,) that it judged by and which images it picked (B,)."""
        logits, seen, views = self.model(x), [], 0
        uncertainty = entropy(logits.float())
        unsure = torch.ones_like(uncertainty, dtype=torch.bool)
        for gate, (count, _) in zip(self.gates, self.config.looks(), strict=True):
            picked = gate.pick(uncertainty) & unsure
            seen.append((uncertainty, picked))
            chosen = picked.nonzero()[:, 0]
            if len(chosen):
                mean = (logits[chosen] * (views + 1) + self.total(x[chosen], count)) / (views + 1 + count)
                logits = logits.index_copy(0, chosen, mean)
            # what was not picked is taken for sure, and not looked at again
            uncertainty, unsure = torch.where(picked, entropy(logits.float()), 0.0), picked
            views += count
        return logits, seen

    def total(self, x: Tensor, views: int) -> Tensor:
        """Sum of the logits (B, K) over some views of images."""
        draws = self.transform.draw(views, x, self.host_generator)
        parts = in_chunks(self.transform, draws, x, views, self.config.chunk, self.generator)
        logits = [self.model(part) for part in parts]
        return torch.cat(logits).view(views, len(x), *logits[0].shape[1:]).sum(0)
