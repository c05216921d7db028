"""What was predicted for every single image, so that runs can be compared on the same images."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tta.errors import TTAError
from tta.files import write
from tta.metrics import squared_distance
from tta.streams import Batch

#: Fields of the records and their types on disk.
FIELDS = {
    "prediction": np.int32,
    "confidence": np.float32,
    "label": np.int32,
    "index": np.int32,
    "domain": np.int16,
    "position": np.int32,
    "nll": np.float32,
    "brier": np.float32,
}
#: Version of the fields; cells that were stored with another one are no longer read.
LAYOUT = 2

#: Batches whose records are joined, for a thousand small tensors take many times the memory of one large one.
JOINED = 256

#: Records of one cell: an array per field, shape (images,), in the order of the stream.
Arrays = Mapping[str, np.ndarray]


class Records:
    """What happened to every image of a stream, in the order of the stream.

    Prediction and its confidence (probability), the true class, the image's index and domain, the number of the visit,
    and the image's NLL and Brier score. Images without a label have label -1, NLL and Brier score 0. Label maps have no
    records: a number per pixel would be too many, and one per image would not say which class was missed.

    They stay on the device until `gather`, which is called when a visit ends.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, ...]] = []
        self._joined: list[tuple[Tensor, ...]] = []
        self._parts: dict[str, list[np.ndarray]] = {field: [] for field in FIELDS}

    def add(self, logits: Tensor, batch: Batch) -> None:
        """Takes the answers to a batch, without waiting for the device."""
        if batch.y.ndim > 1:
            return
        probs = logits.float().softmax(1)
        confidence, prediction = probs.max(1)
        y, scored = batch.y.clamp(min=0), batch.y >= 0
        nll = F.cross_entropy(logits.float(), y, reduction="none").where(scored, 0)
        brier = squared_distance(probs, y).where(scored, 0)
        position = torch.full_like(batch.y, batch.position)
        self._pending.append((prediction, confidence, batch.y, batch.index, batch.domain, position, nll, brier))
        if len(self._pending) == JOINED:
            self._join()

    def _join(self) -> None:
        self._joined.append(tuple(map(torch.cat, zip(*self._pending, strict=True))))
        self._pending.clear()

    def gather(self) -> dict[str, np.ndarray]:
        """Fetches what is still on the device, and gives it: the records since the last call."""
        if self._pending:
            self._join()
        columns = zip(*self._joined, strict=True) if self._joined else [()] * len(FIELDS)
        fetched = {}
        for (field, dtype), column in zip(FIELDS.items(), columns, strict=True):
            fetched[field] = torch.cat(column).cpu().numpy().astype(dtype) if column else np.empty(0, dtype)
            self._parts[field].append(fetched[field])
        self._joined.clear()
        return fetched

    def arrays(self) -> dict[str, np.ndarray]:
        """One array per field, shape (images,)."""
        self.gather()
        return {field: np.concatenate(parts) for field, parts in self._parts.items()}


def scored(records: Arrays) -> dict[str, np.ndarray]:
    """The records of the images that have a label."""
    keep = records["label"] >= 0
    return {field: array[keep] for field, array in records.items()}


def save_records(path: Path, arrays: Arrays) -> None:
    """Writes records as a compressed .npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write(path, buffer.getvalue())


def load_records(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads what `save_records` wrote.

    Raises:
        TTAError: The file is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {field: stored[field] for field in FIELDS}
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise TTAError(f"{path} holds no per-image records ({error}); delete it and run its command again") from error
