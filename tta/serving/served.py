"""The deployment behind the server: images in, answers out, and what an operator may ask of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tta.deployed import Deployed
from tta.errors import TTAError
from tta.serving.images import Format
from tta.serving.kept import begin_epoch, end_epoch, new_epoch


@dataclass(frozen=True)
class Given:
    """The answer to one image.

    Attributes:
        index: Of the class.
        label: Its name, where names are known.
        probability: That the model gives to it.
        version: Of the adapter; see `tta.answering.Answer`.
        by_adapter: Whether the adapter has answered the batch; if not, the source model has.
        id: For labels that come later.
        finite: Whether the model has given numbers at all.
    """

    index: int
    label: str | None
    probability: float
    version: int
    by_adapter: bool
    id: str
    finite: bool = True


class Served:
    """A deployment with the names of its classes and the format of its images. For one thread at a time.

    Args:
        deployed: Closed with this.
        form: Of its images.
        classes: Names of the K classes, or none.
        folder: Of the deployment's snapshots, or None.

    Raises:
        TTAError: The model cannot answer an image of that format, or has another number of classes.
    """

    def __init__(
        self, deployed: Deployed, form: Format, classes: Sequence[str] = (), folder: Path | None = None
    ) -> None:
        self.deployed, self.form, self.classes, self.folder = deployed, form, tuple(classes), folder
        tensors = [*deployed.source.parameters(), *deployed.source.buffers()]
        #: Device and precision of the images.
        self.like: Tensor = next((t for t in tensors if t.is_floating_point()), torch.zeros(())).detach()
        with torch.no_grad():  # the first pass takes longest; nothing is learned from it
            logits = deployed.adapter.predict(self._batch([np.zeros((form.channels, form.size, form.size), np.uint8)]))
        self.num_classes = logits.shape[1]
        if classes and len(classes) != self.num_classes:
            raise TTAError(f"{len(classes)} names of classes for a model with {self.num_classes}; give one for each")
        self.epoch = begin_epoch(folder, max(deployed.versions(), default=0))
        self._closed = False

    def answer(self, images: Sequence[np.ndarray]) -> list[Given]:
        """Answers images of the format, each (C, H, W), as one batch."""
        answer = self.deployed.ask(self._batch(images))
        probabilities, classes = answer.logits.float().softmax(1).max(1)
        finite = answer.logits.isfinite().all(1)
        rows = zip(answer.ids, classes.tolist(), probabilities.tolist(), finite.tolist(), strict=True)
        names = self.classes or (None,) * self.num_classes
        return [
            Given(index, names[index], probability, answer.version, answer.by_adapter, f"{self.epoch}-{number}", whole)
            for number, index, probability, whole in rows
        ]

    def _batch(self, images: Sequence[np.ndarray]) -> Tensor:
        x = torch.stack([torch.from_numpy(i).float() / (255 if i.dtype == np.uint8 else 1) for i in images])
        return x.to(self.like)

    # What an operator does

    def snapshot(self) -> dict[str, Any]:
        """Writes a snapshot."""
        return {"snapshot": self.deployed.snapshot(), "version": self.deployed.version}

    def rollback(self, snapshot: int | None) -> dict[str, Any]:
        """Goes back to a snapshot, the newest if None; ids that were given are not known any more."""
        there = self.deployed.versions()
        if snapshot is None and not there:
            raise TTAError("there is no snapshot to go back to: write one with /snapshot, in a server with --folder")
        chosen = there[-1] if snapshot is None else snapshot
        self.deployed.drain()  # what waits to be learned from belongs to the state that is left
        self.deployed.restore(chosen)
        self.epoch = new_epoch()
        return {"snapshot": chosen, "version": self.deployed.version, "snapshots": there}

    def reset(self) -> dict[str, Any]:
        """Goes back to the source model."""
        self.deployed.drain()
        self.deployed.reset()
        return {"version": self.deployed.version}

    def freeze(self, frozen: bool) -> dict[str, Any]:
        """Stops learning, or goes on."""
        self.deployed.freeze(frozen)
        return {"frozen": frozen, "version": self.deployed.version}

    def audit(self, ids: Sequence[str], labels: Sequence[int]) -> dict[str, Any]:
        """Takes labels by the ids of the answers. Ids of before a kill or a roll-back are not known any more."""
        if len(ids) != len(labels):
            raise TTAError(f"an audit takes a label for each id, got {len(labels)} labels for {len(ids)} ids")
        if not all(0 <= label < self.num_classes for label in labels):
            raise TTAError(f"labels are classes, 0 to {self.num_classes - 1}, got {min(labels)} to {max(labels)}")
        known = re.compile(rf"{self.epoch}-(\d{{1,18}})")
        pairs = [(int(match[1]), y) for one, y in zip(ids, labels, strict=True) if (match := known.fullmatch(one))]
        interval = self.deployed.audit([number for number, _ in pairs], [label for _, label in pairs])
        mean = interval.mean if interval.n else None
        return {"difference": mean, "low": interval.low, "high": interval.high, "labels": interval.n,
                "unknown_ids": len(ids) - len(pairs)}  # fmt: skip

    def close(self) -> None:
        """Learns from what waits and writes a last snapshot. May be called again."""
        if self._closed:
            return
        self._closed = True
        self.deployed.close()
        if self.folder is not None:
            end_epoch(self.folder, self.epoch, max(self.deployed.versions(), default=0))
