"""The arrangements of a stream: which images come one after another within a visit.

Real streams are seldom shuffled: what a camera sees now is likely what it saw a moment ago. An arrangement is a small
function from the labels of a visit's images to their sequence. All but the long-tailed one take every image once, so
that two arrangements differ in nothing but the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from corruptions.randomness import Keyed, image_keys
from tta.errors import TTAError
from tta.numbered import Number, read, write

#: As many slots as a Dirichlet arrangement has at most.
MOST_SLOTS = 100


@dataclass(frozen=True)
class Chance:
    """The randomness of one visit: a function of the seed of the stream, the name of the visit and its repeat.

    Attributes:
        seed: Of the stream.
        name: Of the visit: its domain's, or "mixed".
        repeat: Number of the visit among those of the same name.
    """

    seed: int
    name: str
    repeat: int = 0

    def keys(self, what: str, items: Tensor) -> Tensor:
        """One 64-bit key per item, int64, the shape of `items`."""
        return image_keys(self.seed, f"{what} of {self.name}", self.repeat, items)

    def permutation(self, n: int, what: str = "order") -> Tensor:
        """A permutation of 0 ... n - 1, int64, shape (n,)."""
        return torch.argsort(self.keys(what, torch.arange(n)), stable=True)

    def uniform(self, n: int, what: str) -> Tensor:
        """Numbers in [0, 1), float64, shape (n,)."""
        return Keyed(self.keys(what, torch.arange(n)), "cpu", torch.float64).uniform()

    def generator(self, what: str) -> np.random.RandomState:
        """A generator whose numbers numpy has promised to keep."""
        key = int(self.keys(what, torch.zeros(1, dtype=torch.int64))) & 0xFFFFFFFFFFFFFFFF
        return np.random.RandomState([key & 0xFFFFFFFF, key >> 32])


def shuffled(labels: Tensor, chance: Chance) -> Tensor:
    """Every image equally likely at every place."""
    return chance.permutation(len(labels))


def stored(labels: Tensor, chance: Chance) -> Tensor:
    """As the data set stores its images, as the published CIFAR10-C protocol has it."""
    return torch.arange(len(labels))


def sorted_by_class(labels: Tensor, chance: Chance) -> Tensor:
    """Class after class, in a random order of the classes, shuffled within each one.

    As the streams of LAME without a video (Boudiaf et al., CVPR 2022). Other benchmarks sort by ascending label.
    """
    classes = _classes(labels)
    order = shuffled(labels, chance)
    return order[torch.argsort(_places(chance, classes)[classes[order]], stable=True)]


def dirichlet(labels: Tensor, chance: Chance, concentration: float) -> Tensor:
    """Class-correlated: the images of each class are spread unevenly over the slots of the visit.

    The stream of RoTTA (Yuan et al., CVPR 2023), which TRIBE and PeTTA use too: there are as many slots as classes, 100
    at most; each class divides its images among them in shares drawn from a symmetric Dirichlet distribution; within a
    slot the classes come one after another in random order. A small concentration sends a class to one slot; with a
    large one every slot holds every class equally, and yet in runs of one class: of N / (slots x classes) images.

    Differs from NOTE (Gong et al., NeurIPS 2022) and the benchmark of Marsden & Doebler, which have as many slots as
    classes however many those are, let a slot that has its N / slots images take no further class, and draw again until
    every slot has ten images.
    """
    classes = _classes(labels)
    count = int(classes.max()) + 1
    slots = min(count, MOST_SLOTS)
    shares = _dirichlet(chance.generator("shares"), concentration, count, slots)
    order = shuffled(labels, chance)
    order = order[torch.argsort(classes[order], stable=True)]
    sizes = classes.bincount(minlength=count).numpy()
    cuts = np.rint(np.cumsum(shares, 1) * sizes[:, None]).astype(np.int64)
    cuts[:, -1] = sizes  # whatever the rounding of the sum
    ends = torch.from_numpy((cuts + (np.cumsum(sizes) - sizes)[:, None]).reshape(-1))
    run = torch.searchsorted(ends, torch.arange(len(labels)), right=True)  # class * slots + slot
    places = chance.permutation(count * slots, "runs")
    places = places[torch.argsort(places % slots, stable=True)]
    return order[torch.argsort(torch.argsort(places)[run], stable=True)]


def label_shift(labels: Tensor, chance: Chance, ratio: float) -> Tensor:
    """Online imbalanced label shift: class after class is `ratio` times as frequent as every other one.

    The streams of SAR (Niu et al., ICLR 2023, section 4.3) after Wu et al. (NeurIPS 2021): as many steps as classes, in
    a random order of the classes; at step t the class of t has the probability q_max = ratio / (ratio + K - 1), every
    other one q_min = q_max / ratio. Ratio 1 is shuffled, inf is sorted by class.

    Differs from SAR, which draws the images of each step independently with replacement (100,000 of the 50,000 of
    ImageNet-C): here every image comes once, at its class's step with probability q_max, else at any other step.
    The expected share of every class at every step is the same, if the classes are equally large.
    """
    classes = _classes(labels)
    count = int(classes.max()) + 1
    own = _places(chance, classes)[classes]
    q_min = 1 / (ratio + count - 1)
    u = chance.uniform(len(labels), "steps")
    # [0, (K - 1) q_min) holds the other steps, an equal part for each; the rest is the class's own
    away = u < (count - 1) * q_min
    other = (u / q_min).floor().long().clamp(max=count - 2) if count > 1 and q_min > 0 else own
    step = torch.where(away, other + (other >= own), own)
    order = shuffled(labels, chance)
    return order[torch.argsort(step[order], stable=True)]


def long_tailed(labels: Tensor, chance: Chance, ratio: float) -> Tensor:
    """Some of the images, shuffled: the sizes of the classes fall exponentially from the largest to 1 / `ratio` of it.

    The k-th of K classes keeps n ratio^(-k / (K - 1)) of its images (Cui et al., CVPR 2019), as many as the data have,
    at least one. Which class is frequent is a matter of the seed, the same in all visits. In published streams (TRIBE,
    Su et al., AAAI 2024) the sizes fall with the number of the class.
    """
    names, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    ranks = torch.argsort(torch.argsort(Chance(chance.seed, "the stream").keys("tail", names), stable=True))
    shares = ratio ** (-ranks.double() / max(len(names) - 1, 1))
    # the largest prior of this form that the data can fill
    kept = ((sizes / shares).min() * shares + 1e-9).floor().long().clamp(min=1)
    order = shuffled(labels, chance)
    by_class = torch.argsort(classes[order], stable=True)
    place = torch.empty_like(by_class)  # of each image among those of its class
    place[by_class] = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    chosen = order[place < kept[classes[order]]]
    return chosen[chance.permutation(len(chosen), "chosen")]  # the first of rare classes are all early in the order


def _classes(labels: Tensor) -> Tensor:
    """Labels as numbers from 0 without gaps."""
    return labels.unique(return_inverse=True)[1]


def _places(chance: Chance, classes: Tensor) -> Tensor:
    """Place of each class in a random order of them."""
    return chance.permutation(int(classes.max()) + 1, "classes")


def _dirichlet(random: np.random.RandomState, concentration: float, rows: int, columns: int) -> np.ndarray:
    """Rows drawn from a symmetric Dirichlet distribution, however small its concentration.

    A gamma variable of shape a is one of shape a + 1 times U^(1/a): its logarithm does not underflow.
    """
    logs = np.log(random.standard_gamma(concentration + 1, (rows, columns)))
    logs += np.log(1 - random.random_sample((rows, columns))) / concentration
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


ARRANGEMENTS: dict[str, Callable[..., Tensor]] = {
    "shuffled": shuffled,
    "stored": stored,
    "sorted": sorted_by_class,
    "dirichlet": dirichlet,
    "label_shift": label_shift,
    "long_tailed": long_tailed,
}
#: The arrangements that take a number; the defaults are the published ones.
NUMBERS = {
    "dirichlet": Number("a positive concentration", 0.1, lambda a: 0 < a < math.inf),
    "label_shift": Number("a ratio of at least 1, or inf", math.inf, lambda ratio: ratio >= 1),
    "long_tailed": Number("a ratio of at least 1", 100.0, lambda ratio: 1 <= ratio < math.inf),
}


@dataclass(frozen=True)
class Arrangement:
    """An arrangement and its number.

    Attributes:
        name: One of `ARRANGEMENTS`.
        number: Concentration or ratio; None for an arrangement without.
    """

    name: str
    number: float | None = None

    @staticmethod
    def read(text: str) -> Arrangement:
        """From NAME or NAME:NUMBER.

        Raises:
            TTAError: No such arrangement, or a number that does not fit.

        >>> Arrangement.read("dirichlet:0.5")
        Arrangement(name='dirichlet', number=0.5)
        """
        return Arrangement(*read(text, "arrangement", ARRANGEMENTS, NUMBERS))

    def __str__(self) -> str:
        return write(self.name, self.number)

    @property
    def by_class(self) -> bool:
        """Whether the sequence depends on the labels."""
        return self.name not in ("shuffled", "stored")

    def sequence(self, labels: Tensor, chance: Chance) -> Tensor:
        """The positions of a visit's images, one after another.

        Args:
            labels: Classes, int64, shape (n,).
            chance: The visit's randomness.

        Returns:
            int64, shape (m,): a permutation of 0 ... n - 1, or a part of one if it is long-tailed.

        Raises:
            TTAError: The labels are maps, and the arrangement goes by the class of an image.
        """
        if labels.ndim > 1 and self.by_class:
            raise TTAError(
                f"{self} arranges images by their class, and label maps have none; choose shuffled or stored"
            )
        numbers = () if self.number is None else (self.number,)
        return ARRANGEMENTS[self.name](labels, chance, *numbers)
