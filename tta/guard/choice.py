"""Who answers: the adapter where it is expected to err less, otherwise the source model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.guard.judge import Judge
from tta.guard.order import ClassOrder
from tta.guard.rehearsal import Rehearsal
from tta.guard.style import Style
from tta.source_data import SourceData

#: Images from a look that leaves doubt to the next.
SOON = 128
#: Images without which nothing is known, and that a look takes at least: of several batches, if they are small.
FEW = 48
#: The same where images of a class come together: a batch tells little about the next one, which is of other classes.
MANY = 256
#: By so much the memory is longer there, and the margin greater, which the gain must not fall below again.
LONGER, SURER = 4, 1.25
#: What was known under another style counts so much.
OTHER_STYLE = 0.25


class Estimate(NamedTuple):
    """What is expected.

    Attributes:
        gain: Points by which the adapter errs less than the source model, over the images of late.
        doubt: Points by which that was too much in the rehearsal on shifts left out, at most, in 90 of 100 visits.
        ordered: Whether images of a class come together; as long as that is not known they are taken to.
    """

    gain: float
    doubt: float
    ordered: bool


class Choice:
    """Expects, without labels, by how much the adapter errs less than the source model, and lets the better one answer.

    Before the first batch both models rehearse: labelled source images under two dozen corruptions, in several orders,
    teach a judge what gain and harm look like with this network and this method (`Rehearsal`, `Judge`). On the stream
    the judge sees both models' answers to a batch now and then, and its verdicts are averaged. The adapter is heard if
    its gain is beyond doubt: over `margin` times what the judge has expected too much, on shifts that it had not seen,
    in 90 of 100 visits. It goes on to be heard while it is expected to gain anything (`stay` times the
    doubt, if you want more). Otherwise, and before anything is known, the source model answers. Streams in which images
    of a class come together (`ClassOrder`) are judged by what was learned on such ones; there the margin is a
    quarter greater, and the gain must stay above it.

    Cost: the rehearsal, once; a batch through the source model for each look, as often as the guard's budget allows,
    and when the style of the stream changes; a forward pass of the source model on every batch while it answers. No
    guarantee: a stream that is unlike everything rehearsed may deceive the judge, and the images of the rehearsal, if
    the model was trained on them, make the source model look better than it is. The audit can be relied upon.

    Args:
        every: Images of the stream from one look to the next, at most; few once the adapter is heard, then twice as
            many after each look that leaves no doubt.
        margin: See above.
        stay: See above.
        memory: Images after which a verdict counts half; four times as many where images of a class come together. When
            the style of the stream changes, all verdicts before count a quarter.
        rehearsal: What is rehearsed.

    Raises:
        TTAError: Numbers that make no choice.
    """

    def __init__(
        self,
        every: int = 1024,
        margin: float = 1.0,
        stay: float = 0.0,
        memory: int = 256,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        if min(every, memory) < 1 or not 0 <= stay <= margin:
            raise TTAError(
                "choice: every and memory are at least 1, and stay is between 0 and margin; got"
                f" {every}, {memory}, {stay} and {margin}"
            )
        self.every, self.margin, self.stay, self.half = every, margin, stay, memory
        self.rehearsal = rehearsal or Rehearsal()
        self.judge: Judge | None = None

    def begin(self, data: SourceData) -> None:
        """Learns the style of source data; before the first look the source model answers."""
        self.data = data
        data.needed_labels("the choice between adapter and source")
        like = torch.zeros((), device=data.images.device)
        self.style = Style(data.take(torch.arange(min(len(data), 1000)), like)[0])
        self.order = ClassOrder()
        self.memory: dict[str, Any] = {
            "adapter": False, "since": 0, "wait": 0, "gain": 0.0, "weight": 0.0, "doubt": 0.0,
            "seen": 0, "looked": 0, "ordered": True,
        }  # fmt: skip

    def rehearse(self, adapter: Adapter, source: nn.Module) -> Judge:
        """Both models rehearse, if they have not; the adapter is as it was afterwards."""
        if self.judge is None:
            self.judge = self.rehearsal.judge(adapter, source, self.data, self.style)
        return self.judge

    @property
    def by_adapter(self) -> bool:
        """Whether the adapter answers at present."""
        return bool(self.memory["adapter"])

    @property
    def estimate(self) -> Estimate | None:
        """What is expected at present; None before the first look."""
        if self.judge is None or self.memory["weight"] == 0:
            return None
        return Estimate(*(self.memory[key] for key in Estimate._fields))

    def due(self, x: Tensor) -> bool:
        """Takes in a batch, and tells whether a look is wanted. It is wanted until there is one."""
        if self.style.take(x):
            self.memory["wait"] = 0
        self.memory["since"] += len(x)
        return bool(self.memory["looked"] > 0 or self.memory["since"] >= self.memory["wait"])

    def look(self, x: Tensor, logits: Tensor, source_logits: Tensor) -> Estimate:
        """Judges both models' answers to a batch, and decides.

        Args:
            x: Its images, (B, C, H, W).
            logits: The adapter's answers, (B, K).
            source_logits: The source model's.
        """
        assert self.judge is not None, "rehearsed when deployed"
        ours, heard = self.memory, self.by_adapter
        another = self.style.is_another()
        self.order.take(source_logits.argmax(1), source_logits.shape[1], another)
        ordered = self.order.ordered is not False
        if ordered != ours["ordered"]:  # what was expected was of another kind of stream
            ours.update(ordered=ordered, weight=0.0, seen=0)
        gain = self.judge.gain(logits, source_logits, self.style.describe(x), ordered)
        half = self.half * (LONGER if ordered else 1)
        kept = ours["weight"] * 0.5 ** (max(ours["since"], len(x)) / half) * (OTHER_STYLE if another else 1)
        weight = kept + len(x)
        gain, doubt = (kept * ours["gain"] + len(x) * gain) / weight, self.judge.doubt(len(x), ordered)
        ours.update(gain=gain, weight=weight, doubt=doubt, seen=min(MANY, ours["seen"] + len(x)))
        self.style.note()
        self._decide()
        clear = abs(ours["gain"] - self._margin()) > doubt
        ours.update(since=0, looked=ours["looked"] + len(x))
        if ours["looked"] >= FEW:
            longer = min(self.every, max(2 * SOON, 2 * ours["wait"])) if heard else 2 * SOON
            ours.update(looked=0, wait=longer if clear else SOON)
        return Estimate(gain, doubt, ordered)

    def restart(self) -> None:
        """After a reset of the adapter: what was known of its state is void, and the source model answers."""
        self.memory.update(adapter=False, wait=0, gain=0.0, weight=0.0, seen=0, looked=0)

    def _decide(self) -> None:
        enough = self.memory["seen"] >= (MANY if self.memory["ordered"] else FEW)
        self.memory["adapter"] = enough and self.memory["gain"] > self._margin()

    def _margin(self) -> float:
        """Points by which the adapter must be better to be heard, or to go on to be heard."""
        if self.memory["ordered"]:
            return SURER * self.margin * float(self.memory["doubt"])
        return (self.stay if self.memory["adapter"] else self.margin) * float(self.memory["doubt"])

    def state(self) -> dict[str, Any]:
        """All that it remembers, what it has learned in the rehearsal too: what `set_state` takes."""
        judge = None if self.judge is None else self.judge.state()
        return {"own": self.memory, "style": self.style.memory, "order": self.order.memory, "judge": judge}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.memory, self.style.memory, self.order.memory = state["own"], state["style"], state["order"]
        self.judge = None if state["judge"] is None else Judge.of_state(state["judge"])
