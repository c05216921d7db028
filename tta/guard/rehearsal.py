"""A rehearsal: adapter and source model meet shifts whose answers are known, before they meet those of the stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import corruptions
from tta.adapter import Adapter
from tta.arrangements import Arrangement, Chance
from tta.errors import TTAError
from tta.guard.judge import Judge, Record
from tta.guard.style import Style
from tta.source_data import SourceData

#: Severities of the shifts, in turns.
SEVERITIES = (5, 2, 4)
#: How images of a class come together.
CORRELATED = Arrangement.read("dirichlet:0.1")


def _usual() -> tuple[str, ...]:
    """Corruptions of several kinds; the common ones of ImageNet-C are left for benchmarks."""
    suites = (corruptions.HOLDOUT, corruptions.BAR, corruptions.CIFAR_BAR, corruptions.OURS)
    return tuple(dict.fromkeys(name for suite in suites for name in suite))


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed: labelled source images under corruptions, in several orders and sizes of batches.

    In batches of `sizes[0]`: one shift after another, all mixed, and one after another with images of a class together
    (Dirichlet, 0.1); in smaller ones the first two, with a quarter of the images. The adapter begins each of these
    streams anew, and learns on the way as it will later, so that the judge sees it early and late, where it gains, and
    where it fails.

    Cost: for N shifts, `images` each, about 3.5 N images through the adapter and the source model, once, before the
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
        records, (x, labels, shift) = list[Record](), self._images(data)
        for number, (size, batches) in enumerate(self._streams(labels, shift)):
            adapter.reset()
            for index in batches:
                batch = (x[index].to(like.device).to(like.dtype) / 255, labels[index].to(like.device))
                record = _met(adapter, source, style, *batch, shift[index], len(self.shifts) + 1, (number, size))
                records += [] if record is None else [record]
        adapter.reset()
        if not records:
            raise TTAError("the adapter gives no finite answer to any image of the rehearsal: it is of no use here")
        return Judge.learn(records)

    def _images(self, data: SourceData) -> tuple[Tensor, Tensor, Tensor]:
        """Source images under all shifts and none, uint8; their labels, and the number of the shift of each."""
        generator = torch.Generator().manual_seed(self.seed)
        known = data.needed_labels("a rehearsal").cpu()
        parts, labels = list[Tensor](), list[Tensor]()
        for number, name in enumerate((None, *self.shifts)):
            index = torch.randperm(len(data), generator=generator)[: self.images]
            clean, _ = data.take(index, torch.zeros((), device=data.images.device))
            severity = SEVERITIES[number % len(SEVERITIES)]
            seen = clean if name is None else corruptions.corrupt(clean, name, severity, seed=self.seed, index=index)
            parts.append((seen * 255).round().clamp(0, 255).to("cpu", torch.uint8))
            labels.append(known[index])
        shift = torch.arange(len(parts)).repeat_interleave(len(parts[0]))
        return torch.cat(parts), torch.cat(labels), shift

    def _streams(self, labels: Tensor, shift: Tensor) -> Iterator[tuple[int, Sequence[Tensor]]]:
        """Of every stream the size of its batches, and the indices of the images in each batch."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        sequence = torch.randperm(len(self.shifts) + 1, generator=generator).tolist()
        visits = [(shift == number).nonzero()[:, 0] for number in sequence]
        for place, size in enumerate(self.sizes):
            used = visits if place == 0 else [visit[: max(2, len(visit) // 4)] for visit in visits]
            together = torch.cat(used)
            yield size, [part for visit in used for part in visit.split(size)]
            yield size, together[torch.randperm(len(together), generator=generator)].split(size)
            if place == 0:
                chances = (Chance(self.seed, f"rehearsal {number}") for number in sequence)
                ordered = [v[CORRELATED.sequence(labels[v], c)] for v, c in zip(used, chances, strict=True)]
                yield size, [part for visit in ordered for part in visit.split(size)]


def _met(
    adapter: Adapter,
    source: nn.Module,
    style: Style,
    x: Tensor,
    labels: Tensor,
    shift: Tensor,
    shifts: int,
    stream: tuple[int, int],
) -> Record | None:
    """The record of a batch; None if the adapter cannot answer it."""
    try:
        ours = adapter(x)
    except Exception:  # of the method: the deployment survives it too
        return None
    if not bool(ours.isfinite().all()):
        return None
    return Record.of(ours, source(x), labels, style.describe(x), shift, shifts, stream)
