"""ASR: reset when predictions concentrate, and only the layers near the output (Lim et al., ICLR 2026)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta.adapter import StepInfo
from tta.objectives import entropy
from tta.wrappers.wrapper import Wrapper, WrapperConfig, chain


class ASR(Wrapper):
    """Watches the entropy of each batch's mean prediction; where it falls under its average, resets the output side.

    A model that collapses predicts few classes. The deeper the fall, the more layers are reset, from the output on. The
    average follows more slowly the more the predictions differ from the source model's. Batches of few images or few
    classes look like a collapse.

    Updates: what the inner method does. State: the average entropy, and the inner method's. Cost: the inner method's
    and 1 forward of the source model. Memory: the inner method's, and the source's value of what it changes.
    Needs: batches that hold many classes.
    Differs from the published code: the regulariser that draws weights to their accumulated values is not part of it,
    as it needs the inner method's loss; teachers are reset like students.

    Reference:
        Lim et al., "When and where to reset matters for long-term test-time adaptation", ICLR 2026.
    """

    name = "asr"
    cost = "as inside, +1F"

    @dataclass(frozen=True)
    class Config(WrapperConfig):
        """The defaults of the published code."""

        #: First average: the entropy of a uniform distribution over this share of the classes (alpha_0).
        diversity: float = 0.5
        #: Weight of a batch in the average where the source model agrees on every image (mu_0).
        follow: float = 0.15
        #: Least share of the parameters to reset (r_0), and its growth with the fall of entropy in nats (lambda_r).
        least: float = 0.5
        growth: float = 20.0

    config: Config

    def around(self, source: nn.Module) -> None:
        """Keeps the source model as the inner method has configured it."""
        self.anchor = self.inner.copy_of(self.inner.model)
        self.memory["average"] = None

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """A step of the inner adapter, and a reset if its predictions have become too much alike."""
        logits, info = self.inner(x), self.inner.info
        with torch.no_grad():
            changed = (self.anchor(x).argmax(1) != logits.argmax(1)).float().mean()
            diversity = entropy(logits.float().mean(0, keepdim=True)).mean()
        now, flips = torch.stack((diversity, changed)).tolist()  # the decision is the host's
        first = math.log(logits.shape[1] * self.config.diversity)
        average = first if self.memory["average"] is None else self.memory["average"]
        if now < average:
            self.reset_output_side(self.config.least + self.config.growth * (average - now))
            self.memory["average"] = first
            return logits, info._replace(reset=True)
        rate = self.config.follow * (1 - flips)
        self.memory["average"] = (1 - rate) * average + rate * now
        return logits, info

    @torch.no_grad()
    def reset_output_side(self, share: float) -> None:
        """Resets a share of the adapted parameters of every network, from the output on, and all other state.

        Args:
            share: From 0 to 1; more is all.
        """
        networks = {id(network) for network in self.inner.networks()}
        named = [(name, module) for name, module in self.inner.named_modules() if id(module) in networks]
        changing = self.inner._changing()
        kept: set[str] = set()
        for prefix, _ in named:
            inside = [name for name, t in changing if name.startswith(f"{prefix}.") and isinstance(t, nn.Parameter)]
            kept |= {name for k, name in enumerate(inside) if k < (1 - share) * len(inside)}
        for name, tensor in changing:
            if name not in kept:
                tensor.copy_(self.inner._source_state[name])
        for adapter in chain(self.inner):
            adapter.memory = copy.deepcopy(adapter._source_memory)
            adapter.optimiser = adapter._fresh_optimiser()
