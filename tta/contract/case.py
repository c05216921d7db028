"""What a promise is checked on: a method and a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tta.adapter import Adapter
from tta.contract.nets import CLASSES
from tta.errors import TTAError


class ContractBroken(TTAError):
    """An adapter does not keep a promise; the message says what was promised, what came, and what to do."""


class Refused(TTAError):
    """The method cannot run on the network, and said so when the adapter was made: that is allowed."""


@dataclass(frozen=True)
class Case:
    """A method and a network.

    Attributes:
        build: Makes an adapter around a source model, with the same seed and settings each time.
        network: Makes the source model in float32, with the same weights each time.
    """

    build: Callable[[nn.Module], Adapter]
    network: Callable[[], nn.Module]

    def make(self, model: nn.Module | None = None, dtype: torch.dtype = torch.float32) -> Adapter:
        """A fresh adapter around the given model, or around a fresh network of that type.

        Raises:
            Refused: The method cannot run on it.
        """
        source = self.network().to(dtype) if model is None else model
        try:
            return self.build(source)
        except TTAError as refusal:
            raise Refused(str(refusal)) from refusal


def images(seed: int, size: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random images, shape (size, 3, 32, 32), the same for the same seed."""
    return torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(seed)).to(dtype)


def source_images(size: int = 40) -> tuple[Tensor, Tensor]:
    """Random source images and a label for each, in place of real source data."""
    return images(99, size), torch.arange(size) % CLASSES


def hold(kept: bool | Tensor, broken: str) -> None:
    """Raises ContractBroken with the message unless the promise is kept."""
    if not bool(kept):
        raise ContractBroken(broken)


def apart(a: Tensor, b: Tensor) -> str:
    """How far two tensors are from each other, in words."""
    if a.shape != b.shape:
        return f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
    return f"largest difference {(a.double() - b.double()).abs().max():.2g}"


def tensors(state: dict[str, object]) -> dict[str, Tensor]:
    """Copies of the tensors of a state dict."""
    return {key: value.clone() for key, value in state.items() if isinstance(value, Tensor)}
