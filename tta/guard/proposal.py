"""Propose, check, commit or roll back: one update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.features import classifier
from tta.guard.check import Look
from tta.guard.guard import Guard
from tta.guard.limits import Finite
from tta.guard.moment import Moment


class Outcome(NamedTuple):
    """What became of a proposed update.

    Attributes:
        kind: "committed", "rolled back" (the state is that of before, bit for bit) or "reset" (it is the source's);
            "rested" if nothing was learned, to pay for the source model's answers.
        logits: The adapter's answers to the batch, given by its own rules; None if it raised or rested.
        reasons: Which checks have objected, and what they said.
        notes: Objections without a consequence.
        source: The source model's answers to the batch, where it was asked.
        finite: Whether a check has found the adapter's answers to be finite numbers, so that no one need look again.
    """

    kind: Literal["committed", "rolled back", "reset", "rested"]
    logits: Tensor | None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: Tensor | None = None
    finite: bool = False


def propose(
    adapter: Adapter, guard: Guard, undo: Moment, x: Tensor, source: Tensor | None = None, *, record: bool = False
) -> Outcome:
    """Lets an adapter answer a batch and learn from it, and undoes what the checks object to.

    Args:
        adapter: Changed only if the update is committed, or reset.
        guard: Whose checks are asked.
        undo: Takes the state before the update.
        x: Images that may teach, (B, C, H, W).
        source: The source model's answers to them, if it was asked.
        record: Whether to record the features of the batch for the checks.

    Raises:
        TTAError: The images are no batch, or the model returns no logits. The state is that of before.
    """
    undo.take(adapter)
    try:
        counting, networks = guard.budget.counting, adapter.networks()
        with recorded(adapter.network, len(x), record) as features, counting("adapter", networks):
            logits = adapter(x)
        look = Look(adapter, logits, source, features[0] if features else None)
        with counting("guard", networks):
            objections = [(check, reason) for check in guard.checks if (reason := check.object(look)) is not None]
    except TTAError:
        undo.restore(adapter)
        raise
    except Exception as error:  # of the method: the answer must not be lost with it
        undo.restore(adapter)
        reason = " ".join(str(error).split()) or "no message"
        return Outcome("rolled back", None, (f"raised {type(error).__name__}: {reason}",))
    except BaseException:
        undo.restore(adapter)
        raise
    said = {check.action: [f"{c.name}: {reason}" for c, reason in objections if c.action == check.action]
            for check, _ in objections}  # fmt: skip
    notes = tuple(said.get("note", ()))
    if "reset" in said:
        adapter.reset()
        guard.restart()
        return Outcome("reset", logits, tuple(said["reset"]), notes)
    if "roll back" in said:
        undo.restore(adapter)
        return Outcome("rolled back", logits, tuple(said["roll back"]), notes)
    objecting = [check for check, _ in objections]
    finite = any(isinstance(check, Finite) and check not in objecting for check in guard.checks)
    return Outcome("committed", logits, notes=notes, finite=finite)


@contextmanager
def recorded(network: nn.Module, count: int, wanted: bool) -> Iterator[list[Tensor]]:
    """Within, what goes into the network's classifier is recorded: the first features of `count` images."""
    seen: list[Tensor] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)] if wanted else []
    if not layers:
        yield seen
        return

    def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not seen and inputs[0].ndim == 2 and len(inputs[0]) == count:
            with torch.no_grad():
                seen.append(inputs[0].detach().clone())

    handle = classifier(network).register_forward_pre_hook(see)
    try:
        yield seen
    finally:
        handle.remove()
