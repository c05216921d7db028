"""Label-free alarms (tier 1). Each has a false-alarm rate that holds for ever, for a hypothesis that it states.

None of them says anything about errors: a model may be wrong without any alarm, and right under all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tta.errors import TTAError
from tta.features import classifier
from tta.guard.check import Action, Check, Look, Reference
from tta.guard.evidence import Bets, ConformalBins
from tta.objectives import entropy


class EntropyShift(Check):
    """Tells that the source model's entropies no longer have the law that they have on source data: a shift.

    A conformal test martingale on the source model's entropies. Cost: a sort of 64 numbers on the host, and the source
    model's answers. Hypothesis: the images looked at are exchangeable with the source data given; then the probability
    of a false alarm is at most alpha, ever. An alarm says that something has changed, not that the adapter harms.

    Args:
        alpha: Probability of a false alarm, ever.
        action: What follows.
        seed: Of the chance that decides among equal entropies.

    Reference:
        Bar, Shaer & Romano, "Protected test-time adaptation via online entropy matching: a betting approach" (POEM),
        NeurIPS 2024; Vovk et al., 2021. Here ranks among all numbers so far replace the source's distribution function,
        so that a finite sample of source data does no harm to the guarantee.
    """

    name = "entropy_shift"
    asks_source = needs_data = True
    stakes = (-1.8, -0.9, 0.9, 1.8)

    def __init__(self, alpha: float = 0.01, action: Action = "note", seed: int = 0) -> None:
        super().__init__()
        self.alpha, self.action, self.seed = _checked(alpha), action, seed
        self.generator = torch.Generator()

    def begin(self, reference: Reference) -> None:
        """Learns the source's law."""
        assert reference.logits is not None
        bins = ConformalBins.of(entropy(reference.logits).tolist())
        self.edges, self.generator = bins.edges, self.generator.manual_seed(self.seed)
        capital = Bets(self.stakes, self.alpha).capital
        self.memory = {"counts": bins.counts, "capital": capital, "generator": self.generator.get_state()}

    def object(self, look: Look) -> str | None:
        """See the class."""
        if look.source is None:
            return None
        bins = ConformalBins(self.edges, self.memory["counts"])
        bets = Bets(self.stakes, self.alpha, self.memory["capital"])
        self.generator.set_state(self.memory["generator"])
        values = entropy(look.source.float()).tolist()
        chances = torch.rand(len(values), generator=self.generator).tolist()
        self.memory["generator"] = self.generator.get_state()
        was = bets.alarm
        alarm = bets.bet([0.5 - bins.p_value(v, u) for v, u in zip(values, chances, strict=True)])
        self.value = sum(bets.capital)
        return "the source model's entropies have changed" if alarm and not was else None


class Concentration(Check):
    """Tells that the adapter drifts towards one class where the source model does not: collapse, not label shift.

    Of the images whose adapter's answer or source's answer (not both) is the adapter's favourite class, the share that
    the adapter claims is tested. Where the stream itself is skewed, both claim the class, and nothing is counted: that
    is the class-skew test. Cost: none beside the source's answers. Hypothesis: given the past, a counted image is the
    adapter's with a probability of at most `share`; then a false alarm has a probability of at most alpha, ever.

    Args:
        alpha: Probability of a false alarm, ever; after a reset it begins anew.
        share: Tolerated share of the adapter; one half would be no tendency at all.
        action: What follows.
    """

    name = "concentration"
    asks_source = True

    def __init__(self, alpha: float = 0.01, share: float = 0.8, action: Action = "reset") -> None:
        super().__init__()
        if not 0 < share < 1:
            raise TTAError(f"concentration: share is between 0 and 1, got {share}")
        self.alpha, self.share, self.action = _checked(alpha), share, action
        self.restart()

    def restart(self) -> None:
        """Begins anew."""
        self.memory = {"counts": [], "capital": Bets(self._stakes(), self.alpha).capital}

    def _stakes(self) -> list[float]:
        return [0.3 / self.share, 0.6 / self.share, 0.9 / self.share]

    def object(self, look: Look) -> str | None:
        """See the class."""
        if look.source is None:
            return None
        classes = look.logits.shape[1]
        counts = self.memory["counts"] or [0] * classes
        ours, theirs = look.logits.argmax(1), look.source.argmax(1)
        favourite = counts.index(max(counts))  # of the past: this batch has no say
        one = ((ours == favourite) != (theirs == favourite)).tolist()
        claimed = (ours == favourite).tolist()
        bets = Bets(self._stakes(), self.alpha, self.memory["capital"])
        if any(counts):
            bets.bet(float(mine) - self.share for mine, counted in zip(claimed, one, strict=True) if counted)
        now = torch.bincount(ours.cpu(), minlength=classes).tolist()
        counts = [0.9 * old + new for old, new in zip(counts, now, strict=True)]
        self.value = max(counts) / sum(counts)
        self.memory["counts"] = counts
        return f"the adapter's answers concentrate on class {favourite}" if bets.alarm else None


