"""A rehearsal: adapter and source model meet shifts whose answers are known, before they meet those of the stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

import corruptions
from tta.adapter import Adapter
from tta.arrangements import Arrangement, Chance
from tta.errors import TTAError
from tta.guard.judge import Judge, Kind, Record
from tta.guard.style import Style
from tta.source_data import SourceData

#: Severities of the shifts, in turns.
SEVERITIES = (5, 2, 4)
#: How images of a class come together.
CORRELATED = Arrangement.read("dirichlet:0.1")
#: Numbers of classes in batches of few classes, one as likely as the other.
CLASSES = (1, 2, 3, 1, 2, 5)


class Batch(NamedTuple):
    """Images that are rehearsed, (B, C, H, W), uint8; their classes, (B,), and the numbers of their shifts, (B,)."""

    images: Tensor
    labels: Tensor
    shift: Tensor


def _usual() -> tuple[str, ...]:
    """Corruptions of several kinds; the common ones of ImageNet-C are left for benchmarks."""
    suites = (corruptions.HOLDOUT, corruptions.BAR, corruptions.CIFAR_BAR, corruptions.OURS)
    return tuple(dict.fromkeys(name for suite in suites for name in suite))


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed: labelled source images under corruptions, in several orders and sizes of batches.

    In batches of `sizes[0]`: one shift after another; all mixed; and, with images of a class together, one shift after
    another in Dirichlet's order (0.1), and in batches of one to five classes, as long runs of a class make them. In
    smaller ones all but Dirichlet's order, with a quarter of the images. The adapter begins each of these streams
    anew, and learns on the way as it will later, so that the judge sees it early and late, where it gains, and where it
    fails.

    Cost: for N shifts, `images` each, about 4.75 N images through the adapter and the source model, once, before the
    first answer; the adapter is then reset. Memory: these images under all shifts, 8 bits a value.

    Attributes:
        images: Of each shift.
        sizes: Of batches.
        shifts: Names of corruptions, at least four.
        seed: Of everything random.

    Raises:
        TTAError: Numbers that make no rehearsal, or no such corruption.
    """

    images: int = 96
    sizes: tuple[int, ...] = (64, 8)
    shifts: tuple[str, ...] = field(default_factory=_usual)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 2 or not self.sizes or min(self.sizes) < 1 or len(self.shifts) < 4:
            raise TTAError(
                "a rehearsal takes at least 2 images of at least 4 shifts, in batches of at least 1; got"
                f" {self.images}, {len(self.shifts)} and {self.sizes}"
            )
        for name in self.shifts:
            corruptions.get(name)

    @torch.no_grad()
    def judge(self, adapter: Adapter, source: nn.Module, data: SourceData, style: Style) -> Judge:
        """Rehearses, and learns to judge.

        Args:
            adapter: As it was made; it is as it was afterwards.
            source: The frozen source model.
            data: Labelled source images.
            style: Of these.

        Raises:
            TTAError: Images that corruptions do not know, or an adapter that answers none of them.
        """
        if data.images.shape[1] not in (1, 3):
            raise TTAError(
                f"a rehearsal knows images of 1 or 3 channels, not {data.images.shape[1]}: pass a guard without choice"
            )
        like = next((t for t in (*source.parameters(), *source.buffers()) if t.is_floating_point()), torch.zeros(()))
        records = list[Record]()
        for number, (kind, batches) in enumerate(self._streams(data)):
            adapter.reset()
            met = [one for batch in batches if (one := _met(adapter, source, style, batch, like)) is not None]
            records += self._records(met, number, kind)
        adapter.reset()
        if not records:
            raise TTAError("the adapter gives no finite answer to any image of the rehearsal: it is of no use here")
        return Judge.learn(records)

    def _streams(self, data: SourceData) -> Iterator[tuple[Kind, Iterable[Batch]]]:
        """Of every stream its kind and its batches."""
        generator, labels = torch.Generator().manual_seed(self.seed), data.needed_labels("a rehearsal").cpu()
        drawn = (torch.randperm(len(labels), generator=generator)[: self.images] for _ in range(len(self.shifts) + 1))
        visits = [self._under(number, data, index) for number, index in enumerate(drawn)]
        generator.manual_seed(self.seed + 1)
        sequence = torch.randperm(len(visits), generator=generator).tolist()
        for size in self.sizes:
            first = size == self.sizes[0]
            count = len(visits[0].labels) if first else max(2, len(visits[0].labels) // 4)
            used = [Batch(*(part[:count] for part in visits[number])) for number in sequence]
            yield Kind(size, False), _split(used, size)
            together = Batch(*(torch.cat(parts) for parts in zip(*used, strict=True)))
            mixed = torch.randperm(len(together.labels), generator=generator)
            yield Kind(size, False), _split([Batch(*(part[mixed] for part in together))], size)
            if first:
                yield Kind(size, True), _split([self._by_class(visit) for visit in used], size)
            alike = (self._under(number, data, _few_classes(labels, count, size, generator)) for number in sequence)
            yield Kind(size, True), _split(alike, size)

    def _under(self, number: int, data: SourceData, index: Tensor) -> Batch:
        """Source images under a shift; number 0 is none."""
        clean, labels = data.take(index, torch.zeros((), device=data.images.device))
        severity, places = SEVERITIES[number % len(SEVERITIES)], torch.arange(len(index))
        seen = clean
        if number:
            seen = corruptions.corrupt(clean, self.shifts[number - 1], severity, seed=self.seed, index=places)
        images = (seen * 255).round().clamp(0, 255).to("cpu", torch.uint8)
        assert labels is not None
        return Batch(images, labels.cpu(), torch.full((len(index),), number))

    def _by_class(self, visit: Batch) -> Batch:
        """The images of a visit in Dirichlet's order."""
        sequence = CORRELATED.sequence(visit.labels, Chance(self.seed, f"rehearsal {int(visit.shift[0])}"))
        return Batch(*(part[sequence] for part in visit))

    def _records(self, met: list[Met], stream: int, kind: Kind) -> list[Record]:
        """The records of a stream, without batches that the adapter has no finite answer to."""
        if not met:
            return []
        sizes, shifts = [len(one.ours) for one in met], len(self.shifts) + 1
        # moved to the host all at once: nothing waits for a GPU before
        ours, theirs = (torch.cat([getattr(one, key) for one in met]).cpu().split(sizes) for key in ("ours", "theirs"))
        appearance = torch.stack([one.appearance for one in met]).cpu()
        return [
            Record.of(ours[k], theirs[k], one.batch.labels, appearance[k], one.batch.shift, shifts, stream, kind)
            for k, one in enumerate(met)
            if bool(ours[k].isfinite().all())
        ]


class Met(NamedTuple):
    """A batch, the answers of adapter and source model, (B, K), and its appearance, (4,)."""

    batch: Batch
    ours: Tensor
    theirs: Tensor
    appearance: Tensor


def _met(adapter: Adapter, source: nn.Module, style: Style, batch: Batch, like: Tensor) -> Met | None:
    """Both models meet a batch; None if the adapter cannot answer it."""
    x = batch.images.to(like.device).to(like.dtype) / 255
    try:
        ours = adapter(x)
    except Exception:  # of the method: the deployment survives it too
        return None
    return Met(batch, ours, source(x), style.describe(x))


def _split(visits: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Batches of the images of one visit after another."""
    for visit in visits:
        for parts in zip(*(part.split(size) for part in visit), strict=True):
            yield Batch(*parts)


def _few_classes(labels: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Indices of so many images, in batches of few classes each.

    Where a class has few images there are more classes, until half of a batch are different images; the others repeat.
    """
    names, parts = labels.unique(), list[Tensor]()
    for wanted in torch.arange(count).split(size):
        order = names[torch.randperm(len(names), generator=generator)]
        classes = CLASSES[int(torch.randint(len(CLASSES), (), generator=generator))]
        pool = torch.isin(labels, order[:classes]).nonzero()[:, 0]
        while len(pool) < len(wanted) / 2 and classes < len(names):
            classes += 1
            pool = torch.isin(labels, order[:classes]).nonzero()[:, 0]
        places = torch.randperm(len(pool), generator=generator)
        parts.append(pool[places.repeat(-(-len(wanted) // len(pool)))[: len(wanted)]])
    return torch.cat(parts)
