"""FOA: search prompts for a vision transformer with forward passes only (Niu et al., ICML 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tta.adapter import Adapter, Requirements, StepInfo
from tta.cma_es import CMAES
from tta.objectives import entropy
from tta.registry import register
from tta.source_data import SourceData
from tta.vit import PromptedViT


@register("foa")
class FOA(Adapter):
    """An evolution strategy (CMA-ES) searches prompts that make predictions sure and class tokens like the source's.

    Each batch goes through the model once per candidate. The fitness is the sum of entropies plus the distance of the
    class token's mean and standard deviation, in every layer, from the source's. The answer is that of the best
    candidate, with the last features shifted back to the source: by the source's mean minus the stream's.

    Updates: 3 prompts, one vector. State: those, the search distribution (full covariance: twice (P D)^2 values), the
    random generator. Answers: after the update; `predict` uses the best prompts so far.
    Cost: 28 forwards; source data pass once. Needs: a timm vision transformer with a class token; source data, without
    labels (32 images suffice).
    Memory: the model and the search distribution; no activations are kept.
    Differs from the published code: a textbook CMA-ES with positive weights instead of the package cma's; the standard
    deviation of a batch of one image is 0; the classes of ImageNet-R are not masked.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting for ViT-B/16 on ImageNet-C, batches of 64 images."""

        prompts: int = 3
        #: Candidates per batch, besides the best so far.
        population: int = 27
        #: Weight of the distance from the source's statistics, per 64 images; 0.2 for ImageNet-R.
        discrepancy: float = 0.4
        #: Weight of the past in the mean feature of the stream, and of the shift towards the source's.
        momentum: float = 0.9
        shift: float = 1.0
        #: Standard deviation of the first candidates.
        sigma: float = 1.0
        #: What the search learns: all covariances, or variances only.
        covariance: Literal["full", "diagonal"] = "full"

        @classmethod
        def imagenet_r(cls) -> FOA.Config:
            """Published for ImageNet-R."""
            return cls(discrepancy=0.2)

    config: Config
    requires = Requirements(source_data=True, vision_transformer=True)
    updates = "prompts and a shift of the features"
    cost = "28F"
    answers = "after"
    model: PromptedViT
    source_std: Tensor
    source_mean: Tensor
    stream_mean: Tensor
    seen_any: Tensor

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Makes room for the prompts."""
        self.model = PromptedViT(model, self.config.prompts)
        return []

    def start(self, source_data: SourceData | None) -> None:
        """The source's statistics, first prompts at random, and the search around zero."""
        assert source_data is not None  # required
        seen = []
        for x, _ in source_data.batches(64, self.model.prompts):
            tokens: list[Tensor] = []
            self.model(x, prompts=self.model.prompts[:0], seen=tokens)
            seen.append(torch.cat(tokens, 1))
        std, mean = _spread(torch.cat(seen))
        self.register_buffer("source_std", std)
        self.register_buffer("source_mean", mean)
        width = self.model.prompts.shape[1]
        self.register_buffer("stream_mean", mean.new_zeros(width))
        self.register_buffer("seen_any", torch.zeros((), dtype=torch.bool, device=mean.device))
        reach = math.sqrt(6 / (3 * self.model.patch_area + width))
        first = torch.rand(self.model.prompts.shape, generator=self.host_generator) * 2 * reach - reach
        self.model.prompts.copy_(first)
        diagonal = self.config.covariance == "diagonal"
        zero = mean.new_zeros(self.model.prompts.numel())
        self.search = CMAES(zero, self.config.sigma, self.config.population, diagonal)

    def networks(self) -> list[nn.Module]:
        """The prompted transformer."""
        return [self.model]

    @torch.no_grad()
    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """One generation of the search on the batch."""
        shape, candidates = self.model.prompts.shape, self.search.ask(self.generator)
        candidates = torch.cat((candidates, self.model.prompts.flatten()[None].to(candidates)))
        fitness, tokens, logits = zip(*(self.judge(x, c.view(shape)) for c in candidates), strict=True)
        losses = torch.stack(fitness)
        best = losses.argmin()
        answer = torch.stack(logits)[best]
        self.search.tell(candidates, losses)
        self.model.prompts.copy_(candidates[best].view(shape))
        mean = torch.stack(tokens).mean(0)
        momentum = torch.where(self.seen_any, self.config.momentum, 0.0).to(mean)
        self.stream_mean.copy_(torch.lerp(mean, self.stream_mean, momentum))
        self.seen_any.fill_(True)
        width = len(self.stream_mean)
        self.model.shift.copy_(self.config.shift * (self.source_mean[-width:] - self.stream_mean))
        return answer, StepInfo(loss=losses[best], used=len(x), updated=True)

    def judge(self, x: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The fitness of prompts (P, D) on a batch (a scalar), its mean feature (D,), and its logits (B, K)."""
        tokens: list[Tensor] = []
        logits = self.model(x, prompts=prompts, seen=tokens)
        std, mean = _spread(torch.cat(tokens, 1))
        distance = (std - self.source_std).square().sum() + (mean - self.source_mean).square().sum()
        unsure = entropy(self.model.classify(tokens[-1]).to(mean.dtype)).sum()
        fitness = self.config.discrepancy * len(x) / 64 * distance + unsure
        return fitness, mean[-tokens[-1].shape[1] :], logits


def _spread(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over images (B, D), in float32 at least; one image alone has deviation 0."""
    tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    return torch.std_mean(tokens, 0, correction=min(1, len(tokens) - 1))
