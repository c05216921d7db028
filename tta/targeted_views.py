"""Targeted views: each view under a corruption that the data set is expected to meet (Di Salvo et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tta.views import Draws


@dataclass(frozen=True)
class TargetedViews:
    """Views under random corruptions of a MedMNIST data set's registry, or none; see `corruptions.targeted_views`.

    Reference:
        Di Salvo et al., "MedMNIST-C: comprehensive benchmark and improved classifier robustness by simulating realistic
        image corruptions", 2024, where they are augmentations for training.
    """

    #: Whose registry, such as "bloodmnist"; methods do not know data sets, so it has to be said.
    dataset: str
    #: Whether every image of a view has a corruption of its own (otherwise one per view, which is much faster; noise,
    #: angles and places differ between images in any case).
    per_image: bool = False
    #: Whether half of the views are mirrored; False where a mirrored image is another class.
    flip: bool = True

    def draw(self, count: int, x: Tensor, generator: torch.Generator) -> Draws:
        """As `CottaViews.draw`."""
        n = count * len(x) if self.per_image else count
        return {
            "seed": torch.randint(2**62, (n,), generator=generator),
            "flip": torch.rand(n, generator=generator) < (0.5 if self.flip else 0.0),
        }

    def apply(self, x: Tensor, draws: Draws, generator: torch.Generator | None = None) -> Tensor:
        """As `CottaViews.apply`; noise comes from the draws."""
        import corruptions

        seeds = draws["seed"].tolist()
        parts = x.split(1) if self.per_image else (x,)
        images = torch.cat([
            corruptions.targeted_views(parts[k % len(parts)], self.dataset, 1, torch.Generator().manual_seed(seed))
            for k, seed in enumerate(seeds)
        ])  # fmt: skip
        mirrored = draws["flip"].repeat_interleave(len(images) // len(seeds)).to(x.device)
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)
