"""Sparse audit labels (tier 3): the only tier that certifies harm, or benefit."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tta.errors import TTAError

#: Bets in the mixture: shares 2^-1 ... 2^-12 of the largest one possible.
_STAKES = tuple(2.0**-k for k in range(1, 13))


class Interval(NamedTuple):
    """An interval for a mean.

    Attributes:
        mean: Of the numbers.
        low: Lower end.
        high: Upper end.
        n: How many numbers.
    """

    mean: float
    low: float
    high: float
    n: int


class ConfidenceSequence:
    """Intervals for the mean of bounded numbers that hold all at once, at every moment, with probability 1 - alpha.

    What is covered after n numbers is the average of their n expected values, each given the past: these may change
    all the time, as they do on a stream. One may look after every number and stop when one likes.

    How: with X in [low, high], c = high - low, and a guess g of each X made before it is seen, for 0 < t < 1 / c
    exp(t (X - m) - psi(t) (X - g)^2) with psi(t) = (-log(1 - c t) - c t) / c^2 has an expected value of at most 1
    where m is that of X. The mean of the products over several t reaches 2 / alpha with probability alpha / 2 at most.

    Args:
        alpha: Probability that any of the intervals misses, from 0 to 1.
        low: Least value that a number can have.
        high: Greatest.

    Reference:
        Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
        Statistics 49, 2021, theorem 4 (empirical Bernstein, with a discrete mixture as the boundary); Waudby-Smith &
        Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86, 2024.
    """

    def __init__(self, alpha: float = 0.05, low: float = -1.0, high: float = 1.0) -> None:
        if not 0 < alpha < 1 or not low < high:
            raise TTAError(f"a confidence sequence needs 0 < alpha < 1 and low < high, got {alpha}, {low} and {high}")
        self.alpha, self.low, self.high = alpha, low, high
        #: How many numbers, their sum, and the sum of the squared distances from the guesses.
        self.n, self.sum, self.variance = 0, 0.0, 0.0

    def add(self, number: float) -> None:
        """Takes a number.

        Raises:
            TTAError: It is out of bounds.
        """
        if not self.low <= number <= self.high:
            raise TTAError(f"a number between {self.low:g} and {self.high:g} was expected, got {number}")
        guess = (self.sum + (self.low + self.high) / 2) / (self.n + 1)
        self.variance += (number - guess) ** 2
        self.sum += number
        self.n += 1

    def interval(self) -> Interval:
        """The present interval; everything is possible before the first number."""
        if self.n == 0:
            return Interval(math.nan, self.low, self.high, 0)
        mean, width = self.sum / self.n, self._width()
        return Interval(mean, max(self.low, mean - width), min(self.high, mean + width), self.n)

    def _width(self) -> float:
        """The distance from the mean at which the mixture of bets reaches 2 / alpha, by bisection."""
        span = self.high - self.low
        wanted = math.log(2 / self.alpha) + math.log(len(_STAKES))

        def capital(distance: float) -> float:
            logs = [
                s / span * distance - (-math.log(1 - s) - s) / span**2 * self.variance for s in _STAKES
            ]  # s / span is t
            top = max(logs)
            return top + math.log(sum(math.exp(v - top) for v in logs))

        near, far = 0.0, span * self.n
        if capital(far) < wanted:
            return span
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (middle, far) if capital(middle) < wanted else (near, middle)
        return far / self.n

    def state(self) -> dict[str, Any]:
        """What `set_state` takes."""
        return {"n": self.n, "sum": self.sum, "variance": self.variance}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.n, self.sum, self.variance = state["n"], state["sum"], state["variance"]


class Audit:
    """Compares adapter and source model on images whose labels came later, asked for at random.

    Cost: none but the labels. Guarantees, with probability 1 - alpha over all moments together: the adapter's error
    minus the source model's, averaged over the audited images' chances, lies in the interval. That speaks for the
    stream if the images to label are drawn at random; it speaks for the past, not for the next domain.

    Args:
        alpha: Probability that any statement ever made is wrong.
        latest: Answers that are kept to be audited.
    """

    tier = 3

    def __init__(self, alpha: float = 0.05, latest: int = 100_000) -> None:
        if latest < 1:
            raise TTAError(f"an audit keeps at least one answer, got latest={latest}")
        self.alpha, self.latest = alpha, latest
        self.memory: dict[str, Any] = {"answers": {}, "next": 0, "verdicts": 0, "labels": 0}
        self._sequence = ConfidenceSequence(self._alpha(0))

    def _alpha(self, verdicts: int) -> float:
        """After each verdict of harm a new sequence begins, with less: 6 / (pi k)^2 of alpha for the k-th."""
        return self.alpha * 6 / (math.pi * (verdicts + 1)) ** 2

    def number(self, count: int) -> range:
        """The numbers of new images."""
        first = self.memory["next"]
        self.memory["next"] = first + count
        return range(first, first + count)

    def note(self, ids: list[int], ours: list[int], theirs: list[int]) -> None:
        """Keeps the classes that the adapter and the source model have given to images."""
        answers = self.memory["answers"]
        answers.update(zip(ids, zip(ours, theirs, strict=True), strict=True))
        for old in list(answers)[: max(0, len(answers) - self.latest)]:
            del answers[old]

    def take(self, ids: list[int], labels: list[int]) -> Interval:
        """Takes labels. An image counts once; one that was not answered by both models, or too long ago, not at all.

        Returns:
            Error of the adapter minus that of the source model, as a share: harm is certified if `low` is above 0,
            benefit if `high` is below.
        """
        for number, label in zip(ids, labels, strict=True):
            answers = self.memory["answers"].pop(number, None)
            if answers is not None:
                ours, theirs = answers
                self._sequence.add(float(ours != label) - float(theirs != label))
                self.memory["labels"] += 1
        return self._sequence.interval()

    def begin_again(self) -> None:
        """After a verdict: the adapter is another one now."""
        self.memory["verdicts"] += 1
        self._sequence = ConfidenceSequence(self._alpha(self.memory["verdicts"]))

    def interval(self) -> Interval:
        """The present interval."""
        return self._sequence.interval()

    def state(self) -> dict[str, Any]:
        """What `set_state` takes."""
        memory = self.memory | {"answers": {number: list(pair) for number, pair in self.memory["answers"].items()}}
        return memory | {"sequence": self._sequence.state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.memory = {key: value for key, value in state.items() if key != "sequence"}
        self._sequence = ConfidenceSequence(self._alpha(self.memory["verdicts"]))
        self._sequence.set_state(state["sequence"])
