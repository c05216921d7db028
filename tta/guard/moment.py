"""A moment of an adapter: everything that a step may change, kept so that it can come back bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

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
        self._remembered: list[Tensor] = []
        self._rest: list[tuple[Any, ...]] = []
        self.take(adapter)

    def take(self, adapter: Adapter) -> None:
        """Keeps the present state instead of the one that was kept before."""
        with torch.inference_mode(False), torch.no_grad():
            current = changing(adapter)
            copies = _copies(list(current.values()), list(self._tensors.values()))
            self._tensors = dict(zip(current, copies, strict=True))
            self._rest = [
                (copy.deepcopy(one.memory), one._generator_states(), _optimiser_state(one.optimiser), one.info)
                for one in chain(adapter)
            ]
            optimisers = [optimiser for _, _, optimiser, _ in self._rest if optimiser is not None]
            states = [its for _, states in optimisers for its in states if its is not None]
            places = [(its, key) for its in states for key, value in its.items() if isinstance(value, Tensor)]
            self._remembered = _copies([its[key] for its, key in places], self._remembered)
            for (its, key), kept in zip(places, self._remembered, strict=True):
                its[key] = kept

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
    found: dict[str, Tensor] = {}
    _find(adapter, "", adapter.model, False, found, set())
    return found


def _find(
    module: nn.Module, prefix: str, model: nn.Module, inside: bool, found: dict[str, Tensor], seen: set[int]
) -> None:
    """Fills `found` in one walk, since that is made twice a batch: `named_parameters` and `named_buffers` take longer.

    Each tensor is taken once, under its first name: what was `seen` is known by its id. `inside` means in the model.
    """
    seen.add(id(module))
    inside = inside or module is model
    for tensors in (module._parameters, module._buffers):
        for name, tensor in tensors.items():
            if tensor is not None and name != "anchor" and id(tensor) not in seen:
                seen.add(id(tensor))
                if tensor.requires_grad or not inside or tensors is module._buffers:
                    found[prefix + name] = tensor
    for name, child in module._modules.items():
        if child is not None and name != "anchor" and id(child) not in seen:
            _find(child, f"{prefix}{name}.", model, inside, found, seen)


def _copies(tensors: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    """Copies of tensors, in the memory of what was kept before where that is alike."""
    if [_kind(t) for t in tensors] != [_kind(t) for t in kept]:
        return [t.detach().clone() for t in tensors]
    _copy(kept, tensors)
    return kept


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    groups: dict[tuple[torch.dtype, torch.device], list[tuple[Tensor, Tensor]]] = {}
    for pair in zip(targets, sources, strict=True):
        groups.setdefault((pair[0].dtype, pair[0].device), []).append(pair)
    for pairs in groups.values():  # those of one kind are copied at once, mixed ones one by one
        torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])


def _optimiser_state(optimiser: torch.optim.Optimizer | None) -> list[Any] | None:
    """Settings of the groups, and for every parameter, by its place, what the optimiser remembers: its own tensors."""
    if optimiser is None:
        return None
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    states = [optimiser.state.get(p) for p in parameters]  # which adds nothing to it
    return [copy.deepcopy(groups), [None if its is None else _shared(its) for its in states]]


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


def _shared(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, Tensor) else copy.deepcopy(v) for k, v in state.items()}


def _cloned(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v.detach().clone() if isinstance(v, Tensor) else copy.deepcopy(v) for k, v in state.items()}
