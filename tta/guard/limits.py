"""Checks of the state that an update leaves behind."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tta.errors import TTAError
from tta.guard.check import Action, Check, Look, Reference
from tta.guard.moment import changing


class Finite(Check):
    """Every answer and every adapted weight is a finite number.

    Cost: one norm per tensor that can change; the host waits once per batch. Guarantees that no NaN is ever committed;
    says nothing about the answers otherwise. False alarms: none.
    """

    name = "finite"
    action: Action = "roll back"

    def object(self, look: Look) -> str | None:
        """See the class."""
        floating = [t for t in changing(look.adapter).values() if t.is_floating_point()]
        norms = [t.to(look.logits) for t in torch._foreach_norm(floating)] if floating else []
        whole = torch.stack([look.logits.abs().sum(), *norms])
        # A finite norm may overflow where all values are finite: such weights are of no use either.
        return None if all(map(math.isfinite, whole.tolist())) else "answers or weights are not finite"


class Drift(Check):
    """The adapted weights stay near the source's: |w - w0| / |w0| over all adapted parameters together.

    Cost: one pass over the adapted parameters, now and then. Guarantees the distance at these moments and nothing else:
    little drift can do harm, and much of it can help. False alarms: none at the start; later ones depend on the limit
    only.

    Args:
        limit: Largest relative distance.
        every: Updates from one look to the next.
        action: What follows.
    """

    name = "drift"

    def __init__(self, limit: float = 0.5, every: int = 8, action: Action = "reset") -> None:
        super().__init__()
        if limit <= 0 or every < 1:
            raise TTAError(
                f"drift: limit is a positive share of the weights' norm and every at least 1, got {limit} and {every}"
            )
        self.limit, self.every, self.action = limit, every, action
        self.memory = {"updates": 0}
        self.start: list[Tensor] = []

    def begin(self, reference: Reference) -> None:
        """Nothing is known of the adapter before it is seen."""
        self.start = []

    def object(self, look: Look) -> str | None:
        """See the class."""
        self.memory["updates"] += 1
        if self.memory["updates"] % self.every:
            return None
        state = look.adapter._source_state
        pairs = [
            (p.detach(), state[name])
            for name, p in look.adapter.named_parameters()
            if p.requires_grad and name in state
        ]
        if not pairs:
            return None
        now, source = ([pair[k] for pair in pairs] for k in (0, 1))
        away = torch.stack(torch._foreach_norm(torch._foreach_sub(now, source))).norm()
        self.value = float(away / torch.stack(torch._foreach_norm(source)).norm().clamp(min=1e-12))
        return (
            f"adapted weights are {self.value:.2f} of their norm from the source's" if self.value > self.limit else None
        )
