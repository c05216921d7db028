"""The command `tta corrupt`: images under corruptions, to look at or to keep."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tta.commands import OK
from tta.errors import TTAError
from tta.setup import File, Folder, Name, Names, Number

CORRUPT = """Corrupt images: a contact sheet of one picture, or a data set on disk, laid out like the published ones.
A set that was interrupted continues with the same command.

examples:
  tta corrupt --preview photo.jpg
  tta corrupt --preview photo.jpg --suite imagenet-c-bar --out sheet.png
  tta corrupt --dataset cifar10 --data DIR --suite imagenet-c --format cifar --out CIFAR-10-C --workers 8
  tta corrupt --dataset imagenet --data DIR --size 224 --names fog snow --severities 3 5 --format imagenet --out DIR"""


@dataclass(frozen=True)
class Corrupt:
    """Corrupt images: a contact sheet of one picture, or a whole data set on disk."""

    preview: File = None
    """Picture to show under every corruption at severities 0 to 5; above 224 pixels it is resized and cropped."""
    suite: Name | None = None
    """Only the corruptions of this suite; `tta corruptions` lists them."""
    out: File = None
    """Where to write: a picture, preview.png if not given; or the folder of a set."""
    seed: int = 0
    """Seed of the corruptions' randomness."""
    dataset: Name | None = None
    """Data set to write: digits, cifar10, cifar100, imagenet, a MedMNIST name, or a path, as in `tta bench`."""
    data: Folder = None
    """Folder in which the data set lies; the environment variable TTA_DATA if not given."""
    split: Name = "test"
    """test, val or train."""
    limit: Number = None
    """At most so many images."""
    size: Number = None
    """Side of the images in pixels: they are resized and cropped to it."""
    names: Names = ()
    """Corruptions to write; those of --suite, or of imagenet-c, if not given."""
    severities: Annotated[tuple[float, ...], tyro.conf.arg(metavar="S ...")] = (1, 2, 3, 4, 5)
    """Severities to write; cifar and medmnist hold exactly these five."""
    format: Name = "cifar"
    """cifar (NAME.npy), imagenet (NAME/SEVERITY/CLASS/IMAGE), medmnist (NAME.npz) or shards (tar archives)."""
    store_jpeg: Number = None
    """JPEG quality, 1 to 100, of image files, or of a pass through such a file for arrays; 85 for imagenet."""
    lossless: bool = False
    """PNG files instead of JPEG for the format imagenet."""
    quantise: Name | None = None
    """truncate to 256 levels, as the published scripts and if not given, or round."""
    exact: bool = False
    """Compute in float64 in the published order of operations."""
    shard_images: int = 25_000
    """Images in a shard."""
    workers: int = 1
    """Processes that write; the bytes do not depend on their number."""
    engine: Name = "processes"
    """processes, or ray for a Ray cluster, whose nodes must all see the data and the output folder."""
    address: Name | None = None
    """Address of the Ray cluster; a local one if not given."""
    frost: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the published frost photographs, or imagecorruptions for those of that package; ours if not given."""
    device: Name = "cpu"
    """Where to compute: cpu, cuda, cuda:1."""

    def run(self) -> int:
        """Does what the options ask for."""
        if self.preview is not None:
            return self._preview(self.preview)
        if self.dataset is None:
            raise TTAError(
                "nothing to corrupt: give a picture, `tta corrupt --preview photo.jpg`, or a data set, "
                "`tta corrupt --dataset cifar10 --out DIR`"
            )
        return self._write(self.dataset)

    def _write(self, dataset: str) -> int:
        """Writes a set, and says what is in it."""
        import corruptions
        from corruptions.writing import Plan
        from tta.commands import choose_device, complain
        from tta.corrupt_files import progress, with_quality, write_set
        from tta.datasets import load_data

        if self.out is None:
            raise TTAError("a set needs a folder: give --out DIR")
        corruptions.set_frost_folder(self.frost)
        plan = Plan(
            self.format, self.names or corruptions.suite(self.suite or "imagenet-c"), self.severities, self.seed,
            self.exact, self.quantise, self.store_jpeg, self.shard_images, str(choose_device(self.device, None)),  # type: ignore[arg-type]  # checked by the plan
        )  # fmt: skip
        plan = with_quality(plan, self.lossless)
        plan.check()
        data = load_data(dataset, self.data, split=self.split, limit=self.limit, size=self.size)
        with progress() as watch:
            written, prepared = write_set(data, self.out, plan, self.workers, self.engine, self.address, watch)
        if prepared.unreadable:
            complain(
                f"warning: {len(prepared.unreadable)} files cannot be read and are left out, such as "
                f"{prepared.unreadable[0]}; all are listed in {self.out / 'corruptions.json'}"
            )
        sys.stdout.write(
            f"{len(plan.names)} corruptions x {len(plan.severities)} severities x {len(prepared.data):,} images = "
            f"{written.images:,} images in {self.out}"
            + (f" ({written.resumed} of {written.units} parts were there)" if written.resumed else "")
            + "\n"
        )
        return OK

    def _preview(self, picture: Path) -> int:
        """Writes the contact sheet, and says where it is."""
        import corruptions
        from corruptions.preview import contact_sheet, read_picture
        from corruptions.suites import by_suite

        if self.suite is None:
            names = [name for members in by_suite(corruptions.names()).values() for name in members]
        else:
            names = list(corruptions.suite(self.suite))
        out = self.out or Path("preview.png")
        if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise TTAError(f"--out is {out}; a contact sheet is a picture: end it in .png or .jpg")
        sheet = contact_sheet(read_picture(picture), names, self.seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out)
        sys.stdout.write(f"{len(names)} corruptions at five severities: {out}\n")
        return OK
