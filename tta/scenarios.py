"""Scenarios: what a model meets and how it is operated, before there are images."""

from __future__ import annotations

from dataclasses import dataclass

from tta.errors import TTAError, unknown
from tta.evaluate import RESETS, Reset


@dataclass(frozen=True)
class Scenario:
    """A kind of stream, the size of its batches, and the reset policy.

    Attributes:
        order: Of the domains, see `tta.orders`: "continual", "gradual", "mixed", "recurring:3", "ccc".
        arrangement: Of the images within a visit, see `tta.arrangements`: "shuffled", "stored", "sorted",
            "dirichlet:0.1" ...
        intruders: Images mixed in that nobody is scored on, see `tta.intruders`: "none", "noise:0.2" ...
        batch_size: Images that arrive together.
        reset: When the adapter goes back to the source, see `tta.evaluate`.
    """

    order: str = "continual"
    arrangement: str = "shuffled"
    intruders: str = "none"
    batch_size: int = 64
    reset: Reset = "never"

    @property
    def stream(self) -> str:
        """The name of its stream, as in results.

        >>> Scenario("mixed", "dirichlet:0.1", "noise:0.2").stream
        'mixed+dirichlet:0.1+noise:0.2'
        """
        parts = [self.order]
        parts += [] if self.arrangement == "shuffled" else [self.arrangement]
        parts += [] if self.intruders == "none" else [self.intruders]
        return "+".join(parts)

    def __str__(self) -> str:
        return f"{self.stream}, batches of {self.batch_size}" + ("" if self.reset == "never" else f", {self.reset}")

    def check(self) -> None:
        """Raises TTAError for a batch size below 1 and an unknown reset policy."""
        if self.batch_size < 1:
            raise TTAError(f"the batch size is {self.batch_size}; give at least 1")
        if self.reset not in RESETS:
            raise unknown("reset policy", self.reset, RESETS)
