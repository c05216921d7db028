"""The files that a published protocol needs: where they are looked for, and what to get where they are not."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from corruptions import COMMON
from corruptions.files import severity_folder
from corruptions.writing.record import RECORD
from tta.data.published import IMAGENET_C, PUBLISHED, Publication, what_to_do
from tta.errors import TTAError
from tta.ledger import Entry, Protocol
from tta.robustbench_nets import NETS
from tta.sources import robustbench_file, torch_cache

#: Folders of other published sets, so that one is not taken for another.
SETS = ("CIFAR-10-C", "CIFAR-100-C", "ImageNet-C")


@dataclass(frozen=True)
class Places:
    """Where things are, and what is done otherwise than published.

    Attributes:
        data: Folder of the data sets; the environment variable TTA_DATA, else the folder "data", if not given.
        stored: Folder of the stored corruptions, or the folder around it; looked for in `data` if not given.
        weights: Checkpoint of the model; where its publisher's package keeps it if not given.
        model: Another model than the published one.
        limit: At most so many images per visit.
        device: Where to run.
    """

    data: Path | None = None
    stored: Path | None = None
    weights: Path | None = None
    model: str | None = None
    limit: int | None = None
    device: str = "auto"

    @property
    def root(self) -> Path:
        """Folder of the data sets."""
        return self.data or Path(os.environ.get("TTA_DATA") or "data")

    def looked(self, protocol: Protocol) -> list[Path]:
        """The folders that the stored corruptions may be in."""
        around = [self.stored] if self.stored is not None else [self.root, self.root / protocol.data]
        own = [self.stored] if self.stored is not None and self.stored.resolve().name not in SETS else []
        if self.stored is not None and self.stored.resolve().name == protocol.stored:
            return [self.stored]
        return [*(folder / protocol.stored for folder in around), *own]


def missing(entry: Entry, places: Places) -> list[str]:
    """What is not there, each with where it was looked for and what to get.

    A checkpoint that can be downloaded is told of where other things are missing too.
    """
    protocol = entry.protocol
    wanted = [_missing_images(protocol, places), _missing_list(protocol, places), _missing_source_images(entry, places)]
    found = [reason for reason in wanted if reason]
    if places.model is None and (reason := _missing_weights(protocol, places, bool(found))):
        found.append(reason)
    return found


def stored_folder(protocol: Protocol, places: Places) -> Path | None:
    """The folder that has all corruptions of the protocol; None where there is none."""
    return next((folder for folder in places.looked(protocol) if not _absent(protocol, folder)), None)


def computed(folder: Path) -> bool:
    """Whether the images were written by this package, not published."""
    return (folder / RECORD).is_file()


def _absent(protocol: Protocol, folder: Path) -> list[str]:
    """The corruptions that a folder has not."""
    names = protocol.domains or COMMON
    if protocol.listed:
        return [name for name in names if severity_folder(folder, name, protocol.severity) is None]
    return [name for name in names if not (folder / f"{name}.npy").is_file()]


def _missing_images(protocol: Protocol, places: Places) -> str:
    if stored_folder(protocol, places) is not None:
        return ""
    looked, names = places.looked(protocol), protocol.domains or COMMON
    best = min(looked, key=lambda folder: len(_absent(protocol, folder)))
    absent = _absent(protocol, best)
    state = f"{best} lacks {', '.join(absent)}" if len(absent) < len(names) else (
        f"{protocol.stored} is not in {' or '.join(map(str, looked))}"
    )  # fmt: skip
    layout = "NAME.npy, five severities after each other, and labels.npy"
    if protocol.listed:
        layout = "NAME/SEVERITY/WNID/IMAGE"
    if protocol.data == "imagenet":
        parts = tuple(part for part, inside in IMAGENET_C.items() if {*inside} & {*absent})
        publication = Publication("zenodo.org/records/2235448", parts, bare=True)
    else:
        publication = PUBLISHED[f"{protocol.data}-c"]
    target = looked[:1] if publication.bare else [folder.parent for folder in looked[:1]]
    advice = what_to_do(target, publication, "give --data DIR or --stored DIR")
    return f"{state}; expected {layout}; {advice}"


def listed_images(protocol: Protocol, places: Places) -> Path | None:
    """The file that lists the images: in the folder of the data, beside the stored ones, or in RobustBench."""
    folders = [*places.looked(protocol), places.root]
    spec = importlib.util.find_spec("robustbench")
    folders += [Path(place) / "helper_files" for place in (spec.submodule_search_locations or [] if spec else [])]
    return next((folder / protocol.listed for folder in folders if (folder / protocol.listed).is_file()), None)


def list_sha256(file: Path) -> str:
    """SHA-256 of the names in a file, a line feed between two, whatever its line ends are."""
    return hashlib.sha256("\n".join(file.read_text().split()).encode()).hexdigest()


def _missing_list(protocol: Protocol, places: Places) -> str:
    if not protocol.listed or listed_images(protocol, places) is not None:
        return ""
    return (
        f"{protocol.listed}, which names the {protocol.images:,} images, is not in {places.root}; it is"
        f" robustbench/helper_files/{protocol.listed} of RobustBench (SHA-256 {protocol.listed_sha256}): put it there,"
        " or install that package"
    )


def _missing_source_images(entry: Entry, places: Places) -> str:
    from tta.datasets import load_data

    if not entry.source_images:
        return ""
    try:
        load_data(entry.protocol.data, places.root, split="train", limit=1)
    except TTAError as error:
        return f"{entry.method} needs source images: {error}"
    return ""


def checkpoint(protocol: Protocol, places: Places) -> tuple[Path, str]:
    """The file of the published checkpoint, and the beginning of its SHA-256; empty where none is published."""
    origin, _, name = protocol.model.partition(":")
    if origin == "robustbench":
        return places.weights or robustbench_file(name), ""
    from torchvision.models import get_model_weights

    name, _, weights = name.partition(":")
    file = get_model_weights(name)[weights].url.rpartition("/")[2]
    match = re.search(r"-([0-9a-f]{8,})\.pth$", file)
    return places.weights or torch_cache() / file, match[1] if match else ""


def file_sha256(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        digest = hashlib.sha256()
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _missing_weights(protocol: Protocol, places: Places, others: bool) -> str:
    """A checkpoint that is not there; one that can be downloaded only where `others` are missing too."""
    file, digest = checkpoint(protocol, places)
    if file.is_file():
        return ""
    origin, _, name = protocol.model.partition(":")
    known = f"SHA-256 {digest}..." if digest else "no published hash"
    if places.weights is not None:
        return f"the checkpoint {file} is not there; expected that of {protocol.model} ({known})"
    loadable = origin != "robustbench" or name not in NETS or importlib.util.find_spec("robustbench") is not None
    if loadable and not others:
        return ""
    where = protocol.weights or "the publisher, which is asked when all else is there"
    return f"the checkpoint {file} is not there ({known}); get it from {where}, or give --weights FILE"
