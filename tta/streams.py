"""Streams: what a deployed model meets, in which order, batch by batch.

A stream is a value. Its definition (domains, order, arrangement, batch size, seed, and a hash of the very sequence of
images) is stored with every result, and the same definition gives the same batches on any machine. The orders of
domains are in `tta.orders`, the arrangements of images in `tta.arrangements`; everything else is common to all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from tta.arrangements import Arrangement
from tta.errors import TTAError
from tta.orders import Arranger, Visit, read_order

if TYPE_CHECKING:
    from tta.intruders import Intruders


class Data(Protocol):
    """Labelled images, as a stream reads them; `tta.load_data` gives such an object."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""

    @property
    def labels(self) -> Tensor:
        """Class of every image, int64, shape (N,); or of every pixel, (N, H, W), 255 where it does not count."""

    def __len__(self) -> int: ...

    def images(self, index: Tensor) -> Tensor:
        """The images at these indices, (B, C, H, W): uint8, or float in [0, 1]."""


@dataclass(frozen=True)
class Domain:
    """One shift at one severity.

    Attributes:
        name: Of the shift, say "fog"; "clean" for none.
        severity: 0 (clean) to 5.
        data: The images that are shifted already (or shift themselves when they are asked for), and their labels.
        scored: Whether the answers to its images count. False for intruders: their labels are -1 in a batch.
    """

    name: str
    severity: float
    data: Data
    scored: bool = True

    @property
    def label(self) -> str:
        """Name and severity.

        >>> Domain("fog", 5, data=None).label
        'fog@5'
        """
        return f"{self.name}@{self.severity:g}"


