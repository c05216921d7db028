"""The guard: filters, checks, the choice of who answers, and the audit, as one thing to give to `tta.deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tta.errors import TTAError
from tta.guard.alarms import alarms
from tta.guard.audit import Audit
from tta.guard.budget import Budget
from tta.guard.canary import Canary
from tta.guard.check import Check, Reference
from tta.guard.choice import Choice
from tta.guard.limits import Drift, Finite
from tta.guard.outliers import Outlying
from tta.guard.rehearsal import Rehearsal
from tta.guard.teaching import Filter, NotFinite, Repeated


class Guard:
    """What watches over one deployed adapter. Every part can be left out or replaced by one's own.

    Args:
        filters: Which images may teach.
        checks: What every update must pass.
        choice: Who answers; None lets the adapter answer always, but for the batch after which it was reset.
        audit: Takes labels that come later.
        every: Images from one look of the source model to the next, where there is no choice to say when.
        budget: What looks may cost.
    """

    def __init__(
        self,
        filters: Sequence[Filter] = (),
        checks: Sequence[Check] = (),
        choice: Choice | None = None,
        audit: Audit | None = None,
        every: int = 1024,
        budget: Budget | None = None,
    ) -> None:
        #: Filters and checks.
        self.parts: tuple[Filter | Check, ...] = (*filters, *checks)
        names = [part.name for part in self.parts]
        if len({*names}) < len(names):
            raise TTAError(f"a guard has each filter and check once, got {', '.join(names)}")
        if every < 1:
            raise TTAError(f"every is a number of images, at least 1, got {every}")
        self.filters, self.checks, self.choice = tuple(filters), tuple(checks), choice
        self.audit, self.every, self.budget = audit or Audit(), every, budget or Budget()
        self.memory: dict[str, Any] = {"since": every}
        self._begun = False

    @classmethod
    def usual(cls, labelled: bool = True, rehearsal: Rehearsal | None = None) -> Guard:
        """The default: all filters, all alarms, canary and choice.

        Args:
            labelled: Whether there are labelled source data; without them there is no canary and no choice, and what
                is left finds collapse but not every harm.
            rehearsal: Of the choice.
        """
        filters = [NotFinite(), Repeated(), Outlying()]
        checks: list[Check] = [Finite(), Drift(), *(check for check in alarms() if labelled or not check.needs_data)]
        return cls(filters, [*checks, Canary()], Choice(rehearsal=rehearsal)) if labelled else cls(filters, checks)

    @classmethod
    def off(cls) -> Guard:
        """No guard: the adapter answers and learns from everything, in a deployment that can be saved and watched."""
        return cls()

    def begin(self, reference: Reference) -> None:
        """Called once, when the guard is deployed.

        Raises:
            TTAError: It is deployed already, or a part needs source data that are not there.
        """
        if self._begun:
            raise TTAError("this guard watches over another deployment: make one guard for each")
        self._begun = True
        data = reference.data
        for check in self.checks:
            if (check.needs_data and data is None) or (check.needs_labels and (data is None or data.labels is None)):
                what = "labelled source data" if check.needs_labels else "source data"
                raise TTAError(
                    f"the check {check.name} needs {what}: pass source_data=(images, labels), or leave it out"
                )
            check.begin(reference)
        if self.choice is not None:
            if data is None or data.labels is None:
                raise TTAError(
                    "the choice between adapter and source needs labelled source data: pass"
                    " source_data=(images, labels), or a guard without it"
                )
            self.choice.begin(data)
        if data is not None:
            images = data.take(torch.arange(min(len(data), 1000)), torch.zeros(()))[0]
            for each in self.filters:
                each.begin(images)

    def sort(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, int]]:
        """Which images may teach and which are kept apart, both (B,) on the CPU, and how many each filter has rejected.

        An image counts for the first filter that rejects it. The host waits once for all filters together.
        """
        masks = [each.reject(x) for each in self.filters]
        rejected = torch.stack(masks).cpu() if masks else torch.zeros(0, len(x), dtype=torch.bool)
        first = rejected & (rejected.cumsum(0) == 1)
        counts = dict(zip([each.name for each in self.filters], first.sum(1).tolist(), strict=True))
        return ~rejected.any(0), first[[each.apart for each in self.filters]].any(0), counts

    @property
    def by_adapter(self) -> bool:
        """Whether the adapter is to answer."""
        return self.choice is None or self.choice.by_adapter

    def looks(self, x: Tensor) -> bool:
        """Takes in a batch, and tells whether it is to be looked at: asked for, and afforded."""
        if self.choice is not None:
            return self.choice.due(x) and self.budget.affords(len(x) if self.choice.by_adapter else 0)
        self.memory["since"] += len(x)
        wanted = self.memory["since"] >= self.every and any(check.asks_source for check in self.checks)
        due = wanted and self.budget.affords(len(x))
        if due:
            self.memory["since"] = 0
        return due

    def restart(self) -> None:
        """After a reset of the adapter."""
        for check in self.checks:
            check.restart()
        if self.choice is not None:
            self.choice.restart()

    def state(self) -> dict[str, Any]:
        """All that the parts remember: what `set_state` takes."""
        choice = None if self.choice is None else self.choice.state()
        parts = {part.name: part.memory for part in self.parts}
        return {"parts": parts, "choice": choice, "audit": self.audit.state(), "own": self.memory,
                "budget": self.budget.memory}  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        for part in self.parts:
            part.memory = state["parts"][part.name]
        if self.choice is not None:
            self.choice.set_state(state["choice"])
        self.audit.set_state(state["audit"])
        self.memory, self.budget.memory = state["own"], state["budget"]
