"""The reproduction ledger: published errors, each with the protocol it was measured under and what others measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tta.errors import TTAError

#: The ledger of this package.
PUBLISHED = Path(__file__).parent / "published.json"
#: How close to a published value is the same value, in points.
SAME = 0.5
#: Sources that differ by more than this many points do not widen the tolerance: they measured something else.
ALIKE = 2.0


@dataclass(frozen=True)
class Protocol:
    """What several published values have in common: data, model and stream.

    Attributes:
        name: Begins the ids of its entries: "cifar10-c".
        source: Tag of the source that states it.
        data: Name of the clean data set, from whose training split source images come.
        stored: Folder of the published corrupted images, and the layout.
        model: Of the source model, as `tta.load_source` takes it.
        weights: Where its checkpoint is published, if that does not follow from its name.
        batch_size: Images that arrive together.
        images: Images per visit to a domain.
        seeds: One run each; with `orders`, the numbers of the published orders.
        domains: Corruptions in the order of their appearance; the 15 common ones if empty.
        severity: Of the corruptions; the gradual order goes up to it.
        order: Of the domains, see `tta.orders`.
        arrangement: Of the images within a visit, see `tta.arrangements`.
        orders: "published" for the ten orders of `tta.published_orders` instead of `domains`.
        reset: Reset policy.
        resize: The images, of 224 pixels, are enlarged to this side and their centre is cropped; None leaves them.
        listed: File with the names of the images, where they are some of those that are stored.
        listed_sha256: Its SHA-256, with line feeds between the names.
    """

    name: str
    source: str
    data: str
    stored: str
    model: str
    batch_size: int
    images: int
    seeds: tuple[int, ...]
    weights: str = ""
    domains: tuple[str, ...] = ()
    severity: int = 5
    order: str = "continual"
    arrangement: str = "shuffled"
    orders: str = ""
    reset: str = "never"
    resize: int | None = None
    listed: str = ""
    listed_sha256: str = ""

    def __str__(self) -> str:
        count = f"{len(self.domains)} domains" if self.domains else "15 domains"
        orders = f", the published orders {self.seeds[0]} to {self.seeds[-1]}" if self.orders else ""
        severity = f"severities 1 to {self.severity}" if self.order == "gradual" else f"severity {self.severity}"
        parts = [
            f"{self.stored}, {severity}, {count}, {self.images:,} images each" + (", listed" if self.listed else ""),
            f"{self.order} order{orders}, images {self.arrangement}, batches of {self.batch_size}, reset {self.reset}",
            *([f"images enlarged to {self.resize} pixels, centre cropped"] if self.resize else []),
            self.model,
        ]
        return "; ".join(parts)


@dataclass(frozen=True)
class Entry:
    """One published value.

    Attributes:
        id: PROTOCOL/METHOD, such as "cifar10-c/cotta".
        protocol: How it was measured.
        method: Ours, with the preset that has the published setting: "cotta:cifar10".
        error: Published error in %, averaged over visits.
        source: Tag of its source.
        seeds: As of the protocol, or fewer where the others would give the same.
        spread: Published standard deviation in points; None where none is.
        others: What other sources have for the same cell, in %, by their tag.
        source_images: How many training images the method was given; "all" of them, or 0 for none.
        note: What is known to differ from our run, or to be doubtful.
    """

    id: str
    protocol: Protocol
    method: str
    error: float
    source: str
    seeds: tuple[int, ...]
    spread: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    source_images: int | str = 0
    note: str = ""

    @property
    def tolerance(self) -> float:
        """Points by which a measured error may differ: 0.5, or as much as sources do that differ by at most 2."""
        differences = [round(abs(other - self.error), 2) for other in self.others.values()]
        return max([SAME, *(difference for difference in differences if difference <= ALIKE)])


@dataclass(frozen=True)
class Ledger:
    """Published values.

    Attributes:
        entries: The values, those of a protocol after each other.
        sources: What the tags stand for.
    """

    entries: tuple[Entry, ...]
    sources: Mapping[str, str]

    def select(self, patterns: Sequence[str]) -> list[Entry]:
        """The entries that ids or patterns name, in the order of the ledger; all, if there are no patterns.

        Args:
            patterns: Such as "cifar10-c/cotta", "cifar10-c/*", "*/tent".

        Raises:
            TTAError: A pattern that names none.

        >>> [entry.id for entry in read_ledger().select(["cifar10-c-gradual/[bc]*"])]
        ['cifar10-c-gradual/bn', 'cifar10-c-gradual/cotta']
        """
        for pattern in patterns:
            if not any(fnmatchcase(entry.id, pattern) for entry in self.entries):
                near = get_close_matches(pattern, [entry.id for entry in self.entries], n=1)
                hint = f"did you mean {near[0]!r}?" if near else "`tta reproduce --list` shows what there is"
                raise TTAError(f"the ledger has no entry {pattern!r}: {hint}")
        found = [entry for entry in self.entries if any(fnmatchcase(entry.id, pattern) for pattern in patterns)]
        return found if patterns else list(self.entries)


def read_ledger(path: Path | str | None = None) -> Ledger:
    """Reads a ledger.

    Args:
        path: A file like `tta/published.json`, which is read if not given. A protocol may be `like` an earlier one.

    Raises:
        TTAError: It is not there, or is no such file.
    """
    file = Path(path) if path is not None else PUBLISHED
    try:
        content = json.loads(file.read_text())
        protocols = _protocols(content["protocols"])
        entries = tuple(_entry(row, protocols) for row in content["entries"])
        sources = {str(tag): str(text) for tag, text in content["sources"].items()}
        for tag in (tag for entry in entries for tag in (entry.source, entry.protocol.source, *entry.others)):
            sources[tag]
    except FileNotFoundError as error:
        raise TTAError(f"{file} is not there; give a ledger as tta/published.json is one") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TTAError(f"{file} is no ledger ({reason}); expected sources, protocols and entries") from error
    if not entries or len({entry.id for entry in entries}) < len(entries):
        raise TTAError(f"{file} has no entries, or two of one id; each id stands for one value")
    return Ledger(entries, sources)


def _protocols(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Protocol]:
    """Protocols by name, with what they have from the one that they are like."""
    plain: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        own = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
        like = own.pop("like", None)
        plain[name] = own if like is None else {**plain[str(like)], **own}
    return {name: Protocol(name=name, **row) for name, row in plain.items()}


def _entry(row: Mapping[str, Any], protocols: Mapping[str, Protocol]) -> Entry:
    protocol = protocols[row["id"].rpartition("/")[0]]
    own = {"source": protocol.source, **row, "seeds": tuple(row.get("seeds", protocol.seeds))}
    return Entry(protocol=protocol, **{**own, "error": float(row["error"])})
