"""Who answers: the adapter where the evidence is that it errs less, otherwise the source model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tta.errors import TTAError
from tta.guard.style import Style
from tta.objectives import entropy
from tta.source_data import SourceData

#: Consecutive images whose classes are counted together, and images without which nothing is known of their order.
CHUNK, FEW = 32, 256


class Estimate(NamedTuple):
    """Estimated errors in %.

    Attributes:
        adapter: Of the adapter.
        source: Of the source model.
        images: Canary images that they rest on.
    """

    adapter: float
    source: float
    images: int


class Choice:
    """Compares both models on labelled source images in the style of the stream, and on the stream itself.

    Now and then, and whenever the style of the stream changes, some labelled source images are given the amplitude
    spectrum of the stream's, and both models answer them. Two estimates of either error are averaged: the error on
    these images, and the share of the stream's images that are less certain than these images' errors suggest (average
    thresholded confidence). The adapter answers if its estimate is lower by a margin; the margin is larger while
    neighbours on the stream are more alike in class than chance would have it, if images that come together have a say
    in each other's answers: batch statistics then fail in a way that these images, drawn at random, do not show. Where
    the two are close the next batch is looked at as well. When in doubt, the source model answers; with batch
    statistics also as long as fewer than 256 images are known.

    Cost: the canary through both models and a batch through the source model, every `every` images; a forward pass of
    the source model on every batch as long as it answers. No guarantee: from images without labels nobody can tell for
    certain which of two models errs less. The audit can.

    Args:
        images: Canary images per look.
        every: Images of the stream between two looks.
        margin: Points by which the adapter must be better.
        correlated_margin: The margin on class-correlated streams, for networks with batch statistics.
        close: Points from the margin within which the next batch is looked at as well.
        keep: Looks that are averaged, as long as the style stays.
        seed: Of the drawing of canary images and the noise they are given.

    Reference:
        Garg et al., "Leveraging unlabeled data to predict out-of-distribution performance" (ATC), ICLR 2022.
    """

    def __init__(
        self,
        images: int = 96,
        every: int = 1024,
        margin: float = 1.0,
        correlated_margin: float = 20.0,
        close: float = 8.0,
        keep: int = 3,
        seed: int = 0,
    ) -> None:
        if min(images, every, keep) < 1:
            raise TTAError(f"choice: images, every and keep are at least 1, got {images}, {every} and {keep}")
        self.images, self.every, self.keep = images, every, keep
        self.margin, self.correlated_margin, self.close, self.seed = margin, correlated_margin, close, seed
        self.generator = torch.Generator()

    def begin(self, data: SourceData) -> None:
        """Learns the style of source data; before the first look the source model answers."""
        self.data = data
        data.needed_labels("the choice between adapter and source")
        like = torch.zeros((), device=data.images.device)
        self.style = Style(data.take(torch.arange(min(len(data), 1000)), like)[0])
        self.generator.manual_seed(self.seed)
        self.memory: dict[str, Any] = {
            "adapter": False, "since": self.every, "looks": [], "classes": [], "mixes": True,
            "generator": self.generator.get_state(), "estimate": None,
        }  # fmt: skip

    @property
    def by_adapter(self) -> bool:
        """Whether the adapter answers at present."""
        return self.memory["adapter"]

    @property
    def estimate(self) -> Estimate | None:
        """The latest estimate."""
        return None if self.memory["estimate"] is None else Estimate(*self.memory["estimate"])

    def due(self, x: Tensor) -> bool:
        """Takes in a batch, and tells whether a look is due with it."""
        changed = self.style.take(x.to(self.style.source.device)) if self.style.fits(x) else False
        if changed:
            self.memory["looks"] = []
        self.memory["since"] += len(x)
        return changed or self.memory["since"] >= self.every

    def look(
        self,
        adapter: Callable[[Tensor], Tensor],
        source: nn.Module,
        logits: Tensor,
        source_logits: Tensor,
        mixes: bool = True,
    ) -> Estimate:
        """Compares both models.

        Args:
            adapter: Answers images without learning.
            source: The source model.
            logits: The adapter's answers to the present batch, (B, K).
            source_logits: The source model's.
            mixes: Whether images that come together have a say in each other's answers (`mixes`).
        """
        self.generator.set_state(self.memory["generator"])
        size = min(max(len(logits), 1), self.images)
        index = torch.randint(len(self.data), (self.images // size * size,), generator=self.generator)
        x, labels = self.data.take(index, logits)
        assert labels is not None
        x = self.style.wear(x, self.generator)
        self.memory["generator"] = self.generator.get_state()
        ours = torch.cat([adapter(part) for part in x.split(size)])  # in batches like those of the stream
        theirs = torch.cat([source(part) for part in x.split(size)])
        pair = ((ours, logits), (theirs, source_logits))
        seen = [
            [(mine.argmax(1) != labels).float().cpu(), entropy(mine.float()).cpu(), entropy(there.float()).cpu()]
            for mine, there in pair
        ]
        self.memory["looks"] = [*self.memory["looks"], seen][-self.keep :]
        estimate = Estimate(self._error(0), self._error(1), self.images * len(self.memory["looks"]))
        unsure = abs(estimate.source - estimate.adapter - self._margin(mixes)) < self.close
        again = unsure and len(self.memory["looks"]) < self.keep
        self.memory.update(since=self.every if again else 0, estimate=list(estimate), mixes=mixes)
        self._decide()
        return estimate

    def notice(self, classes: list[int]) -> None:
        """Takes in the classes that were answered, in the order of the images."""
        self.memory["classes"] = (self.memory["classes"] + classes)[-512:]
        self._decide()

    def restart(self) -> None:
        """After a reset of the adapter: what was known of its state is void, and the source model answers."""
        self.memory.update(adapter=False, looks=[], since=self.every, estimate=None)

    @property
    def correlated(self) -> bool:
        """Whether images that come together are more alike in class than chance would have it."""
        return correlation(self.memory["classes"]) > 4

    def _decide(self) -> None:
        if self.memory["estimate"] is not None:
            ours, theirs, _ = self.memory["estimate"]
            known = not self.memory["mixes"] or len(self.memory["classes"]) >= FEW
            self.memory["adapter"] = known and ours + self._margin(self.memory["mixes"]) <= theirs

    def _margin(self, mixes: bool) -> float:
        return self.correlated_margin if mixes and self.correlated else self.margin

    def _error(self, which: int) -> float:
        """The estimated error of one of the models in %, over the looks that are kept."""
        wrong, certain, there = (torch.cat([look[which][k] for look in self.memory["looks"]]) for k in range(3))
        return 100 * float(wrong.mean() + thresholded(wrong, certain, there)) / 2


@torch.no_grad()
def mixes(network: nn.Module, x: Tensor) -> bool:
    """Whether the answer to an image depends on what comes with it, as under batch statistics.

    Args:
        network: That answers.
        x: Images, (B, C, H, W), of which the first is shown in two companies.
    """
    image = x[:1]
    one, other = (network(torch.cat((image, company)))[0] for company in (image.flip(-1), 1 - image))
    return not torch.allclose(one, other, rtol=0.01, atol=0.01)


def thresholded(wrong: Tensor, canary: Tensor, stream: Tensor) -> float:
    """The share of the stream's images above the entropy that as many canary images exceed as are wrong.

    Args:
        wrong: Whether each canary image is answered wrongly, 1 or 0, shape (n,).
        canary: Entropies of these answers, shape (n,).
        stream: Entropies of the answers to the stream's images, shape (m,).
    """
    threshold = torch.quantile(canary, 1 - wrong.mean())
    return float((stream > threshold).float().mean())


def correlation(classes: list[int]) -> float:
    """How much more images that come together are of one class than chance would have it, in standard deviations.

    The classes of every 32 consecutive images are counted, and a chi-squared test asks whether all these counts come
    from one distribution. If images come in no order, the result has a mean of about 0 and a deviation of about 1; a
    stream that has more of one class throughout is no matter.
    """
    rows = len(classes) // CHUNK
    if rows < 2:
        return 0.0
    given = torch.tensor(classes[-rows * CHUNK :]).view(rows, CHUNK)
    counts = torch.nn.functional.one_hot(given).double().sum(1)
    counts = counts[:, counts.sum(0) > 0]
    expected = counts.mean(0)
    freedom = (rows - 1) * (counts.shape[1] - 1)
    if freedom == 0:
        return 0.0
    return (float(((counts - expected).square() / expected).sum()) - freedom) / (2 * freedom) ** 0.5
