"""Scenarios: what a model meets and how it is operated, before there are images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tta.arrangements import ARRANGEMENTS, Arrangement
from tta.errors import TTAError, unknown
from tta.evaluation import RESETS, Reset
from tta.intruder_kinds import KINDS, read_intruders
from tta.numbered import write
from tta.orders import ORDERS, read_order


@dataclass(frozen=True)
class Scenario:
    """A kind of stream, the size of its batches, and the reset policy.

    Attributes:
        order: Of the domains, see `tta.orders`: "continual", "gradual", "mixed", "recurring:3", "ccc".
        arrangement: Of the images within a visit, see `tta.arrangements`: "shuffled", "stored", "sorted",
            "dirichlet:0.1" ...
        intruders: Images mixed in that nobody is scored on, see `tta.intruder_kinds`: "none", "noise:0.2" ...
        batch_size: Images that arrive together.
        reset: When the adapter goes back to the source, see `tta.evaluate`.

    Raises:
        TTAError: A name or number that makes no scenario.
    """

    order: str = "continual"
    arrangement: str = "shuffled"
    intruders: str = "none"
    batch_size: int = 64
    reset: Reset = "never"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise TTAError(f"the batch size is {self.batch_size}; give at least 1")
        if self.reset not in RESETS:
            raise unknown("reset policy", self.reset, RESETS)
        kind = read_intruders(self.intruders)
        # In their one spelling: "recurring" is "recurring:20".
        object.__setattr__(self, "order", read_order(self.order)[0])
        object.__setattr__(self, "arrangement", str(Arrangement.read(self.arrangement)))
        object.__setattr__(self, "intruders", "none" if kind is None else write(*kind))

    @classmethod
    def read(cls, text: str, batch_size: int = 64) -> Scenario:
        """A scenario of its parts, joined by plus signs in any order: at most one of each.

        Args:
            text: Order, arrangement, intruders and "reset:POLICY", as far as they are not the usual ones.
            batch_size: At least 1.

        Raises:
            TTAError: A part that is none, or one kind of part twice.

        >>> Scenario.read("mixed+dirichlet:0.1", 10)
        Scenario(order='mixed', arrangement='dirichlet:0.1', intruders='none', batch_size=10, reset='never')
        """
        kinds: dict[str, Collection[str]] = {
            "order": ORDERS, "arrangement": ARRANGEMENTS, "intruders": KINDS, "reset": ("reset",),
        }  # fmt: skip
        parts: dict[str, str] = {}
        for part in text.split("+"):
            name = part.partition(":")[0]
            kind = next((kind for kind, names in kinds.items() if name in names), None)
            if kind is None:
                raise unknown("part of a stream", name, [name for names in kinds.values() for name in names])
            if kind in parts:
                raise TTAError(f"stream {text!r}: {parts[kind]} and {part} are both its {kind}; give one")
            parts[kind] = part.partition(":")[2] if kind == "reset" else part
        return cls(**parts, batch_size=batch_size)  # type: ignore[arg-type]  # the policy is checked above

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

    @property
    def name(self) -> str:
        """Everything but the batch size: what `read` takes.

        >>> Scenario(reset="domain").name
        'continual+reset:domain'
        """
        return self.stream + ("" if self.reset == "never" else f"+reset:{self.reset}")

    def __str__(self) -> str:
        return f"{self.name}, batches of {self.batch_size}"