class Flips(Check):
    """Tells that the adapter contradicts the source model on more than a tolerated share of the images.

    Cost: none beside the source's answers. Hypothesis: given the past, the probability of a contradiction is at most
    `tolerated`; then a false alarm has a probability of at most alpha, ever. Under a hard shift a good adapter must
    contradict a bad source model, on 70 to 80 % of the images under the hardest corruptions: a low limit forbids it.

    Args:
        tolerated: Share of the images.
        alpha: Probability of a false alarm, ever; after a reset it begins anew.
        action: What follows.
    """

    name = "flips"
    asks_source = True

    def __init__(self, tolerated: float = 0.85, alpha: float = 0.01, action: Action = "reset") -> None:
        super().__init__()
        if not 0 < tolerated < 1:
            raise TTAError(f"flips: tolerated is a share between 0 and 1, got {tolerated}")
        self.tolerated, self.alpha, self.action = tolerated, _checked(alpha), action
        self.restart()

    def restart(self) -> None:
        """Begins anew."""
        self.memory = {"capital": Bets(self._stakes(), self.alpha).capital}

    def _stakes(self) -> list[float]:
        return [0.3 / self.tolerated, 0.6 / self.tolerated, 0.9 / self.tolerated]

    def object(self, look: Look) -> str | None:
        """See the class."""
        if look.source is None:
            return None
        flips = (look.logits.argmax(1) != look.source.argmax(1)).float()
        self.value = float(flips.mean())
        bets = Bets(self._stakes(), self.alpha, self.memory["capital"])
        alarm = bets.bet(flip - self.tolerated for flip in flips.tolist())
        return f"more than {100 * self.tolerated:.0f} % of the answers contradict the source model's" if alarm else None


class EstimatedError(Check):
    """The error that disagreement under dropout suggests, AETTA's estimate. A gauge: it can be far off.

    Estimate: the share of the images whose class changes under dropout on the features, over (H / log K)^3 where H is
    the entropy of the mean prediction, at most 1 - 1 / K; smoothed. Cost: ten passes through the classifier alone.
    Guarantees nothing, neither an error nor a false-alarm rate.

    Args:
        limit: Estimated error from which on it objects.
        action: What follows.
        heads: Passes with dropout.
        rate: Share of the features that are dropped.

    Reference:
        Lee et al., "AETTA: label-free accuracy estimation for test-time adaptation", CVPR 2024. Differs: dropout only
        in front of the classifier; smoothing with 0.6 for the past as in the published code.
    """

    name = "estimated_error"

    def __init__(
        self, limit: float = 0.95, action: Action = "note", heads: int = 10, rate: float = 0.4, seed: int = 0
    ) -> None:
        super().__init__()
        if heads < 1 or not 0 < rate < 1:
            raise TTAError(f"estimated_error: heads is at least 1 and rate between 0 and 1, got {heads} and {rate}")
        self.limit, self.action, self.heads, self.rate = limit, action, heads, rate
        self.generator = torch.Generator().manual_seed(seed)
        self.memory = {"error": None, "generator": self.generator.get_state()}

    def restart(self) -> None:
        """Begins anew."""
        self.memory["error"] = None

    def object(self, look: Look) -> str | None:
        """See the class."""
        if look.features is None:
            return None
        self.generator.set_state(self.memory["generator"])
        shape = (self.heads, *look.features.shape)
        keep = (torch.rand(shape, generator=self.generator) >= self.rate).to(look.features) / (1 - self.rate)
        with torch.no_grad():
            views = classifier(look.adapter.network)(look.features * keep)
        now = estimated_error(look.logits, views)
        old = self.memory["error"]
        self.value = now if old is None else 0.6 * old + 0.4 * now
        self.memory = {"error": self.value, "generator": self.generator.get_state()}
        return f"the estimated error is {100 * self.value:.0f} %" if self.value > self.limit else None


def estimated_error(logits: Tensor, views: Tensor) -> float:
    """AETTA's estimate of one batch, a share from 0 to 1 - 1 / K.

    Args:
        logits: Answers, (B, K).
        views: Answers under dropout, (V, B, K).
    """
    classes = logits.shape[1]
    disagreement = (views.argmax(2) != logits.argmax(1)).float().mean()
    mean = views.float().softmax(2).mean((0, 1))
    evenness = -(mean * mean.clamp(min=1e-12).log()).sum() / torch.tensor(float(classes)).log()
    return float((disagreement / evenness.clamp(min=1e-6) ** 3).clamp(max=1 - 1 / classes))


def _checked(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise TTAError(f"alpha is a probability between 0 and 1, got {alpha}")
    return alpha


def alarms(alpha: float = 0.01) -> Sequence[Check]:
    """The alarms of the default guard, their false-alarm rates alpha in all."""
    return (EntropyShift(alpha / 3), Concentration(alpha / 3), Flips(alpha=alpha / 3), EstimatedError())
