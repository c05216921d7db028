"""A judge: learned from images with labels, tells without labels by how much one model errs less than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tta.guard.contradictions import OF_BATCH, OF_IMAGE, contradictions, describe

#: Descriptions further from their mean than so many deviations count as so far: nothing was learned beyond.
FAR = 4.0
#: Ridge, as a share of the number of descriptions.
RIDGE = 0.01
#: Groups that are left out one after another, to see how far off the judge is on shifts that it has not seen.
FOLDS = 4
#: Numbers that a judge is given of an image: the description, and products (`_widened`).
INPUTS = OF_IMAGE + 5 * OF_BATCH + 2
#: Points: no judge is better than that.
LEAST_DOUBT = 1.0
#: Share of the visits to shifts left out in which a judge is off by less than its doubt.
SURE_OF = 0.9


class Kind(NamedTuple):
    """A kind of stream: what is learned of one is not asked about another.

    Attributes:
        size: Of its batches.
        ordered: Whether images of a class come together.
    """

    size: int
    ordered: bool


class Record(NamedTuple):
    """What two models have said to a batch whose classes are known.

    Attributes:
        seen: Descriptions of the images that they contradict each other about, (n, 16), float64 on the CPU.
        won: Of these: 1 if the adapter is right, -1 if the source model is, 0 if neither, (n,).
        shift: Number of the shift that each of them is under, (n,).
        counts: Images of the batch under each shift, (S,).
        stream: Number of the stream that the batch belongs to.
        kind: Of that stream.
    """

    seen: Tensor
    won: Tensor
    shift: Tensor
    counts: Tensor
    stream: int
    kind: Kind

    @classmethod
    def of(
        cls,
        ours: Tensor,
        theirs: Tensor,
        labels: Tensor,
        appearance: Tensor,
        shift: Tensor,
        shifts: int,
        stream: int,
        kind: Kind,
    ) -> Record:
        """A record of logits (B, K), labels (B,), and the shift that each image is under, (B,), of so many."""
        apart = contradictions(ours, theirs)
        won = (ours.argmax(1) == labels).double() - (theirs.argmax(1) == labels).double()
        seen = describe(ours, theirs, appearance)[apart].double().nan_to_num(0, FAR, -FAR)
        counts = torch.bincount(shift, minlength=shifts)
        return cls(seen.cpu(), won[apart].cpu(), shift[apart.cpu()], counts, stream, kind)


class Regression(NamedTuple):
    """Linear regression from the description of an image to who is right about it, for one kind of stream.

    Attributes:
        mean: Of the inputs, (INPUTS,).
        scale: Their deviations.
        weights: The constant, and one for each input, (INPUTS + 1,).
        doubt: Points by which too much is expected of the adapter over a visit to a shift that was not learned from; in
            90 of 100 visits it is less.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    doubt: float = LEAST_DOUBT

    def expected(self, seen: Tensor) -> Tensor:
        """What is expected of images that are contradicted, from -1 (the source model is right) to 1, (n,)."""
        mean, scale, weights = (part.to(seen.device) for part in self[:3])
        inputs = ((_widened(seen) - mean) / scale).clamp(-FAR, FAR)
        return (inputs @ weights[1:] + weights[0]).clamp(-1, 1)

    @classmethod
    def fitted(cls, records: Sequence[Record], used: Tensor) -> Regression:
        """The regression on the shifts that are used, bool, (S,)."""
        seen, won = (torch.cat([getattr(r, key)[used[r.shift]] for r in records]) for key in ("seen", "won"))
        inputs = _widened(seen)
        width = inputs.shape[1]
        if len(seen) < 2:  # the models do not contradict each other
            zeros = torch.zeros(width + 1, dtype=torch.float64)
            return cls(zeros[1:], torch.ones(width, dtype=torch.float64), zeros)
        mean, scale = inputs.mean(0), inputs.std(0).clamp(min=1e-6)
        inputs = ((inputs - mean) / scale).clamp(-FAR, FAR)
        middle = inputs.mean(0)
        inputs = inputs - middle
        ridge = RIDGE * len(inputs) * torch.eye(width, dtype=torch.float64)
        weights = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (won - won.mean()))
        return cls(mean, scale, torch.cat([(won.mean() - middle @ weights)[None], weights]))

    def missed(self, own: Record) -> Tensor:
        """What is expected too much of each shift's images, and how much of its square is chance, (2, S)."""
        missed, counts = self.expected(own.seen) - own.won, own.counts.clamp(min=1)
        sums = [
            torch.zeros(len(counts), dtype=torch.float64).index_add(0, own.shift, values) / counts**power
            for power, values in ((1, missed), (2, missed.square()))
        ]
        return torch.stack(sums)

    @classmethod
    def learned(cls, records: Sequence[Record]) -> Regression:
        """The regression on all shifts, and how far off it is on some that are left out."""
        folds, off = torch.arange(len(records[0].counts)) % FOLDS, list[Tensor]()
        for fold in folds.unique():
            part = cls.fitted(records, folds != fold)
            off += [part.missed(own)[:, (folds == fold) & (own.counts > 0)] for own in _by_stream(records)]
        doubt = max(LEAST_DOUBT, 100 * _doubt(torch.cat(off, 1)))
        return cls.fitted(records, folds >= 0)._replace(doubt=doubt)


