"""What is evaluated on what: the options that commands have in common."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tta.errors import TTAError

#: Three batches of 64 per domain: `tta bench` alone stays under two minutes on two cores.
DIGITS_LIMIT = 192
#: The domain of images as they are.
CLEAN = "clean"

Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Name = Annotated[str, tyro.conf.arg(metavar="NAME")]
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")]
Number = Annotated[int | None, tyro.conf.arg(metavar="N")]
Seeds = Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...")]


@dataclass(frozen=True)
class Setup:
    """Data, model, corruptions and machine."""

    dataset: Name = "digits"
    """digits, cifar10, cifar100, imagenet, imagenet-r, tiny-imagenet, a MedMNIST name ..., or the path of an .npz, an
    .npy, a folder CLASS/IMAGE, or a folder DOMAIN/CLASS/IMAGE, whose domains then make the stream."""
    data: Folder = None
    """Folder in which the data set lies; the environment variable TTA_DATA if not given."""
    stored: Folder = None
    """Folder of stored corruptions (CIFAR-10-C, ImageNet-C, MedMNIST-C); they are computed if not given."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """timm name, torchvision:NAME, robustbench:DATASET/THREAT/NAME, FILE.py:FUNCTION, checkpoint or digits."""
    weights: File = None
    """Checkpoint of the model, best as .safetensors."""
    domains: Names = ()
    """Corruptions in the order of their appearance, or clean; published:0 to published:9 are the orders of the 15
    common ones that results are averaged over; the 15 as usual if not given. `tta corruptions` lists them."""
    frost: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the published frost photographs, or imagecorruptions for those of that package; ours if not given."""
    severity: Annotated[float, tyro.conf.arg(metavar="0-5")] = 5.0
    """Severity of the corruptions, 0 (clean) to 5. The gradual order goes from 1 to this one."""
    ood: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Data set whose images the intruders of the kind ood are; the embedded digits if not given."""
    limit: Number = None
    """At most so many images per domain; 192 of the embedded digits, all of other data, if not given."""
    size: Number = None
    """Side of the images in pixels: they are resized and cropped to it."""
    device: Name = "auto"
    """auto (CUDA if there is a device), cpu, cuda, cuda:1, mps."""
    threads: Number = None
    """CPU threads for the network; as many as torch likes if not given, one for the embedded digits."""

    def check_setup(self) -> None:
        """What can be told before anything is loaded.

        Raises:
            TTAError, CorruptionError: An unknown corruption, a severity that does not exist, fewer than one thread.
        """
        from corruptions import get
        from corruptions.frost import set_frost_folder
        from corruptions.op import check_severity

        set_frost_folder(self.frost)
        check_severity(self.severity)
        for name in self.shifts() if self.stored is None and not self.natural else ():
            if name != CLEAN:
                get(name)
        if self.threads is not None and self.threads < 1:
            raise TTAError(f"--threads is {self.threads}; give at least 1")

    @property
    def natural(self) -> Path | None:
        """The folder DOMAIN/CLASS/IMAGE in which the data lie, if they do: their domains then make the stream."""
        from tta.data.domains import holds_domains

        place = Path(self.data or os.environ.get("TTA_DATA") or "data")
        return next((p for p in (Path(self.dataset), place / self.dataset) if p.is_dir() and holds_domains(p)), None)

    def shifts(self) -> tuple[str, ...]:
        """Names of the domains; of natural ones, only those that are given.

        Raises:
            TTAError: There is no such published order.
        """
        import corruptions
        from tta.published_orders import published_order

        if len(self.domains) == 1 and self.domains[0].startswith("published:"):
            number = self.domains[0].partition(":")[2]
            return published_order(int(number) if number.isdecimal() else -1)
        return self.domains or (() if self.natural else corruptions.COMMON)

    def severities(self, order: str) -> list[float]:
        """The severities of each corruption in an order: one, but for the gradual order.

        Raises:
            TTAError: The gradual order has no way to the severity.
        """
        if order != "gradual":
            return [self.severity]
        if self.severity < 2 or self.severity % 1:
            raise TTAError(
                f"the gradual order goes from severity 1 to --severity; give 2, 3, 4 or 5, not {self.severity:g}"
            )
        return [float(s) for s in range(1, int(self.severity) + 1)]
