"""The orders of a stream: which images of which domains come one after another.

An order is a small function from domains to visits: which domain comes when, and how often. Which images come one after
another within a visit is the arrangement (`tta.arrangements`); batches, labels, corruption and device are the stream's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tta.arrangements import Arrangement, Chance
from tta.errors import TTAError
from tta.numbered import Number, read, write

if TYPE_CHECKING:
    from tta.intruders import Intruders
    from tta.streams import Domain


@dataclass(frozen=True)
class Visit:
    """A stretch of a stream between two moments at which something changes: which images come, in their order.

    Attributes:
        domain: Number of each image's domain, int64, shape (n,).
        index: Index of each image in its domain's data, int64, shape (n,).
    """

    domain: Tensor
    index: Tensor


class Arranger:
    """Makes visits: the images of a domain, or of all, in the stream's arrangement, with its intruders.

    Args:
        seed: Seed of the stream.
        arrangement: Which images come one after another.
        intruders: What is mixed into every visit, if anything.
    """

    def __init__(self, seed: int, arrangement: Arrangement, intruders: Intruders | None = None) -> None:
        self.seed, self.arrangement, self.intruders = seed, arrangement, intruders

    def visit(self, domains: Sequence[Domain], number: int, repeat: int = 0) -> Visit:
        """A visit to one domain, keyed by (seed, domain, number of the visit to it)."""
        chance = Chance(self.seed, domains[number].label, repeat)
        index = self.arrangement.sequence(domains[number].data.labels, chance)
        return self.join(Visit(torch.full_like(index, number), index), chance, domains)

    def mixture(self, domains: Sequence[Domain]) -> Visit:
        """One visit to all domains at once; it is the whole that is arranged. Stored images are mixed by shuffling."""
        is_stored = self.arrangement.name == "stored"
        parts = Arranger(self.seed, self.arrangement if is_stored else Arrangement("shuffled"))
        visits = [parts.visit(domains, number) for number in range(len(domains))]
        domain, index = (torch.cat([getattr(visit, name) for visit in visits]) for name in ("domain", "index"))
        whole, labels = Arrangement("shuffled") if is_stored else self.arrangement, index
        if whole.by_class:
            labels = torch.cat([domains[number].data.labels[visit.index] for number, visit in enumerate(visits)])
        chance = Chance(self.seed, "mixed")
        sequence = whole.sequence(labels, chance)
        return self.join(Visit(domain[sequence], index[sequence]), chance, domains)

    def join(self, visit: Visit, chance: Chance, domains: Sequence[Domain]) -> Visit:
        """The visit with the intruders, whose domains are numbered after the others."""
        return visit if self.intruders is None else Visit(*self.intruders.join(visit, chance, len(domains)))


Order = Callable[..., Iterator[Visit]]


def continual(domains: Sequence[Domain], arranger: Arranger) -> Iterator[Visit]:
    """One domain after another, each once."""
    return recurring(domains, arranger, 1)


def recurring(domains: Sequence[Domain], arranger: Arranger, times: float) -> Iterator[Visit]:
    """The whole sequence of domains again and again, every time arranged anew.

    The protocol of PeTTA (Hoang et al., NeurIPS 2024) and ReservoirTTA: 20 times.
    """
    for repeat in range(int(times)):
        for number in range(len(domains)):
            yield arranger.visit(domains, number, repeat)


def gradual(domains: Sequence[Domain], arranger: Arranger) -> Iterator[Visit]:
    """Each shift swells and fades: severities 1 2 3 4 5 4 3 2 1; the first one starts at its height: 5 4 3 2 1.

    The protocol of CoTTA (Wang et al., CVPR 2022) for gradual CIFAR10-C: 131 visits for 15 corruptions.
    """
    groups: dict[str, list[int]] = {}
    for number, domain in enumerate(domains):
        groups.setdefault(domain.name, []).append(number)
    for place, numbers in enumerate(groups.values()):
        if len(numbers) == 1:
            raise TTAError(
                f"the gradual order needs several severities of every domain, but {domains[numbers[0]].name!r} has one"
            )
        rising = sorted(numbers, key=lambda number: domains[number].severity)
        falling = rising[::-1]
        for number in falling if place == 0 else rising:
            yield arranger.visit(domains, number)
        for number in [] if place == 0 else falling[1:]:
            yield arranger.visit(domains, number, repeat=1)


def mixed(domains: Sequence[Domain], arranger: Arranger) -> Iterator[Visit]:
    """All images of all domains in one visit."""
    yield arranger.mixture(domains)


def ccc(domains: Sequence[Domain], arranger: Arranger) -> Iterator[Visit]:
    """Section after section in the order of its images, which `tta.ccc.make_ccc` has shuffled step by step."""
    if arranger.arrangement.name != "shuffled":
        raise TTAError(f"the order ccc has its own arrangement of images; leave {arranger.arrangement} out")
    for number, domain in enumerate(domains):
        if not hasattr(domain.data, "nodes"):
            raise TTAError(f"domain {domain.label} is no section of CCC; build such streams with tta.ccc.make_ccc")
        index = torch.arange(len(domain.data))
        visit = Visit(torch.full_like(index, number), index)
        yield arranger.join(visit, Chance(arranger.seed, domain.label), domains)


ORDERS: dict[str, Order] = {
    "continual": continual,
    "gradual": gradual,
    "mixed": mixed,
    "recurring": recurring,
    "ccc": ccc,
}
#: The orders that take a number; the default is the published one.
NUMBERS = {"recurring": Number("a whole number of at least 1", 20, lambda times: times >= 1 and times % 1 == 0)}


def read_order(text: str) -> tuple[str, Order]:
    """The order of a name, or of a name and a number.

    Args:
        text: One of `ORDERS`; recurring may say how often: "recurring:3".

    Returns:
        Its one spelling, with the number; and the function from domains and arranger to visits.

    Raises:
        TTAError: No such order, or a number that does not fit.

    >>> read_order("recurring")[0]
    'recurring:20'
    """
    name, number = read(text, "order", ORDERS, NUMBERS)
    return write(name, number), ORDERS[name] if number is None else partial(ORDERS[name], times=number)
