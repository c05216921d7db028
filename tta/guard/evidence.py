"""Evidence that may be looked at at any time: bets against a hypothesis, which Ville's inequality keeps honest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence


class Bets:
    """Capital that bets on numbers which have a mean of at most (or exactly) 0 under the hypothesis.

    The capital is spread over several stakes; a small part of it is spread anew with every number, so that a change
    that comes late is found too. Under the hypothesis it never reaches 1 / alpha with a probability of more than alpha,
    however long and often one looks.

    Args:
        stakes: Factors s with 1 + s * number > 0 for every number that can come; positive ones bet on a mean above 0.
        alpha: Probability of a false alarm, ever.
        jump: Part of the capital that is spread anew with every number.
        capital: Of earlier bets, to go on with; changed in place.

    Reference:
        Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection", COPA 2021 (the
        simple jumper); Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", 2023.
    """

    def __init__(
        self, stakes: Sequence[float], alpha: float, capital: list[float] | None = None, jump: float = 0.001
    ) -> None:
        self.stakes, self.alpha, self.jump = [0.0, *stakes], alpha, jump
        self.capital = [1 / len(self.stakes)] * len(self.stakes) if capital is None else capital

    @property
    def alarm(self) -> bool:
        """Whether the capital is at 1 / alpha."""
        return sum(self.capital) >= 1 / self.alpha

    def bet(self, numbers: Iterable[float]) -> bool:
        """Takes numbers one after another until there is an alarm, and tells whether there is."""
        for number in numbers:
            if self.alarm:
                return True
            share = self.jump * sum(self.capital) / len(self.stakes)
            self.capital[:] = [
                ((1 - self.jump) * c + share) * (1 + s * number) for c, s in zip(self.capital, self.stakes, strict=True)
            ]
        return self.alarm


class ConformalBins:
    """Numbers to p-values that are uniform and independent as long as all numbers are exchangeable.

    A number's p-value is its rank among all before it, the reference first, where numbers of one bin count as equal and
    chance decides among equals. Only the counts of the bins are kept.

    Args:
        edges: Lower edges of all bins but the first, ascending.
        counts: Numbers so far in every bin; changed in place.

    Reference:
        Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005, section 7.1 (smoothed p-values).
    """

    def __init__(self, edges: Sequence[float], counts: list[int]) -> None:
        self.edges, self.counts = edges, counts

    @classmethod
    def of(cls, reference: Sequence[float], bins: int = 32) -> ConformalBins:
        """Bins that hold equal shares of the reference: half of it makes the edges, the other half is counted."""
        ordered = sorted(reference[::2])
        edges = sorted({ordered[len(ordered) * k // bins] for k in range(1, bins)})
        made = cls(edges, [0] * (len(edges) + 1))
        for number in reference[1::2]:
            made.counts[made._bin(number)] += 1
        return made

    def p_value(self, number: float, chance: float) -> float:
        """The p-value of the next number, small for large numbers; `chance` is uniform on [0, 1]."""
        place = self._bin(number)
        above, total = sum(self.counts[place + 1 :]), sum(self.counts) + 1
        self.counts[place] += 1
        return (above + chance * self.counts[place]) / total

    def _bin(self, number: float) -> int:
        return bisect_right(self.edges, number)
