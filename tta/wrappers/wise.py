"""Weight-space ensemble: answer with weights between the source's and the adapted (Wortsman et al., CVPR 2022)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta.adapter import Adapter, StepInfo
from tta.errors import TTAError
from tta.wrappers.wrapper import Wrapper, WrapperConfig


class WiSE(Wrapper):
    """Answers with (1 - alpha) * source weights + alpha * adapted weights, while the inner adapter learns as ever.

    Updates: what the inner method does. State: a copy of the answering network, and the inner method's.
    Cost: the inner method's and 1 forward. Memory: the inner method's, and once more what it changes.
    Needs: an inner method that changes weights or statistics.
    Differs from the published code: WiSE-FT mixes fine-tuned weights once; here they are mixed after every batch. What
    the inner method does to its network's logits afterwards is not done.

    Reference:
        Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, eq. 1.
    """

    name = "wise"
    cost = "as inside, +1F"
    derived = ("inner.", "anchor.", "mixed.")

    @dataclass(frozen=True)
    class Config(WrapperConfig):
        """The paper's choice where nothing is known."""

        #: Share of the adapted weights.
        adapted: float = 0.5

        def __post_init__(self) -> None:
            if not 0 <= self.adapted <= 1:
                raise TTAError(f"wise: adapted is a share from 0 to 1, got {self.adapted}")

    config: Config

    def around(self, source: nn.Module) -> None:
        """Makes the answering network, which shares what the inner adapter never changes."""
        changing = {id(t) for _, t in self.inner._changing()}
        network = self.inner.network
        found = [name for name, module in self.inner.named_modules() if module is network]
        if not found:
            raise TTAError(
                f"wise mixes the weights of one network, and {self.inner.name} answers with several: wrap a method that"
                " answers with one, such as tent, or mix answers by smoothing"
            )
        self._prefix = found[0]
        if not any(id(t) in changing for t in (*network.parameters(), *network.buffers())):
            raise TTAError(
                f"wise mixes weights, and {self.inner.name} changes none of its network: wrap a method that does, such"
                " as tent, or mix answers by smoothing"
            )
        shared = {id(p): p for p in network.parameters() if id(p) not in changing}
        self.mixed = copy.deepcopy(network, shared).requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """The mixture."""
        return self.mixed

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """The mixture answers when the inner adapter would: before its step, or after."""
        logits = self.answer(x) if self.answers == "before" else None
        self.inner(x)
        self.mix()
        return self.answer(x) if logits is None else logits, self.inner.info

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """The mixture's logits."""
        return self.mixed(x)

    def export(self) -> nn.Module:
        """A copy of the mixture, as a plain module."""
        return Adapter.export(self)

    def reset(self) -> None:
        """The inner adapter, back to the source, and the mixture with it."""
        super().reset()
        self.mix()

    @torch.no_grad()
    def mix(self) -> None:
        """Sets the mixture's weights and statistics."""
        mixed = dict((*self.mixed.named_parameters(), *self.mixed.named_buffers()))
        for name, tensor in self.inner._changing():
            if name.startswith(f"{self._prefix}."):
                source, target = self.inner._source_state[name], mixed[name[len(self._prefix) + 1 :]]
                if tensor.is_floating_point():
                    torch.lerp(source, tensor, self.config.adapted, out=target)
                else:
                    target.copy_(tensor)
