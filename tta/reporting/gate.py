"""Conditions on the numbers of a report, for continuous integration: "mean_error > 30"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tta.errors import TTAError, unknown

#: The numbers that a condition may name, and what they are.
NAMES = {
    "clean_error": "error on clean images in %",
    "mean_error": "mean error over all corruptions and severities in %",
    "mean_error_high": "upper end of its 95 % interval",
    "worst_cell_error": "error under the worst corruption and severity in %",
    "worst_class_error": "error of the worst class under corruptions in %",
    "ece_clean": "calibration error on clean images in %",
    "ece_shifted": "calibration error under corruptions in %",
    "flip_rate": "share of the images that a shift by one pixel turns into another class in %",
    "mce": "mean corruption error relative to the named baseline in %",
    "adaptation_gain": "points that the recommended method takes off the error",
}
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A comparison of a number of the report with a bound."""

    name: str
    sign: str
    bound: float

    @classmethod
    def read(cls, text: str) -> Condition:
        """A condition from its text.

        Raises:
            TTAError: No condition, or an unknown name.

        >>> Condition.read("mean_error > 30")
        Condition(name='mean_error', sign='>', bound=30.0)
        """
        found = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*(>=|<=|>|<)\s*([+-]?\d+(?:\.\d*)?)\s*%?\s*", text)
        if found is None:
            raise TTAError(f'the condition {text!r} cannot be read; give NAME > NUMBER, say "mean_error > 30"')
        name, sign, bound = found.groups()
        if name not in NAMES:
            raise unknown("number of the report", name, NAMES)
        return cls(name, sign, float(bound))

    def reason(self, headline: Mapping[str, float | None]) -> str | None:
        """Why a report fails; None if it does not.

        Args:
            headline: The numbers of the report.

        Raises:
            TTAError: The report has no such number, so that nothing can be said.
        """
        value = headline[self.name]
        if value is None:
            raise TTAError(
                f"this report has no {self.name} ({NAMES[self.name]}), so {self} cannot be told; leave that condition"
                " out"
            )
        return f"{self}: it is {value:.2f}" if OPERATORS[self.sign](value, self.bound) else None

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.bound:g}"
