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
#: Chunks that a chunk is compared with, itself among them.
AROUND = 8
#: See `correlation`: from here on images count as ordered.
CORRELATED = 1.5
#: Images from a look that leaves doubt to the next.
SOON = 128


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

    When the style of the stream changes, and now and then (the seldomer, the clearer it is), some labelled source
    images are given the amplitude spectrum of the stream's, and both models answer them. Two estimates of either error
    are averaged: the error on these images, and the share of the stream's images that are less certain than these
    images' errors suggest (average thresholded confidence). The difference is drawn towards what the adapter has won
    so far, of the images on which the two contradict each other. The adapter is heard if it is better by a share of
    these images, and goes on to be heard as long as it is not worse.

    When in doubt, the source model answers. Where images that come together have a say in each other's answers, as
    under batch statistics, it also answers as long as fewer than 256 images are known, and as long as neighbours on the
    stream are more alike in class than chance would have it: batch statistics then fail in a way that images drawn at
    random do not show.

    Cost: the canary through both models and a batch through the source model for each look, as often as the guard's
    budget allows; a forward pass of the source model on every batch as long as it answers. No guarantee: from images
    without labels nobody can tell for certain which of two models errs less. The audit can.

    Args:
        images: Canary images per look.
        every: Images of the stream from one look to the next, at most; few at first, twice as many after each look
            that leaves no doubt.
        margin: Points by which the adapter must be better to be heard, as a share of the images, in %, that the two
            models answer differently; and `least` points.
        stay: Likewise, to go on to be heard.
        least: See `margin`.
        doubt: Distance from the margin, as such a share, within which there is doubt.
        prior: Looks that the past counts for: the mean share of the contradicted images that the adapter has won.
        keep: Looks that are averaged, as long as the style stays.
        seed: Of the drawing of canary images and the noise they are given.

    Reference:
        Garg et al., "Leveraging unlabeled data to predict out-of-distribution performance" (ATC), ICLR 2022.
    """

    def __init__(
        self,
        images: int = 64,
        every: int = 1024,
        margin: float = 0.25,
        stay: float = 0.05,
        least: float = 1.0,
        doubt: float = 0.15,
        prior: float = 1.0,
        keep: int = 3,
        seed: int = 0,
    ) -> None:
        if min(images, every, keep) < 1:
            raise TTAError(f"choice: images, every and keep are at least 1, got {images}, {every} and {keep}")
        self.images, self.every, self.keep = images, every, keep
        self.margin, self.stay, self.least, self.doubt, self.prior, self.seed = margin, stay, least, doubt, prior, seed
        self.generator = torch.Generator()

    def begin(self, data: SourceData) -> None:
        """Learns the style of source data; before the first look the source model answers."""
        self.data = data
        data.needed_labels("the choice between adapter and source")
        like = torch.zeros((), device=data.images.device)
        self.style = Style(data.take(torch.arange(min(len(data), 1000)), like)[0])
        self.generator.manual_seed(self.seed)
        self.memory: dict[str, Any] = {
            "adapter": False, "since": 0, "wait": 0, "looks": [], "classes": [], "mixes": None, "cost": 2.0,
            "generator": self.generator.get_state(), "estimate": None,
            "apart": None, "gain": 0.0, "past": None,
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
        """Takes in a batch, and tells whether a look is wanted. It is wanted until there is one."""
        changed = self.style.take(x.to(self.style.source.device)) if self.style.fits(x) else False
        if changed:
            self.memory.update(looks=[], wait=0)
        self.memory["since"] += len(x)
        return bool(self.memory["since"] >= self.memory["wait"])

    def cost(self, count: int) -> float:
        """Passes of a look at a batch of so many images, but for the source model's answers to these."""
        return self.drawn(count) * float(self.memory["cost"])

    def drawn(self, count: int) -> int:
        """Canary images of a look at a batch of so many: as many batches like it as they make."""
        size = min(max(count, 1), self.images)
        return self.images // size * size

    def look(
        self,
        adapter: Callable[[Tensor], Tensor],
        source: nn.Module,
        logits: Tensor,
        source_logits: Tensor,
    ) -> Estimate:
        """Compares both models.

        Args:
            adapter: Answers images without learning.
            source: The source model.
            logits: The adapter's answers to the present batch, (B, K).
            source_logits: The source model's.
        """
        self.generator.set_state(self.memory["generator"])
        size = min(max(len(logits), 1), self.images)
        index = torch.randint(len(self.data), (self.drawn(len(logits)),), generator=self.generator)
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
        estimate = Estimate(self._error(0), self._error(1), len(index) * len(self.memory["looks"]))
        self._weigh(estimate, 100 * float((logits.argmax(1) != source_logits.argmax(1)).float().mean()))
        doubt = abs(self.memory["gain"] - self._margin()) < max(self.doubt * self.memory["apart"], self.least)
        wait = SOON if doubt else min(self.every, max(2 * SOON, 2 * self.memory["wait"]))
        self.memory.update(since=0, estimate=list(estimate), wait=wait)
        self._decide()
        return estimate

    def _weigh(self, estimate: Estimate, apart: float) -> None:
        """Sets the gain that is believed in: that of the looks, drawn to the share that was won so far."""
        looks, past, before = len(self.memory["looks"]), self.memory["past"], self.memory["apart"]
        apart = apart if looks == 1 or before is None else (before + apart) / 2
        gain = estimate.source - estimate.adapter
        won = min(1.0, max(-1.0, gain / max(apart, self.least)))
        if past is None:
            self.memory.update(gain=gain, past=won)
        else:
            gain = (looks * gain + self.prior * past * apart) / (looks + self.prior)
            self.memory.update(gain=gain, past=0.7 * past + 0.3 * won)
        self.memory["apart"] = apart

    def notice(self, classes: list[int]) -> None:
        """Takes in the classes that were answered, in the order of the images."""
        self.memory["classes"] = (self.memory["classes"] + classes)[-512:]
        self._decide()

    def restart(self) -> None:
        """After a reset of the adapter: what was known of its state is void, and the source model answers."""
        self.memory.update(adapter=False, looks=[], wait=0, estimate=None, past=None)

    @property
    def correlated(self) -> bool:
        """Whether images that come together are more alike in class than chance would have it."""
        return correlation(self.memory["classes"]) > CORRELATED

    def _decide(self) -> None:
        if self.memory["estimate"] is not None:
            mixes = self.memory["mixes"] is not False
            ordered = mixes and (len(self.memory["classes"]) < FEW or self.correlated)
            self.memory["adapter"] = not ordered and self.memory["gain"] >= self._margin()

    def _margin(self) -> float:
        """Points by which the adapter must be better to be heard, or to go on to be heard."""
        share = self.stay if self.memory["adapter"] else self.margin
        return max(share * self.memory["apart"], 0.0 if self.memory["adapter"] else self.least)

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
    """How much more images that come together are of one class than chance would have it.

    The classes of every 32 consecutive images are compared with those of the 256 around them by a chi-squared test,
    standardised to a mean of 0 and a deviation of 1 under chance; the result is the median over all such chunks. Where
    images come in no order it is about 0. A stream that has more of one class throughout is no matter, nor one whose
    answers change from one domain to the next, as this concerns few chunks.
    """
    rows = len(classes) // CHUNK
    if rows < 2:
        return 0.0
    given = torch.tensor(classes[-rows * CHUNK :]).view(rows, CHUNK)
    counts = torch.nn.functional.one_hot(given).double().sum(1)
    values = []
    for row in range(rows):
        first = min(max(0, row - AROUND // 2), max(0, rows - AROUND))
        around = counts[first : first + AROUND]
        around = around[:, around.sum(0) > 0]
        expected = around.mean(0)
        freedom = (around.shape[1] - 1) * (1 - 1 / len(around))
        if freedom > 0:
            mine = counts[row][counts[first : first + AROUND].sum(0) > 0]
            values.append((float(((mine - expected).square() / expected).sum()) - freedom) / (2 * freedom) ** 0.5)
    return float(torch.tensor(values).quantile(0.5)) if values else 0.0
