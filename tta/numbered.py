"""Names with a number behind a colon, such as "dirichlet:0.1": one way to read them and one to write them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tta.errors import TTAError, unknown

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf", re.IGNORECASE)


@dataclass(frozen=True)
class Number:
    """What may stand behind the colon.

    Attributes:
        expected: Which numbers fit, in words, for messages: "a positive concentration".
        default: For the name alone.
        fits: Whether a number fits.
    """

    expected: str
    default: float
    fits: Callable[[float], bool]


def read(text: str, kind: str, known: Iterable[str], numbers: Mapping[str, Number]) -> tuple[str, float | None]:
    """Name and number of a text NAME or NAME:NUMBER.

    Args:
        text: What the user wrote.
        kind: What it names, for messages.
        known: All names.
        numbers: Those that take a number, and which.

    Returns:
        The name, and its number: the default where none is written, None for a name that takes none.

    Raises:
        TTAError: An unknown name, a number where none belongs, or one that does not fit.

    >>> read("recurring:3", "order", ["recurring"], {"recurring": Number("a whole number", 20, lambda n: n % 1 == 0)})
    ('recurring', 3.0)
    """
    name, colon, written = text.partition(":")
    if name not in known:
        raise unknown(kind, name, known)
    number = numbers.get(name)
    if number is None:
        if colon:
            raise TTAError(f"{kind} {text!r}: {name} takes no number; write {name!r}")
        return name, None
    value = number.default
    if colon:
        value = float(written) if _NUMBER.fullmatch(written) else math.nan
    if math.isnan(value) or not number.fits(value):
        example = write(name, number.default)
        raise TTAError(f"{kind} {text!r}: {written!r} is not {number.expected}; write it as in {example!r}")
    return name, value


def write(name: str, value: float | None) -> str:
    """The one spelling of a name and its number.

    >>> write("dirichlet", 0.1), write("recurring", 20.0), write("mixed", None)
    ('dirichlet:0.1', 'recurring:20', 'mixed')
    """
    if value is None:
        return name
    return f"{name}:{repr(float(value)).removesuffix('.0')}"
