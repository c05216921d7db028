"""Who answers a batch of a deployment: the adapter where it is to be heard, else the source model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.guard.guard import Guard
from tta.guard.learner import Lesson
from tta.guard.log import AuditLog
from tta.guard.metrics import Metrics
from tta.guard.proposal import Outcome

#: So many images that are kept apart are answered by the adapter, if it answers the others; fewer by the source model.
COMPANY = 8


class Answer(NamedTuple):
    """The answer to a batch.

    Attributes:
        logits: (B, K), detached.
        ids: Numbers of the images, to give labels for later (`Deployed.audit`).
        by_adapter: Whether the adapter has answered; if not, the source model has.
        version: Of the adapter that has answered: the updates committed and the resets before.
    """

    logits: Tensor
    ids: range
    by_adapter: bool
    version: int


class Answering:
    """Answers batches, and says what is to be learned from each.

    Args:
        adapter: That answers.
        source: The frozen source model.
        guard: Whose word counts.
        metrics: Counts what was answered.
        log: Where it is written why.
        lock: Held while the metrics change.
        learn: Learns a lesson at once, on the way to the answer; None if lessons are learned later.
    """

    def __init__(
        self,
        adapter: Adapter,
        source: nn.Module,
        guard: Guard,
        metrics: Metrics,
        log: AuditLog,
        lock: threading.RLock,
        learn: Callable[[Lesson], Outcome] | None,
    ) -> None:
        self.adapter, self.source, self.guard, self.learn = adapter, source, guard, learn
        self.metrics, self.log, self._lock = metrics, log, lock

    def answer(self, x: Tensor, version: int, frozen: bool) -> tuple[Answer, Lesson | None]:
        """Answers a batch.

        Args:
            x: Images, (B, C, H, W), float in [0, 1] or not finite.
            version: Of the adapter.
            frozen: Whether nothing is to be learned.

        Returns:
            The answer, and what is to be learned later.
        """
        teach, apart, rejected = self.guard.sort(x)
        self.metrics.count("batches")
        self.metrics.count("images", len(x))
        self.metrics.count("rejected_images", sum(rejected.values()))
        if any(rejected.values()):
            self.log.add("rejected", **{name: count for name, count in rejected.items() if count})
        ids = self.guard.audit.number(len(x))
        regular, taught = x, Lesson(x, list(ids))
        if any(rejected.values()):
            regular, teaches = x[~apart], bool(teach.any())
            seen = teach if teaches else ~apart
            numbers = [n for n, yes in zip(ids, seen.tolist(), strict=True) if yes]
            taught = Lesson(x[seen], numbers, sum(rejected.values()), teaches)
        logits, by_adapter, later = self._regular(regular, taught, frozen)
        self.metrics.count("images_by_source", 0 if by_adapter else len(regular))
        if len(regular) < len(x):
            theirs = self._apart(x[apart].nan_to_num(0, 1, 0).clamp(0, 1), by_adapter, frozen)
            whole = theirs.new_empty(len(x), *theirs.shape[1:])
            whole[apart] = theirs
            if logits is not None:
                whole[~apart] = logits.to(whole.dtype)
            logits = whole
        assert logits is not None
        return Answer(logits.detach(), ids, by_adapter, version), later

    def _regular(self, x: Tensor, taught: Lesson, frozen: bool) -> tuple[Tensor | None, bool, Lesson | None]:
        """Answers to images that are not kept apart, whether the adapter gave them, and what is to be learned later."""
        if frozen or not taught.teaches:
            self.metrics.count("skipped")
        if len(x) == 0:
            return None, False, None
        learns = not frozen
        guard, later = self.guard, taught if learns and self.learn is None else None
        learn = self.learn if learns else None
        whole = learn is not None and len(taught.x) == len(x)  # what is learned from is answered on the way
        asked = guard.by_adapter and not whole
        ours = self._predicted(x, frozen) if asked else None
        theirs, trusted, finite = None, not asked or ours is not None, False
        if learn is not None:
            outcome = learn(taught)
            trusted = trusted and outcome.kind != "reset"
            if whole:
                ours, theirs, finite = outcome.logits, outcome.source, outcome.finite
            if outcome.kind == "rolled back" and self.adapter.answers == "after":
                ours = None
        if trusted and guard.by_adapter:
            ours = self._predicted(x, frozen) if ours is None else ours
            if ours is not None and (finite or bool(ours.isfinite().all())):
                return ours, True, later
        return self.source(x) if theirs is None else theirs, False, later

    def _apart(self, x: Tensor, by_adapter: bool, frozen: bool) -> Tensor:
        """Answers to images that are kept apart: among themselves, where they are enough for batch statistics."""
        ours = self._predicted(x, frozen) if by_adapter and len(x) >= COMPANY else None
        if ours is not None and bool(ours.isfinite().all()):
            return ours
        self.metrics.count("images_by_source", len(x))
        return self.source(x)

    def _predicted(self, x: Tensor, frozen: bool) -> Tensor | None:
        """The adapter's answer; None where it raised, so that the source model gives one.

        Its passes count in the budget while batches are learned from on the way to the answer.
        """
        counted = self.learn is not None and not frozen
        try:
            with self.guard.budget.counting("answers", self.adapter.networks() if counted else ()):
                return self.adapter.predict(x)
        except TTAError:
            raise
        except Exception as error:  # of the method: the answer must not be lost with it
            self.failed("no answer of the adapter", error)
            return None

    def failed(self, event: str, error: Exception) -> None:
        """Counts and logs what went wrong without stopping anything."""
        with self._lock:
            self.metrics.count("failures")
        self.log.add(event, why=f"{type(error).__name__}: {error}"[:200])
