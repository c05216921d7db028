"""Numbers and names as words, the same in every form of the report."""

from __future__ import annotations

import re
from typing import Any, NamedTuple


class Terms(NamedTuple):
    """What a report calls its shifts: corruptions of clean images, or natural domains beside a reference.

    Attributes:
        natural: Whether they are natural domains.
        shift: One of them.
        shifts: Several.
        clean: What is not shifted, short.
        clean_images: The same, in a sentence.
        shifted: What is.
        under: Where errors happen.
    """

    natural: bool
    shift: str = "corruption"
    shifts: str = "corruptions"
    clean: str = "clean"
    clean_images: str = "clean images"
    shifted: str = "corrupted"
    under: str = "under corruptions"


def terms(content: dict[str, Any]) -> Terms:
    """The words of a report.

    >>> terms({"protocol": {"reference": "photo"}}).clean_images
    'images of the reference domain photo'
    """
    reference = content["protocol"]["reference"]
    if reference is None:
        return Terms(False)
    name = words(reference)
    images = f"images of the reference domain {name}"
    return Terms(True, "domain", "other domains", name, images, "other domains", "on the other domains")


def number(value: float | None, digits: int = 1) -> str:
    """A number with so many decimals; a dash for none.

    >>> number(12.345), number(None)
    ('12.3', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign.

    >>> signed(-1.26)
    '-1.3'
    """
    return "–" if value is None else f"{value:+.{digits}f}"


def plain(value: float) -> str:
    """A number without superfluous decimals.

    >>> plain(5.0)
    '5'
    """
    return f"{value:g}"


def thousands(value: int) -> str:
    """A count with separators.

    >>> thousands(12345)
    '12,345'
    """
    return f"{value:,}"


def words(name: str) -> str:
    """The name of a corruption in words.

    >>> words("medmnist-c/pneumoniamnist/jpeg_compression")
    'jpeg compression'
    """
    return str(name).rpartition("/")[2].replace("_", " ")


def first_capital(text: str) -> str:
    """A text with its first letter large, and the others as they are.

    >>> first_capital("other domains")
    'Other domains'
    """
    return text[:1].upper() + text[1:]


def short(name: object) -> str:
    """The name of a model without the folders of its file.

    >>> short('/home/me/models.py:load("cifar10/resnet56")'), short("timm:resnet18")
    ('models.py:load("cifar10/resnet56")', 'timm:resnet18')
    """
    return re.sub(r"^[^:]*[/\\](?=[^/\\:]+\.(py|pt|pth|bin|safetensors)\b)", "", str(name))


def source_range(content: dict[str, Any]) -> str:
    """The errors of the source model over the streams."""
    errors = [entry["error"] for entry in content["adaptation"]["entries"] if entry["method"] == "source"]
    low, high = number(min(errors)), number(max(errors))
    return f"{low} %" if low == high else f"{low} to {high} %"


def stream_n(content: dict[str, Any]) -> str:
    """The number of images per stream."""
    counts = [entry["n"] for entry in content["adaptation"]["entries"] if entry["n"]]
    return thousands(counts[0]) if len({*counts}) == 1 else f"{thousands(min(counts))} to {thousands(max(counts))}"


def unrun(content: dict[str, Any]) -> list[str]:
    """Why methods have no numbers, once each."""
    found = dict.fromkeys((one["method"], one["failed"]) for one in content["adaptation"]["entries"] if one["failed"])
    return [reason if reason.startswith(name) else f"{name}: {reason}" for name, reason in found]
