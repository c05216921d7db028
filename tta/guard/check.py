"""A check: a small object that looks at every proposed update and may object."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.source_data import SourceData

#: What follows an objection. "note": it is logged. "roll back": the update is undone. "reset": the adapter goes back
#: to the source.
Action = Literal["note", "roll back", "reset"]


class Look(NamedTuple):
    """What a check may look at: an update that is proposed, and the answers to the same images.

    Attributes:
        adapter: With the update; not to be changed.
        logits: The adapter's answers, (B, K).
        source: The source model's answers to the same images; None where it was not asked.
        features: What went into the adapter's classifier, (B, D), where it was recorded.
    """

    adapter: Adapter
    logits: Tensor
    source: Tensor | None = None
    features: Tensor | None = None


class Reference(NamedTuple):
    """The source model, and what is known of it on source data.

    Attributes:
        model: The frozen source model.
        data: Source images, perhaps with labels; None if there are none.
        logits: The source model's answers to them, on the CPU.
    """

    model: nn.Module
    data: SourceData | None = None
    logits: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, data: SourceData | None) -> Reference:
        """Asks the source model about the source data, once."""
        if data is None:
            return cls(model)
        like = next((t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), torch.zeros(()))
        return cls(model, data, torch.cat([model(x).float().cpu() for x, _ in data.batches(64, like)]))


class Check:
    """Looks at proposed updates, one after another. Whatever it remembers is in `memory`, plain values and tensors.

    Attributes:
        name: In metrics, in the log and in objections.
        tier: 1 needs no labels, 2 labelled source data, 3 labels of the stream.
        asks_source: Whether it can only look where the source model has answered too.
        needs_data: Whether it needs source data, and `needs_labels` whether they must be labelled.
        action: What follows an objection.
    """

    name: ClassVar[str] = ""
    tier: ClassVar[int] = 1
    asks_source: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    action: Action = "note"

    def __init__(self) -> None:
        self.memory: dict[str, Any] = {}
        #: The latest value of what is watched, for the metrics.
        self.value: float | None = None

    def begin(self, reference: Reference) -> None:
        """Called once, before the first batch."""

    def object(self, look: Look) -> str | None:
        """Why the update must not stay; None if it may."""
        raise NotImplementedError

    def restart(self) -> None:
        """Called after the adapter was reset: what was learned about its state is void."""
