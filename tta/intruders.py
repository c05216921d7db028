"""Intruders: images mixed into a stream that nobody is scored on.

A deployed model is shown more than what it was made for: noise, pictures of something else, and the images of users who
want it to fail for everybody else. It adapts to them like to any other image; what counts are its answers to the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from corruptions.randomness import Keyed, image_keys
from tta.arrangements import Chance
from tta.data.images import positions, sha256
from tta.errors import TTAError
from tta.numbered import write
from tta.streams import Domain

if TYPE_CHECKING:
    from tta.orders import Visit

#: Intruders begin at a multiple of so many of their images, those that are poisoned together.
BLOCK = 64
NOISES = ("noise", "noise_gaussian")


@dataclass(frozen=True)
class Intruders:
    """Which images are mixed into every visit, and how many.

    They are spread evenly at random. Published streams have whole batches of them, every other one at a share of one
    half; here no batch knows of its size.

    Attributes:
        name: What they are, for tables: "noise".
        share: Of all images of a visit, between 0 and 1, rounded to whole images.
        domains: Where they come from, not scored: one domain for all visits; or one for each domain of the stream, the
            images of which come where that domain's do.

    Raises:
        TTAError: A share that is none; no images; domains that are scored.
    """

    name: str
    share: float
    domains: tuple[Domain, ...]

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise TTAError(f"the share of intruders is {self.share:g}; give a number between 0 and 1")
        if not self.domains:
            raise TTAError(f"the intruders {self.name} need at least one domain that they come from")
        for domain in self.domains:
            if domain.scored:
                raise TTAError(f"intruders come from domain {domain.label}, which is scored; make it with scored=False")
            if not len(domain.data):
                raise TTAError(f"intruders come from domain {domain.label}, which has no images")

    def __str__(self) -> str:
        return write(self.name, self.share)

    def count(self, images: int) -> int:
        """How many of them come with so many other images.

        >>> Intruders("noise", 0.2, (noise_domain((3, 8, 8)),)).count(100)
        25
        """
        return round(images * self.share / (1 - self.share))

    def join(self, visit: Visit, chance: Chance, scored: int) -> tuple[Tensor, Tensor]:
        """A visit with intruders in it; the other images keep their sequence.

        Args:
            visit: Without intruders.
            chance: Its randomness.
            scored: Number of the first intruding domain: as many as the stream has others.

        Returns:
            Domain and index of each image, int64, shape (n,).
        """
        count = self.count(len(visit.index))
        inside = chance.permutation(len(visit.index) + count, "intruders") < count
        domain, index = torch.empty_like(inside, dtype=torch.int64), torch.empty_like(inside, dtype=torch.int64)
        domain[~inside], index[~inside] = visit.domain, visit.index
        company = visit.domain[((~inside).cumsum(0) - 1).clamp(min=0)[inside]]  # the domain of the image before
        source = company if len(self.domains) > 1 else torch.zeros_like(company)
        domain[inside] = source + scored
        for number in source.unique().tolist():
            here = domain == number + scored
            index[here] = self._images(number, int(here.sum()), chance)
        return domain, index

    def _images(self, number: int, count: int, chance: Chance) -> Tensor:
        """So many images of a domain that follow each other in its fixed random sequence, from a keyed one on."""
        sequence = fixed_sequence(len(self.domains[number].data))
        blocks = -(-len(sequence) // BLOCK)
        start = chance.keys("first intruder", torch.tensor([number])) % blocks * BLOCK
        return sequence[(start + torch.arange(count)) % len(sequence)]


@lru_cache(maxsize=8)
def fixed_sequence(n: int) -> Tensor:
    """The one sequence in which n images intrude, whatever the seed: those poisoned together come together."""
    return Chance(0, "intruders").permutation(n)


class Noise:
    """Images of nothing, made when they are asked for: every value independent of every other one.

    Args:
        shape: (C, H, W).
        kind: "noise", uniform over all grey values as in SoTTA (Gong et al., NeurIPS 2023); or "noise_gaussian", of
            mean 1/2 and standard deviation 1/4, clipped, as normalised photographs have it.
        seed: Of the noise.
        count: How many there are.
    """

    def __init__(self, shape: tuple[int, int, int], kind: str = "noise", seed: int = 0, count: int = 100_000) -> None:
        if kind not in NOISES:
            raise TTAError(f"there is no {kind!r}; choose from {', '.join(NOISES)}")
        self.shape, self.name, self.seed, self.count = shape, kind, seed, count
        self.fingerprint = sha256(f"{kind} {shape} {seed} {count}".encode())

    def __len__(self) -> int:
        return self.count

    @property
    def labels(self) -> Tensor:
        """-1 for every image."""
        return torch.full((self.count,), -1)

    def images(self, index: Tensor) -> Tensor:
        """The images at some positions, uint8, shape (B, C, H, W)."""
        draw = Keyed(image_keys(self.seed, self.name, 0, positions(index, self.count)), "cpu")
        if self.name == "noise":
            return draw.integers(*self.shape, low=0, high=256, dtype=torch.uint8)
        return draw.normal(*self.shape).mul_(255 / 4).add_(255 / 2).round_().clamp_(0, 255).to(torch.uint8)


def noise_domain(shape: tuple[int, int, int], kind: str = "noise", seed: int = 0) -> Domain:
    """A domain of noise that nobody is scored on."""
    return Domain(kind, 0, Noise(shape, kind, seed), scored=False)
