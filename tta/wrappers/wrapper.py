"""What wrappers around a method have in common."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tta.adapter import Adapter, StepInfo
from tta.errors import TTAError


@dataclass(frozen=True)
class WrapperConfig:
    """Hyper-parameters of a wrapper, with those of what it wraps."""

    #: The inner adapter's config; filled in when it is wrapped.
    inner: Any = None


class Wrapper(Adapter):
    """An adapter around an adapter: decides when the inner one is reset, asked, or mixed with the source.

    It is used, reset, saved and exported like every adapter. A wrapper implements `around` and `step`, and `answer` if
    it changes the answer.

    Args:
        inner: The adapter to wrap; another wrapper will do.
        source: The source model, as the inner adapter got it.
        config: Hyper-parameters, an instance of the wrapper's `Config`.
    """

    Config: ClassVar[type] = WrapperConfig
    updates = "as inside"
    #: Prefixes of tensors that have an owner or are computed from others, and are not remembered for `reset`.
    derived: ClassVar[tuple[str, ...]] = ("inner.", "anchor.")

    def __init__(self, inner: Adapter, source: nn.Module, config: Any = None) -> None:
        nn.Module.__init__(self)
        if config is not None and not isinstance(config, self.Config):
            raise TTAError(f"{self.name} takes a {self.name} Config, got {type(config).__name__}")
        own: Any = config or self.Config()
        self.config = replace(own, inner=inner.config)
        self.name = f"{inner.name}+{self.name}"  # type: ignore[misc]
        self.inner, self.seed, self.info, self.memory = inner, inner.seed, StepInfo(), {}
        self.generator, self.host_generator = inner.generator, inner.host_generator
        self.answers, self.updates, self.requires = inner.answers, inner.updates, inner.requires  # type: ignore[misc]
        self.source_cost = inner.source_cost
        self._parameters_adapted, self.optimiser = [], None
        with torch.inference_mode(False), torch.no_grad():
            self.around(source)
            own = self._remember()
        self._source_state = {f"inner.{name}": value for name, value in inner._source_state.items()} | own
        self._source_memory = copy.deepcopy(self.memory)

    def around(self, source: nn.Module) -> None:
        """Makes what the wrapper keeps besides the inner adapter."""

    def answer(self, x: Tensor) -> Tensor:
        """The inner adapter's, which learns nothing from it."""
        return self.inner.predict(x)

    @property
    def model(self) -> nn.Module:  # type: ignore[override]
        """The innermost adapter's model."""
        return self.inner.model

    @property
    def network(self) -> nn.Module:
        """The inner adapter's answering network."""
        return self.inner.network

    def networks(self) -> list[nn.Module]:
        """The inner adapter's networks, and the wrapper's own."""
        return [*self.inner.networks(), *(child for name, child in self.named_children() if name != "inner")]

    def reset(self) -> None:
        """The inner adapter and the wrapper, back to the source."""
        self.inner.reset()
        super().reset()

    def export(self) -> nn.Module:
        """The inner adapter's export."""
        return self.inner.export()

    def frozen_source(self, source: nn.Module) -> nn.Module:
        """A copy of the source model in eval mode that shares the parameters which the inner adapter leaves alone."""
        kept = {name: p for name, p in self.model.named_parameters() if not p.requires_grad}
        shared = {
            id(p): kept[name] for name, p in source.named_parameters() if name in kept and torch.equal(p, kept[name])
        }
        return copy.deepcopy(source, shared).eval().requires_grad_(False)

    def _changing(self) -> list[tuple[str, Tensor]]:
        tensors = [*self.named_parameters(), *self.named_buffers()]
        own = [(name, t) for name, t in tensors if not name.startswith(self.derived)]
        return [(f"inner.{name}", t) for name, t in self.inner._changing()] + own

    def _remember(self) -> dict[str, Tensor]:
        own = [(name, t) for name, t in self._changing() if not name.startswith("inner.")]
        return {name: t.detach().clone() for name, t in own}


def chain(adapter: Adapter) -> list[Adapter]:
    """An adapter, the one it wraps, and so on to the method itself."""
    return [adapter, *(chain(adapter.inner) if isinstance(adapter, Wrapper) else [])]
