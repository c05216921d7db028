"""The kinds of test-time views by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from tta.augmix import AugMixViews
from tta.errors import unknown
from tta.randaugment import RandAugmentViews
from tta.random_fields import RandomFieldViews
from tta.targeted_views import TargetedViews
from tta.views import CottaViews, Draws, ShiftViews


class Views(Protocol):
    """What makes views: a draw of all randomness on the host, and its application; see `tta.views`."""

    def draw(self, count: int, x: Tensor, generator: torch.Generator) -> Draws:
        """The parameters of `count` views of a batch, on the CPU; without the per-image option, one row per view."""

    def apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None = None) -> Tensor:
        """The views, shape (V * B, C, H, W): all images of the first view, then those of the second, and so on."""


#: A new kind is a frozen dataclass with `draw` and `apply`, constructed with `flip=`, and a line here.
KINDS: dict[str, Callable[..., Views]] = {
    "shift": ShiftViews,
    "cotta": CottaViews,
    "augmix": AugMixViews,
    "randaugment": RandAugmentViews,
    "field": RandomFieldViews,
}


def views_of(kind: str, flip: bool = True) -> Views:
    """The transform that makes views of a kind.

    Args:
        kind: One of `KINDS`: "shift" (whole pixels), "cotta" (colours, rotation, scaling, blur, noise), "augmix",
            "randaugment", "field" (smooth random fields of displacement and colour). Or "targeted:" and the name of a
            MedMNIST data set, "targeted:bloodmnist": random corruptions of the kinds that such images meet.
        flip: Whether half of the views are mirrored; False where a mirrored image is another class.

    Raises:
        TTAError: There is no such kind, or no such data set.

    >>> views_of("targeted:bloodmnist", flip=False)
    TargetedViews(dataset='bloodmnist', per_image=False, flip=False)
    """
    name, _, dataset = kind.partition(":")
    if name == "targeted":
        from corruptions.medical import REGISTRY

        if dataset not in REGISTRY:
            raise unknown("data set of targeted views", dataset, REGISTRY)
        return TargetedViews(dataset, flip=flip)
    if kind not in KINDS:
        raise unknown("kind of views", kind, [*KINDS, "targeted:DATASET"])
    return KINDS[kind](flip=flip)


def part_of(draws: Draws, start: int, stop: int) -> Draws:
    """The rows from `start` to `stop` of every draw."""
    return {key: value[start:stop] for key, value in draws.items()}


def in_chunks(
    transform: Views, draws: Draws, x: Tensor, views: int, chunk: int | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """The views of a batch, a chunk of views at a time, so that memory does not grow with their number.

    Args:
        transform: Makes the views.
        draws: What its `draw` returned for `views` views of `x`.
        x: The batch, shape (B, C, H, W).
        views: Number of views V.
        chunk: Views at a time; None: one on a CPU, else eight. Does not change the views.
        generator: Source of pixel noise, on the device of `x`.

    Yields:
        Shape (chunk * B, C, H, W), as `Views.apply` orders them.
    """
    rows = len(draws["flip"]) // views if views else 0
    chunk = chunk or (1 if x.device.type == "cpu" else 8)
    for start in range(0, views, chunk):
        yield transform.apply(x, part_of(draws, start * rows, (start + chunk) * rows), generator)
