"""A moment of an adapter: everything that a step may change, kept so that it can come back bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from tta.adapter import Adapter
from tta.wrappers.wrapper import chain


class Moment:
    """The state of an adapter at one moment: its undo.

    Only what can change is copied: adapted weights, statistics, teachers, the optimiser, memories and random
    generators; not the frozen weights, nor anchors. Buffers are kept from one `take` to the next, so that a moment
    costs one pass over these tensors, on their device, and no waiting. Memory: as much as what changes.

    Args:
        adapter: Whose state is kept; taken at once.
    """

    def __init__(self, adapter: Adapter) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._rest: list[tuple[Any, ...]] = []
        self.take(adapter)

    def take(self, adapter: Adapter) -> None:
        """Keeps the present state instead of the one that was kept before."""
        with torch.inference_mode(False), torch.no_grad():
            current = changing(adapter)
            kept = self._tensors
            if kept.keys() != current.keys() or any(kept[k].shape != t.shape for k, t in current.items()):
                self._tensors = {name: tensor.detach().clone() for name, tensor in current.items()}
            else:
                _copy(list(kept.values()), list(current.values()))
            self._rest = [
                (copy.deepcopy(one.memory), one._generator_states(), _optimiser_state(one.optimiser), one.info)
                for one in chain(adapter)
            ]

    def restore(self, adapter: Adapter) -> None:
        """Brings the state back, into the adapter it was taken of or another one made alike."""
        with torch.inference_mode(False), torch.no_grad():
            current = changing(adapter)
            _copy([current[name] for name in self._tensors], list(self._tensors.values()))
            for one, (memory, generators, optimiser, info) in zip(chain(adapter), self._rest, strict=True):
                one.memory, one.info = copy.deepcopy(memory), info
                one._set_generator_states(generators)
                _set_optimiser_state(one.optimiser, optimiser)


def changing(adapter: Adapter) -> dict[str, Tensor]:
    """Every tensor of an adapter that a step may change, by name: all but frozen weights and anchors."""
    frozen = {id(p) for p in adapter.model.parameters() if not p.requires_grad}
    tensors = [*adapter.named_parameters(), *adapter.named_buffers()]
    return {name: t for name, t in tensors if id(t) not in frozen and "anchor" not in name.split(".")}


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)


def _optimiser_state(optimiser: torch.optim.Optimizer | None) -> list[Any] | None:
    """Settings of the groups, and for every parameter, by its place, what the optimiser remembers of it."""
    if optimiser is None:
        return None
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    states = [_cloned(optimiser.state[p]) if p in optimiser.state else None for p in parameters]
    return [copy.deepcopy(groups), states]


def _set_optimiser_state(optimiser: torch.optim.Optimizer | None, state: list[Any] | None) -> None:
    if optimiser is None or state is None:
        return
    groups, states = state
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for group, settings in zip(optimiser.param_groups, groups, strict=True):
        group.update(copy.deepcopy(settings))
    optimiser.state.clear()
    for parameter, its in zip(parameters, states, strict=True):
        parameter.grad = None
        if its is not None:
            optimiser.state[parameter] = _cloned(its)


def _cloned(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v.detach().clone() if isinstance(v, Tensor) else copy.deepcopy(v) for k, v in state.items()}
