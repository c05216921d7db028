"""What the guard may spend, counted in passes, so that it is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from tta.cost import PassCounter
from tta.errors import TTAError


class Budget:
    """Passes of images through networks: the guard's at most a share of the adapter's.

    A pass is one image going forward, or backward, through a network. The guard may spend some passes in advance, since
    it knows least when it begins; that loan is paid back, evenly, while the adapter makes the first `repaid` passes.
    From then on the guard's passes are never more than the share. Counted by hooks, not by the clock.

    Args:
        share: Of the adapter's passes, over 0.
        loan: Passes in advance.
        repaid: Passes of the adapter after which the loan is paid back.
    """

    def __init__(self, share: float = 0.1, loan: int = 512, repaid: int = 16_384) -> None:
        if share <= 0 or loan < 0 or repaid < 1:
            raise TTAError(
                f"budget: share is over 0, loan at least 0 and repaid at least 1; got {share}, {loan}, {repaid}"
            )
        self.share, self.loan, self.repaid = share, loan, repaid
        self.memory: dict[str, Any] = {"images": 0, "adapter": 0, "guard": 0, "answers": 0, "rested": 0}

    def affords(self, passes: float) -> bool:
        """Whether the guard may spend so many passes now."""
        return bool(self.memory["guard"] + passes <= self.share * self._alone + self._loan)

    @property
    def rests(self) -> bool:
        """Whether the adapter should leave a batch out, to pay for the source model's answers.

        Where the source model answers, batches that the adapter does not learn from pay for it: all passes together
        stay within what the adapter alone would have made, and the share.
        """
        ours = self.memory
        return bool(ours["adapter"] + ours["guard"] + ours["answers"] > (1 + self.share) * self._alone + self._loan)

    def spent(self, who: str, passes: float) -> None:
        """Notes passes.

        Args:
            who: "adapter"; "guard"; "answers" for those of the source model where it answers, and of the adapter where
                it answers what it does not learn from.
            passes: How many.
        """
        self.memory[who] += passes

    def learned(self, images: int) -> None:
        """Notes that the adapter's passes were made of so many more images."""
        self.memory["images"] += images

    def rested(self, images: int) -> None:
        """Notes that the adapter has left out so many images, which it alone would have learned from."""
        self.memory["rested"] += images * self.memory["adapter"] / max(1, self.memory["images"])

    @contextmanager
    def counting(self, who: str, networks: Sequence[nn.Module]) -> Iterator[None]:
        """Notes every pass through the networks within."""
        with PassCounter(networks) as counter:
            yield
        self.spent(who, sum(counter.passes))

    @property
    def overhead(self) -> float:
        """The guard's passes in % of those that the adapter alone would have made; 0 before the first."""
        return 100 * self.memory["guard"] / self._alone if self._alone else 0.0

    @property
    def total(self) -> float:
        """All passes above those that the adapter alone would have made, in % of these; answers and rests included."""
        ours = self.memory
        whole = ours["adapter"] + ours["guard"] + ours["answers"]
        return 100 * (whole / self._alone - 1) if self._alone else 0.0

    @property
    def _alone(self) -> float:
        return float(self.memory["adapter"] + self.memory["rested"])

    @property
    def _loan(self) -> float:
        return self.loan * max(0.0, 1 - self._alone / self.repaid)
