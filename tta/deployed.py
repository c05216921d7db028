"""A deployed adapter behind a guard: answers, learns, keeps its state. `tta.deploy` makes one."""

from __future__ import annotations

import copy
import threading
import time
from typing import Any

import torch
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.answering import Answer, Answering
from tta.errors import TTAError
from tta.guard.audit import Interval
from tta.guard.background import Worker
from tta.guard.check import Reference
from tta.guard.guard import Guard
from tta.guard.learner import Learner, Lesson
from tta.guard.log import AuditLog
from tta.guard.metrics import Metrics
from tta.guard.proposal import Outcome
from tta.guard.snapshots import Snapshots
from tta.source_data import SourceData


class Deployed(nn.Module):
    """A model in production that learns, and is watched: predict, propose, check, commit or roll back.

    Call it like the model. It may be called from several threads, under `inference_mode` too. What is answered:

    - the adapter's answer, given by the state that was committed before the batch (a method that answers after its
      update, by the state after it), as long as the guard's choice is the adapter;
    - the source model's answer if the guard has chosen it, if the adapter was reset with this batch, or if the adapter
      has raised or answered something that is not finite; and for images that the guard keeps apart. If eight or more
      of a batch are, the adapter answers them too, by themselves: they learn nothing and teach nothing, and have no say
      in the answers to the others.

    An update that is rolled back leaves no trace: weights, statistics, optimiser, memories and random generators are
    those of before, bit for bit. Memory: the adapter, a frozen copy of the source model, and one copy of what an update
    may change (in the background two adapters, and two such copies).

    Use `deploy` to make one.
    """

    def __init__(
        self,
        adapter: Adapter,
        source: nn.Module,
        guard: Guard,
        source_data: SourceData | None,
        shadow: Adapter | None = None,
        log: AuditLog | None = None,
    ) -> None:
        super().__init__()
        with torch.inference_mode(False), torch.no_grad():
            self.source = copy.deepcopy(source).eval().requires_grad_(False)
            reference = Reference.of(self.source, source_data)
            if reference.logits is not None and reference.logits.ndim != 2:
                raise TTAError(f"a guard watches over classes, logits (B, K); got {tuple(reference.logits.shape)}")
            guard.begin(reference)
        self.adapter, self.guard = adapter, guard
        # In the background a second adapter learns, so that answers do not wait for it.
        self.shadow = shadow
        self.log = log or AuditLog(None)
        #: Whether learning is stopped.
        self.frozen = False
        self._snapshots: Snapshots | None = None
        self._snapshot_every = 0
        #: Learning, checks and choice, and answering: whoever takes both takes them in this order.
        self._learning, self._answering = threading.RLock(), threading.RLock()
        self._learner = Learner(adapter, shadow, self.source, guard, self.log, self._answering)
        learn = self._learn if shadow is None else None
        self._answers = Answering(adapter, self.source, guard, self.metrics, self.log, self._answering, learn)
        self._worker: Worker[Lesson] | None = None

    @property
    def version(self) -> int:
        """Updates committed and resets so far."""
        return self._learner.version

    @property
    def metrics(self) -> Metrics:
        """Counters, gauges and latencies; `report` brings them up to date."""
        return self._learner.metrics

    def _rehearse(self) -> bool:
        """Rehearses before the first answer, and tells whether; a snapshot brings along what was learned."""
        with self._learning, self._answering, torch.inference_mode(False), torch.no_grad():
            return self._learner.rehearse()

    # Answers

    def forward(self, x: Tensor) -> Tensor:
        """Answers a batch, and learns from it now or in the background.

        Args:
            x: Images, float in [0, 1], (B, C, H, W). Values that are not finite are allowed. Not written to.

        Returns:
            Logits, (B, K), detached.

        Raises:
            TTAError: `x` is not such a batch, or the model returned no such logits.
        """
        return self.ask(x).logits

    def ask(self, x: Tensor) -> Answer:
        """As `forward`, with the numbers of the images and who has answered."""
        started = time.perf_counter()
        with torch.inference_mode(False), torch.no_grad():
            x = self.adapter._checked(x)
            if self._worker is None:
                with self._learning, self._answering:
                    answer, later = self._answers.answer(x, self.version, self.frozen)
            else:
                with self._answering:
                    answer, later = self._answers.answer(x, self.version, self.frozen)
                if later is not None:
                    self._worker.put(later)
        with self._answering:
            self.metrics.latencies["answer"].add(time.perf_counter() - started)
        return answer

    # Learning

    def _learn_later(self, lesson: Lesson) -> None:
        """What the thread does with each batch."""
        with self._learning, torch.inference_mode(False), torch.no_grad():
            self._learn(lesson)

    def _learn(self, lesson: Lesson) -> Outcome:
        outcome = self._learner.learn(lesson)
        committed = self.metrics.counters["committed"]
        if self._snapshots is not None and outcome.kind == "committed" and committed % self._snapshot_every == 0:
            try:
                self.snapshot()
            except (OSError, TTAError) as error:  # a full disk: answers and learning go on, the log says so
                self._answers.failed("no snapshot", error)
        return outcome

    # What an operator does

    def audit(self, ids: range | list[int], labels: Tensor | list[int]) -> Interval:
        """Takes the true classes of images that were answered, as sparse and as late as they come.

        Images that only one of the two models has answered count for nothing; ask for labels of images drawn at random.
        After a kill, numbers that were given since the last snapshot are given again: drop the labels of such images.
        Where harm is certified the adapter is reset, and the comparison begins anew.

        Args:
            ids: Numbers of the images, from `Answer.ids`.
            labels: Their classes.

        Returns:
            Error of the adapter minus that of the source model, as a share, with an interval that holds at all times.

        Raises:
            TTAError: Not as many labels as numbers.
        """
        labels = labels.tolist() if isinstance(labels, Tensor) else list(labels)
        if len(labels) != len(ids):
            raise TTAError(f"an audit takes a label for each image, got {len(labels)} labels for {len(ids)} images")
        with self._learning, self._answering:
            interval = self.guard.audit.take(list(ids), labels)
            self._learner.gauge(audited_difference=interval.mean, audited_labels=interval.n)
            if interval.n and interval.low > 0:
                self.log.add("harm certified", **interval._asdict())
                self.guard.audit.begin_again()
                self._learner.reset()
        return interval

    def reset(self) -> None:
        """Takes the adapter back to the source, and drops what waits; the guard begins to judge it anew."""
        self._forget()
        with self._learning, self._answering:
            self._learner.reset()

    def freeze(self, frozen: bool = True) -> None:
        """Stops learning, or goes on with it; answers go on either way."""
        with self._learning, self._answering:
            self.frozen = frozen
            self.log.add("frozen" if frozen else "learning")

    def snapshot(self) -> int:
        """Writes a snapshot and returns its version.

        Raises:
            TTAError: There is no folder for them.
        """
        with self._learning:
            if self._snapshots is None:
                raise TTAError("there is no folder for snapshots: deploy with folder=")
            with self._answering:
                state = {
                    "adapter": self.adapter.state_dict(),  # not changed while nothing is learned
                    "guard": copy.deepcopy(self.guard.state()),
                    "counters": dict(self.metrics.counters),
                    "version": self.version,
                }
            version = self._snapshots.save(state)
            self.metrics.count("snapshots")
            self.log.add("snapshot", version=version)
            return version

    def restore(self, version: int) -> None:
        """Goes back to a snapshot, and drops what waits: the next answer is the one that was given then.

        Raises:
            TTAError: There is no such snapshot, it is damaged, or it is of something else.
        """
        if self._snapshots is None:
            raise TTAError("there is no folder with snapshots: deploy with folder=")
        state = self._snapshots.load(version)
        self._forget()
        self._set_state(version, state)

    def _forget(self) -> None:
        if self._worker is not None:
            self._worker.forget()

    def versions(self) -> list[int]:
        """The snapshots that `restore` takes."""
        return [] if self._snapshots is None else self._snapshots.versions()

    def _set_state(self, version: int, state: dict[str, Any]) -> None:
        with self._learning, self._answering, torch.inference_mode(False), torch.no_grad():
            for each in self._learner.adapters():
                each.load_state_dict(state["adapter"])
            given = self.guard.audit.memory["next"]
            self.guard.set_state(copy.deepcopy(state["guard"]))
            # no two images get one number: a label that comes late must not reach another image
            self.guard.audit.memory["next"] = max(given, self.guard.audit.memory["next"])
            self.metrics.counters |= state["counters"]
            self._learner.version = state["version"]
            self.log.add("restored", version=version)

    def report(self) -> dict[str, Any]:
        """The metrics as plain numbers: counters, gauges, and quantiles of latencies in seconds."""
        with self._answering:
            self._refresh()
            return self.metrics.as_dict()

    def prometheus(self) -> str:
        """The metrics as text for Prometheus."""
        with self._answering:
            self._refresh()
            return self.metrics.prometheus()

    def _refresh(self) -> None:
        gauges = {check.name: check.value for check in self.guard.checks if check.value is not None}
        choice = self.guard.choice
        self.metrics.gauges |= gauges | {
            "adapter_version": self.version,
            "adapter_answers": float(choice is None or choice.by_adapter),
            "guard_passes_percent": self.guard.budget.overhead,
            "queue_length": float(len(self._worker)) if self._worker else 0.0,
        }

    def drain(self) -> None:
        """Waits until everything that was answered has been learned from."""
        if self._worker is not None:
            self._worker.drain()

    def close(self) -> None:
        """Learns from what waits, ends the thread, and writes a last snapshot if there is a folder."""
        if self._worker is not None:
            self._worker.close()
        if self._snapshots is not None:
            self.snapshot()

    def export(self) -> nn.Module:
        """A plain module in eval mode with the committed weights, which learns no more; see `Adapter.export`."""
        with self._answering:
            return self.adapter.export()

    def train(self, mode: bool = True) -> Deployed:
        """Changes nothing: a deployment learns whatever the mode."""
        return self

    def __enter__(self) -> Deployed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
