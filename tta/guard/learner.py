"""The learning side of a deployment: takes lessons one after another, under the eyes of the guard."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.guard.guard import Guard
from tta.guard.log import AuditLog
from tta.guard.metrics import Metrics
from tta.guard.moment import Moment
from tta.guard.proposal import Outcome, propose


class Lesson(NamedTuple):
    """What is told of a batch.

    Attributes:
        x: Images to learn from; if none of the batch may teach, those to be looked at.
        ids: Their numbers.
        spared: Images of the batch that are not learned from, which the adapter alone would have done.
        teaches: Whether they are to be learned from.
    """

    x: Tensor
    ids: list[int]
    spared: int = 0
    teaches: bool = True


class Learner:
    """Proposes updates, shows the answers to the guard, hands over what is committed, and keeps the books.

    Args:
        adapter: That answers.
        shadow: That learns in the background, made like the adapter; None if the one that answers learns.
        source: The frozen source model.
        guard: Whose word counts.
        log: Where it is written why.
        answering: Held while what answers, or what is told of it, changes.
    """

    def __init__(
        self,
        adapter: Adapter,
        shadow: Adapter | None,
        source: nn.Module,
        guard: Guard,
        log: AuditLog,
        answering: threading.RLock,
    ) -> None:
        self.answers, self.shadow, self.source, self.guard = adapter, shadow, source, guard
        #: The adapter that learns.
        self.adapter = adapter if shadow is None else shadow
        self._undo = Moment(self.adapter)
        self._handed = None if shadow is None else Moment(shadow)
        self.metrics, self.log, self._answering = Metrics(), log, answering
        #: Updates committed and resets so far.
        self.version = 0

    def learn(self, lesson: Lesson) -> Outcome:
        """Proposes an update, commits it or not, and keeps the books. Called by one thread at a time."""
        started = time.perf_counter()
        guard, x = self.guard, lesson.x
        guard.budget.rested(lesson.spared)
        due, by_source = guard.looks(x), not guard.by_adapter
        source = self.source(x) if due or by_source else None
        if source is not None:
            guard.budget.spent("answers" if by_source else "guard", len(x))
        if not lesson.teaches:
            logits = self._looked(lesson, source, by_source) if due and source is not None else None
            return Outcome("rested", logits, source=source, finite=logits is not None)
        if by_source and guard.budget.rests:
            return self._rest(x, source)
        outcome = propose(self.adapter, guard, self._undo, x, source, record=due)._replace(source=source)
        guard.budget.learned(len(x))
        logits = outcome.logits
        if source is not None and logits is not None and (outcome.finite or bool(logits.isfinite().all())):
            self._watch(x, logits, source, lesson.ids, outcome.kind != "reset")
        if self._handed is not None and self.shadow is not None and outcome.kind != "rolled back":
            self._handed.take(self.shadow)
        with self._answering:
            if self._handed is not None and outcome.kind != "rolled back":
                self._handed.restore(self.answers)  # all of it or nothing, between two answers
            self._keep_books(outcome, due)
            self.metrics.latencies["update"].add(time.perf_counter() - started)
        return outcome

    def _rest(self, x: Tensor, source: Tensor | None) -> Outcome:
        """Learns nothing from a batch that the source model answers."""
        self.guard.budget.rested(len(x))
        with self._answering:
            self.metrics.count("skipped")
        return Outcome("rested", None, source=source)

    def _looked(self, lesson: Lesson, source: Tensor, by_source: bool) -> Tensor | None:
        """Images that teach nothing still tell who is to answer: the adapter's answers to them, None if not finite."""
        # In the background, and where the source model answers, this is no answer but a look only.
        who = "guard" if by_source or self.shadow is not None else "answers"
        try:
            with self.guard.budget.counting(who, self.adapter.networks()):
                logits = self.adapter.predict(lesson.x)
        except TTAError:
            raise
        except Exception:  # of the method: who answers next finds it again, and says so
            return None
        if not bool(logits.isfinite().all()):
            return None
        self._watch(lesson.x, logits, source, lesson.ids, stays=True)
        with self._answering:
            self.metrics.count("looks")
        return logits

    def reset(self) -> None:
        """Takes the adapter back to the source; the guard begins to judge it anew."""
        for each in self.adapters():
            each.reset()
        self.guard.restart()
        self.version += 1
        self.metrics.count("resets")
        self.log.add("reset", why="asked for")

    def adapters(self) -> list[Adapter]:
        """The one that answers, and the one that learns if that is another."""
        return [self.answers] if self.shadow is None else [self.answers, self.shadow]

    def gauge(self, **values: float) -> None:
        """Tells values to the metrics."""
        with self._answering:
            self.metrics.gauges |= values

    def rehearse(self) -> bool:
        """Before the first batch the guard's choice learns to judge, if there is one that has not; tells whether."""
        choice = self.guard.choice
        if choice is None or choice.judge is not None:
            return False
        started = time.perf_counter()
        judge = choice.rehearse(self.adapter, self.source)
        self._undo.take(self.adapter)
        doubts = {
            f"{'ordered' if kind.ordered else 'shuffled'} {kind.size}": round(part.doubt, 2)
            for kind, part in judge.parts.items()
        }
        self.log.add("rehearsed", doubts=doubts, seconds=round(time.perf_counter() - started, 3))
        return True

    def _watch(self, x: Tensor, logits: Tensor, source: Tensor, ids: list[int], stays: bool) -> None:
        """Shows the answers to the choice, if the state that gave them stays, and to the audit."""
        choice = self.guard.choice
        if choice is not None and stays:
            was = choice.by_adapter
            estimate = choice.look(x, logits, source)
            self.gauge(
                estimated_gain=estimate.gain,
                estimated_gain_doubt=estimate.doubt,
                classes_together=float(estimate.ordered),
            )
            if choice.by_adapter != was:
                self.log.add("adapter answers" if choice.by_adapter else "source answers", **estimate._asdict())
        classes, theirs = logits.argmax(1).tolist(), source.argmax(1).tolist()
        self.guard.audit.note(ids, classes, theirs)
        self.gauge(flip_rate=sum(a != b for a, b in zip(classes, theirs, strict=True)) / len(classes))

    def _keep_books(self, outcome: Outcome, due: bool) -> None:
        self.metrics.count(outcome.kind.replace(" ", "_") if outcome.kind != "reset" else "resets")
        self.metrics.count("looks", int(due))
        self.metrics.count("alarms", len(outcome.notes))
        if outcome.kind != "rolled back":
            self.version += 1
        if self.adapter.info.reset:
            self.metrics.count("resets")
        batch = self.metrics.counters["batches"]
        for note in outcome.notes:
            self.log.add("alarm", batch=batch, why=note)
        if outcome.kind != "committed":
            self.log.add(outcome.kind, batch=batch, why="; ".join(outcome.reasons))
