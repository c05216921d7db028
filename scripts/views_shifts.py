"""Adversarial one-pixel flips of a model, alone and under crop_select.

The camera looks at an image through a window that moves by one pixel in the eight directions, inside the image, so that
no pixel is made up. An image is flipped if its answer in any of the eight windows is another than in the middle one.
The clean error is that of the middle window: python scripts/views_shifts.py --model resnet.py:build --data DIR
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import tta
from tta.shift_consistency import framed, shift_consistency


@dataclass(frozen=True)
class Options:
    """What to run. The window is two pixels smaller than the images."""

    model: str
    dataset: str = "cifar10"
    data: Path | None = None
    #: Side to which the images are enlarged first, bilinear; and that of the middle of a window that the model alone
    #: is given, the whole window if not told.
    enlarge: int | None = None
    middle: int | None = None
    #: Setting of crop_select.
    preset: str | None = None
    #: Of its random score.
    seeds: tuple[int, ...] = (0,)
    #: Which images: all, or those at even or odd places, to choose settings on and to report on.
    part: Literal["all", "even", "odd"] = "all"
    limit: int | None = None
    threads: int = 1


@dataclass
class Pictures:
    """Images in memory, labelled."""

    name: str
    all: Tensor
    labels: Tensor
    fingerprint: str = ""

    def __len__(self) -> int:
        return len(self.all)

    def images(self, index: Tensor) -> Tensor:
        """Float images in [0, 1], (B, C, H, W)."""
        return self.all[index]


class Middle(nn.Module):
    """A model that is given the middle of the images."""

    def __init__(self, model: nn.Module, side: int | None) -> None:
        super().__init__()
        self.model, self.side = model, side

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self.model(framed(x, 0, self.side))


def main(options: Options) -> None:
    """Measures and shows the table."""
    torch.set_num_threads(options.threads)
    model = tta.load_source(options.model)
    data = tta.load_data(options.dataset, options.data, limit=options.limit)
    index = torch.arange(len(data))
    index = {"all": index, "even": index[::2], "odd": index[1::2]}[options.part]
    x = data.images(index).float() / 255
    if options.enlarge is not None:
        x = F.interpolate(x, (options.enlarge, options.enlarge), mode="bilinear")
    pictures, window = Pictures(data.name, x, data.labels[index]), x.shape[-1] - 2
    alone = model if options.middle is None else Middle(model, options.middle)
    table = Table("", "adversarial flips %", "flips per shift %", "clean error %", box=None)
    selecting = {
        f"crop_select, seed {seed}": tta.wrap(model, "crop_select", preset=options.preset, score_seed=seed)
        for seed in options.seeds
    }
    for name, net in {"model": alone, **selecting}.items():
        told = shift_consistency(net, pictures, crop=window)
        values = (told.adversarial_flip_rate, told.mean_flip_rate, error(net, pictures, window))
        table.add_row(name, *(f"{value:.2f}" for value in values))
    console = Console(width=120)
    console.print(table)
    console.print(f"{options.model}, n = {len(x)} images of {window + 2} pixels, window {window}, 8 shifts")


@torch.inference_mode()
def error(net: nn.Module, pictures: Pictures, window: int) -> float:
    """Error in % on the middle windows."""
    answers = [net(framed(pictures.all[index], 0, window)).argmax(1) for index in torch.arange(len(pictures)).split(64)]
    return 100 * (torch.cat(answers) != pictures.labels).double().mean().item()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