@dataclass(frozen=True)
class Batch:
    """What arrives together. Only `x` is ever given to an adapter.

    Attributes:
        x: Images, float32 in [0, 1], shape (B, C, H, W).
        y: Classes, int64, shape (B,); -1 for images that nobody is scored on.
        index: Index of each image in its domain's data, int64, shape (B,).
        domain: Number of each image's domain in the stream's `domains`, int64, shape (B,).
        position: Number of the visit that the batch belongs to; no batch belongs to two.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    domain: Tensor
    position: int


class Stream:
    """Ordered batches over domains; iterate it any number of times, the batches are the same.

    Use `make_stream` to build one.

    Attributes:
        domains: The domains, those of intruders last; `Batch.domain` numbers them.
        order: Of the domains, with its number: "recurring:20".
        arrangement: Of the images within a visit, with its number: "dirichlet:0.1".
        batch_size: Images in a batch; the last one of a visit may be smaller.
        seed: Of the arrangement.
        intruders: What is mixed into every visit, if anything.
        definition: Everything that determines the batches, as plain values for JSON.
    """

    def __init__(
        self,
        domains: Sequence[Domain],
        order: str,
        batch_size: int,
        seed: int,
        arrangement: str,
        intruders: Intruders | None = None,
    ) -> None:
        self._own = tuple(domains)
        self.domains = self._own if intruders is None else (*self._own, *intruders.domains)
        self.batch_size, self.seed, self.intruders = batch_size, seed, intruders
        self.order, self._visits = read_order(order)
        self._arranger = Arranger(seed, Arrangement.read(arrangement), intruders)
        self.arrangement = str(self._arranger.arrangement)
        sequence = hashlib.sha256()
        self._sizes = []
        for visit in self.visits():
            self._sizes.append(len(visit.index))
            sequence.update(torch.stack([visit.domain, visit.index]).numpy().astype("<i8").tobytes())
        self.definition: dict[str, Any] = {
            "order": self.order,
            "batch_size": batch_size,
            "seed": seed,
            "arrangement": self.arrangement,
            "intruders": None if intruders is None else {"name": intruders.name, "share": intruders.share},
            "images": sum(self._sizes),
            "sequence": sequence.hexdigest(),
            "domains": [
                {
                    "name": domain.name,
                    "severity": domain.severity,
                    "data": domain.data.name,
                    "fingerprint": domain.data.fingerprint,
                    "n": len(domain.data),
                    "scored": domain.scored,
                }
                for domain in self.domains
            ],
        }

    @property
    def name(self) -> str:
        """What kind of stream it is, for tables: "continual", "mixed+dirichlet:0.1", "continual+noise:0.2"."""
        arrangement = [] if self.arrangement == "shuffled" else [self.arrangement]
        return "+".join([self.order, *arrangement, *([] if self.intruders is None else [str(self.intruders)])])

    @property
    def hash(self) -> str:
        """SHA-256 of the definition."""
        return hashlib.sha256(json.dumps(self.definition, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        """Number of batches."""
        return sum(-(-size // self.batch_size) for size in self._sizes)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def visits(self) -> Iterator[Visit]:
        """The sequence of images, visit by visit."""
        return self._visits(self._own, self._arranger)

    def batches(self, device: torch.device | str = "cpu", *, ahead: bool | None = None) -> Generator[Batch, None, None]:
        """The batches, on a device.

        Args:
            device: Where the images are wanted.
            ahead: Make the next batch in a thread while the present one is in use. By default on everything but the
                CPU, where the two would fight for the same cores and blur the time of a step.

        Raises:
            TTAError: Images that are not uint8, or not finite, or outside [0, 1].
        """
        device = torch.device(device)
        if not (device.type != "cpu" if ahead is None else ahead):
            for visit, position in self._steps():
                yield self._load(visit, position, device)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="stream") as thread:
            steps = self._steps()
            pending = thread.submit(self._load, *next(steps), device)
            for visit, position in steps:
                batch = pending.result()
                pending = thread.submit(self._load, visit, position, device)
                yield batch
            yield pending.result()

    def _steps(self) -> Iterator[tuple[Visit, int]]:
        """The images of each batch, and the number of its visit."""
        for position, visit in enumerate(self.visits()):
            for start in range(0, len(visit.index), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield Visit(visit.domain[part], visit.index[part]), position

    def _load(self, images: Visit, position: int, device: torch.device) -> Batch:
        x: Tensor | None = None
        y = images.index.new_empty(len(images.index), *self.domains[0].data.labels.shape[1:])
        for number in images.domain.unique().tolist():
            here = (images.domain == number).nonzero()[:, 0]
            data = self.domains[number].data
            index = images.index[here]
            y[here] = data.labels[index] if self.domains[number].scored else -1
            loaded = to_unit(data.images(index), self.domains[number].label, device)
            if len(here) == len(y):
                x = loaded
                break
            x = loaded.new_empty(len(y), *loaded.shape[1:]) if x is None else x
            if loaded.shape[1:] != x.shape[1:]:
                raise TTAError(
                    f"images of {self.domains[number].label} have shape {tuple(loaded.shape[1:])}, others in the same"
                    f" batch {tuple(x.shape[1:])}; bring all to one size and number of channels"
                )
            x[here.to(x.device)] = loaded
        assert x is not None
        return Batch(x, y.to(device), images.index.to(device), images.domain.to(device), position)


def to_unit(x: Tensor, name: str, device: torch.device | str) -> Tensor:
    """Images as float32 in [0, 1] on a device.

    Args:
        x: Images, (B, C, H, W): uint8, or float in [0, 1].
        name: Whose images, for the message.
        device: Where they are wanted.

    Raises:
        TTAError: Another shape or type, values that are not finite or outside [0, 1].
    """
    if x.ndim != 4 or not (x.dtype == torch.uint8 or x.is_floating_point()):
        raise TTAError(
            f"images of {name} are {x.dtype} of shape {tuple(x.shape)}; expected uint8 or float, (B, C, H, W)"
        )
    if x.dtype == torch.uint8:
        return x.to(device).float().div_(255)
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise TTAError(
            f"images of {name} range from {low:.3g} to {high:.3g}; float images must be finite and lie in [0, 1]"
            " (divide by 255, and leave the normalisation to the model)"
        )
    return x.to(device, torch.float32)


def make_stream(
    domains: Sequence[Domain],
    order: str = "continual",
    batch_size: int = 64,
    seed: int = 0,
    *,
    arrangement: str = "shuffled",
    intruders: Intruders | None = None,
) -> Stream:
    """Builds a stream.

    Args:
        domains: The domains, in the order of their appearance; with the order "gradual", several severities of each.
        order: Of the domains: "continual", "gradual", "mixed" or "recurring:TIMES" (20 times if it does not say);
            `tta.ccc.make_ccc` builds the streams of the order "ccc".
        batch_size: At least 1. The last batch of a visit has what is left; one image is an ordinary batch.
        seed: Of the arrangement.
        arrangement: Of the images within each visit: "shuffled", "stored" (as the published CIFAR10-C protocol has it),
            "sorted" (by class), "dirichlet:CONCENTRATION" (class-correlated; 0.1), "label_shift:RATIO" (each class in
            its turn RATIO times as frequent as the others; inf) or "long_tailed:RATIO" (some of the images, the most
            frequent class RATIO times as frequent as the rarest; 100).
        intruders: Images that nobody is scored on, mixed into every visit; see `tta.intruders`.

    Raises:
        TTAError: An unknown order or arrangement or a number that does not fit it, no domains, domains without images,
            two domains of one name and severity, another number of intruding domains than one or as many as the others,
            or a batch size below 1.
    """
    if batch_size < 1:
        raise TTAError(f"the batch size is {batch_size}; give at least 1")
    if not domains:
        raise TTAError("a stream needs at least one domain")
    intruding = () if intruders is None else intruders.domains
    if len(intruding) not in (0, 1, len(domains)):
        raise TTAError(
            f"intruders come from {len(intruding)} domains, the stream has {len(domains)}; give one, or one for each"
        )
    labels = [domain.label for domain in (*domains, *intruding)]
    for domain in (*domains, *intruding):
        if len(domain.data) == 0:
            raise TTAError(f"domain {domain.label} has no images")
        if labels.count(domain.label) > 1:
            raise TTAError(f"domain {domain.label} is given twice; name each domain once")
    return Stream(domains, order, batch_size, seed, arrangement, intruders)
