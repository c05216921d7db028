"""The canary (tier 2): labelled source images that the adapter must go on to recognise."""

from __future__ import annotations

import math

import torch

from tta.errors import TTAError
from tta.guard.check import Action, Check, Look, Reference


class Canary(Check):
    """The adapter's error on some labelled source images is at most so many points above the source model's.

    Cost: one prediction of the canary per test. Guarantees that forgetting, on these very images, was within the
    tolerance at every test; for other source images the usual error of a sample of this size applies, which `error_bar`
    tells; between two tests and on shifted images it guarantees nothing. False alarms: an adapter that does worse than
    the source model on clean images by its nature, before any update, as batch statistics do by some points, needs a
    tolerance above that.

    Args:
        tolerance: Points above the source model's error on the same images.
        images: At most so many, evenly spread over the source data.
        every: Updates from test to test.
        action: What follows.
    """

    name = "canary"
    tier = 2
    needs_data = needs_labels = True

    def __init__(self, tolerance: float = 15.0, images: int = 64, every: int = 128, action: Action = "reset") -> None:
        super().__init__()
        if images < 1 or every < 1 or tolerance < 0:
            raise TTAError(
                f"canary: images and every are at least 1 and tolerance at least 0, got {images}, {every}, {tolerance}"
            )
        self.tolerance, self.images, self.every, self.action = tolerance, images, every, action
        self.memory = {"updates": 0}

    def begin(self, reference: Reference) -> None:
        """Chooses the images, and measures the source model's error on them."""
        assert reference.data is not None
        assert reference.logits is not None
        labels = reference.data.needed_labels("the canary").cpu()
        self.index = torch.linspace(0, len(labels) - 1, min(self.images, len(labels))).long()
        self.data = reference.data
        self.source_error = 100 * float((reference.logits[self.index].argmax(1) != labels[self.index]).float().mean())

    @property
    def error_bar(self) -> float:
        """Half the width of a 95 % interval, in points, for a difference on so many images (Hoeffding)."""
        return 100 * math.sqrt(2 * math.log(2 / 0.05) / len(self.index))

    def object(self, look: Look) -> str | None:
        """See the class."""
        self.memory["updates"] += 1
        if self.memory["updates"] % self.every:
            return None
        x, labels = self.data.take(self.index, look.logits)
        assert labels is not None
        answers = torch.cat([look.adapter.predict(part) for part in x.split(max(1, len(look.logits)))])
        self.value = 100 * float((answers.argmax(1) != labels).float().mean())
        if self.value <= self.source_error + self.tolerance:
            return None
        return f"canary error {self.value:.1f} %, the source model's is {self.source_error:.1f} %"
