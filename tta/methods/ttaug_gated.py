"""Gated test-time augmentation: views only for the images that the model is unsure of, within a compute budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tta.adapter import Adapter, StepInfo
from tta.errors import TTAError
from tta.registry import register
from tta.source_data import SourceData
from tta.uncertainty import ComputeGate
from tta.view_kinds import in_chunks, views_of


@register("ttaug_gated")
class GatedTTAug(Adapter):
    """Answers sure images with the model's own prediction, and unsure ones with the mean logits over their views.

    An image is the less sure the nearer its second class is to its first. Views are added a few at a time, each time to
    the images whose mean prediction so far is least sure: to most images at first, to ever fewer later. How unsure is
    unsure enough is a running quantile, so that every look spends its part of the budget, which holds at every moment
    of the stream. So most views go to images whose answer may yet change.

    Updates: nothing. State: the latest uncertainties and two counters for each look, the random generator.
    Answers: before its counters. Cost: 1 forward, and on average at most `budget` * `views` more. Needs: nothing.
    Memory: the model; views are made `chunk` at a time, and no activations are kept.
    Differs from the published code: the gate of O'Brien et al. ("LLM-TTA", 2024, for text) is the entropy's, with a
    threshold that is found on validation data, and is passed once; here it follows the stream, and there are several.
    The host waits for each look to know which images are unsure.
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
        #: Views of one look; all of them for a single look.
        step: int = 2
        #: How much more than the budget the first look may spend, and how much less the last, as a share of it.
        fall: float = 0.5
        #: Number of latest images that the thresholds are taken from.
        memory: int = 512
        #: Views per pass; None lets the device decide. Does not change results.
        chunk: int | None = None

        def __post_init__(self) -> None:
            views_of(self.kind)
            for what, share in (("budget", self.budget), ("fall", self.fall)):
                if not 0 <= share <= 1:
                    raise TTAError(f"ttaug_gated: {what} is a share from 0 to 1, got {share}")
            if not 1 <= self.step <= self.views:
                raise TTAError(f"ttaug_gated: step is from 1 to views, got {self.step} of {self.views} views")

        def looks(self) -> tuple[tuple[int, float], ...]:
            """Number of views, and share of the images that may get them, of each look.

            >>> GatedTTAug.Config(views=8, budget=0.5, step=4, fall=0.5).looks()
            ((4, 0.75), (4, 0.25))
            >>> GatedTTAug.Config(views=8, budget=1.0, step=4, fall=0.5).looks()  # no room to spend more
            ((4, 1.0), (4, 1.0))
            """
            counts = [min(self.step, self.views - done) for done in range(0, self.views, self.step)]
            fall = min(self.fall, 1 / self.budget - 1) if self.budget else 0.0
            last = max(len(counts) - 1, 1)
            weights = [1 + fall * (1 - 2 * look / last) for look in range(len(counts))]
            share = self.budget * self.views / sum(n * weight for n, weight in zip(counts, weights, strict=True))
            return tuple((n, min(1.0, share * weight)) for n, weight in zip(counts, weights, strict=True))

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
        """Answers, then remembers how unsure the images were."""
        logits, seen = self.gated(x)
        for gate, (uncertainty, picked) in zip(self.gates, seen, strict=True):
            gate.learn(uncertainty, picked)
        return logits, StepInfo(used=seen[0][1].sum())

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Mean logits over the views of unsure images, the model's own of the others."""
        return self.gated(x)[0]

    def gated(self, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (B, K), and for each look the uncertainty (B,) that it judged by and which images it picked (B,)."""
        logits, seen, views = self.model(x), [], 0
        uncertainty = rivalry(logits)
        unsure = torch.ones_like(uncertainty, dtype=torch.bool)
        for gate, (count, _) in zip(self.gates, self.config.looks(), strict=True):
            picked = gate.pick(uncertainty) & unsure
            seen.append((uncertainty, picked))
            chosen = picked.nonzero()[:, 0]
            if len(chosen):
                mean = (logits[chosen] * (views + 1) + self.total(x[chosen], count)) / (views + 1 + count)
                logits = logits.index_copy(0, chosen, mean)
            # what was not picked is taken for sure, and not looked at again
            uncertainty, unsure = torch.where(picked, rivalry(logits), 0.0), picked
            views += count
        return logits, seen

    def total(self, x: Tensor, views: int) -> Tensor:
        """Sum of the logits (B, K) over some views of images."""
        draws = self.transform.draw(views, x, self.host_generator)
        parts = in_chunks(self.transform, draws, x, views, self.config.chunk, self.generator)
        logits = [self.model(part) for part in parts]
        return torch.cat(logits).view(views, len(x), *logits[0].shape[1:]).sum(0)


def rivalry(logits: Tensor) -> Tensor:
    """How near the second class is to the first: the ratio of their probabilities, in [0, 1], shape (B,).

    >>> rivalry(torch.tensor([[3.0, 3.0, 0.0], [9.0, 0.0, 0.0]])).round(decimals=3)
    tensor([1., 0.])
    """
    first, second = logits.float().topk(2, dim=1).values.unbind(1)
    return (second - first).exp()