class Judge:
    """Tells by how many points the adapter errs less, from what can be seen without labels.

    Images that both models give the same class make no difference; of the others each is worth +1, -1 or 0, and what is
    expected of that, summed over a batch, is the difference of the errors. The regression is on the description, the
    products of the numbers of the image with those of the batch, and two more; there is one for each kind of stream
    that was rehearsed, and the one whose batches are of the nearest size is asked.

    Args:
        parts: The regression of each kind.
    """

    def __init__(self, parts: dict[Kind, Regression]) -> None:
        self.parts = parts

    @classmethod
    def learn(cls, records: Sequence[Record]) -> Judge:
        """Learns from records."""
        kinds = sorted({record.kind for record in records})
        return cls({kind: Regression.learned([r for r in records if r.kind == kind]) for kind in kinds})

    def gain(self, ours: Tensor, theirs: Tensor, appearance: Tensor, ordered: bool) -> float:
        """By how many points the adapter is expected to err less over a batch; the host waits for this number.

        Args:
            ours: The adapter's logits, (B, K).
            theirs: The source model's.
            appearance: Of the batch, see `Style.describe`.
            ordered: Whether images of a class come together in the stream.
        """
        seen = describe(ours, theirs, appearance).double().nan_to_num(0, FAR, -FAR)
        won = self.part(len(ours), ordered).expected(seen) * contradictions(ours, theirs)
        return 100 * float(won.mean())

    def doubt(self, size: int, ordered: bool) -> float:
        """Points by which it may expect too much of the adapter, for batches of this size."""
        return self.part(size, ordered).doubt

    def part(self, size: int, ordered: bool) -> Regression:
        """The regression that is asked about such a stream."""
        near = min(self.parts, key=lambda kind: (kind.ordered != ordered, abs(math.log(kind.size / max(size, 1)))))
        return self.parts[near]

    def state(self) -> list[Any]:
        """What `of_state` takes."""
        return [[list(kind), list(part)] for kind, part in self.parts.items()]

    @classmethod
    def of_state(cls, state: list[Any]) -> Judge:
        """The judge of a state."""
        return cls({Kind(*kind): Regression(*part) for kind, part in state})


def _widened(seen: Tensor) -> Tensor:
    """The descriptions with products, (n, INPUTS)."""
    image, batch = seen.split((OF_IMAGE, OF_BATCH), 1)
    ours, theirs_of_us, us_of_theirs, theirs, *unsure = image.unbind(1)
    products = [one[:, None] * batch for one in (ours, theirs, *unsure)]
    return torch.cat([seen, *products, (ours * theirs)[:, None], (theirs_of_us * us_of_theirs)[:, None]], 1)


def _doubt(missed: Tensor) -> float:
    """What 90 of 100 visits stay below; the part that is chance, as visits have few images, is taken out.

    At most half of it: where nearly all seems to be chance the rest is not known well.
    """
    over, chance = missed
    real = (1 - chance.mean() / over.square().mean().clamp(min=1e-12)).clamp(min=0.25).sqrt()
    return float(over.quantile(SURE_OF) * real)


def _by_stream(records: Sequence[Record]) -> list[Record]:
    """All records of each stream as one."""
    found = []
    for stream in sorted({record.stream for record in records}):
        own = [record for record in records if record.stream == stream]
        seen, won, shift = (torch.cat([getattr(record, key) for record in own]) for key in ("seen", "won", "shift"))
        counts = torch.stack([record.counts for record in own]).sum(0)
        found.append(Record(seen, won, shift, counts, stream, own[0].kind))
    return found
