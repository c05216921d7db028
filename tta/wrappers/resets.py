"""Resets by the clock: after every batch, or after every n."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from tta.adapter import StepInfo
from tta.errors import TTAError
from tta.wrappers.wrapper import Wrapper, WrapperConfig


class Episodic(Wrapper):
    """Every batch meets the source: the inner adapter is reset after each.

    The random generator is reset too, so that every batch sees the same draws, as under the reset policy "batch".

    Updates: what the inner method does, for one batch. State: none. Cost: the inner method's. Memory: likewise.
    Needs: what the inner method does.
    """

    name = "episodic"
    cost = "as inside"

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """A step of the inner adapter, forgotten."""
        logits = self.inner(x)
        info = self.inner.info._replace(reset=True)
        self.inner.reset()
        return logits, info


class Recurring(Wrapper):
    """The inner adapter is reset after every n batches.

    Updates: what the inner method does. State: a counter, and the inner method's. Cost: the inner method's. Memory:
    likewise. Needs: what the inner method does.

    Reference:
        Press et al., "RDumb: A simple approach that questions our progress in continual test-time adaptation",
        NeurIPS 2023, with n = 1000 and ETA as the inner method; there the random generators are not reset.
    """

    name = "recurring"
    cost = "as inside"

    @dataclass(frozen=True)
    class Config(WrapperConfig):
        """The published interval."""

        #: Batches from reset to reset.
        every: int = 1000

        def __post_init__(self) -> None:
            if self.every < 1:
                raise TTAError(f"recurring: every is a number of batches of at least 1, got {self.every}")

    config: Config

    def around(self, source: nn.Module) -> None:
        """Begins to count."""
        self.memory["batches"] = 0

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """A step of the inner adapter, and its reset if it is time."""
        logits, info = self.inner(x), self.inner.info
        self.memory["batches"] += 1
        if self.memory["batches"] % self.config.every == 0:
            self.inner.reset()
            info = info._replace(reset=True)
        return logits, info
