"""Reproduction: runs the protocol of a published value, and says whether the value came out."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta import reproduction_files as files
from tta.bench import run_cells
from tta.cell_job import Watch, failure
from tta.cells import Cell
from tta.data.images import ImageData
from tta.errors import TTAError
from tta.ledger import Entry
from tta.reproduction_files import Places
from tta.results import Results
from tta.scenarios import Scenario
from tta.source_data import SourceData
from tta.streams import Domain, Stream, make_stream
from tta.verdict import FAILED, MISSING, Verdict, judge

if TYPE_CHECKING:
    from tta.models import SourceModel

#: As many training images as fit into this many bytes are given to a method that was published with all.
SOURCE_BYTES = 2**30


class PublishedLab:
    """A lab with the model, images and streams of a published protocol; pickled, it takes nothing loaded along.

    Args:
        entry: The published value.
        places: Where things are.
    """

    probe = None  # the clean images are no part of the published protocols

    def __init__(self, entry: Entry, places: Places) -> None:
        self.entry, self.protocol, self.places = entry, entry.protocol, places
        self._images: dict[tuple[str, int], ImageData] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.entry, self.places)

    @cached_property
    def model(self) -> SourceModel:
        """The source model."""
        from tta.commands import choose_device
        from tta.models import load_source

        spec, places = self.places.model or self.protocol.model, self.places
        return load_source(spec, weights=places.weights, device=choose_device(places.device, None))

    @cached_property
    def source_data(self) -> Any:
        """Training images, as many as the method was published with, or as fit: `SourceImages`, or None."""
        from tta.datasets import load_data

        wanted, size = self.entry.source_images, 224 if self.protocol.data == "imagenet" else 32
        if not wanted:
            return None
        limit = SOURCE_BYTES // (3 * size * size) if wanted == "all" else int(wanted)
        return SourceImages(load_data(self.protocol.data, self.places.root, split="train", limit=limit, size=size))

    def stream(self, scenario: Scenario, seed: int) -> Stream:
        """The stream of a seed, or of a published order."""
        from corruptions import COMMON
        from tta.published_orders import published_order

        protocol = self.protocol
        names = published_order(seed) if protocol.orders else protocol.domains or COMMON
        lowest = 1 if protocol.order == "gradual" else protocol.severity
        shifts = [(name, severity) for name in names for severity in range(lowest, protocol.severity + 1)]
        domains = [Domain(name, severity, self.images(name, severity)) for name, severity in shifts]
        return make_stream(domains, scenario.order, scenario.batch_size, seed, arrangement=scenario.arrangement)

    def images(self, name: str, severity: int) -> ImageData:
        """The stored images of a domain.

        Raises:
            TTAError: They are not there, or damaged.
        """
        from tta.data.enlarged import Enlarged
        from tta.datasets import stored_corruption

        if (name, severity) not in self._images:
            folder = files.stored_folder(self.protocol, self.places)
            if folder is None:
                raise TTAError(" ".join(files.missing(self.entry, self.places)))
            if self.protocol.listed:
                data = self._listed(folder, name, severity)
            else:
                data = stored_corruption(folder, name, severity, limit=self.places.limit)
            self._images[name, severity] = Enlarged(data, self.protocol.resize) if self.protocol.resize else data
        return self._images[name, severity]

    def _listed(self, root: Path, name: str, severity: int) -> ImageData:
        """The images of ImageNet-C that a file lists, in its order."""
        from corruptions.files import severity_folder
        from tta.data.image_files import FileImages, check_there
        from tta.data.imagenet import descriptions, wnids

        folder, listed = severity_folder(root, name, severity), files.listed_images(self.protocol, self.places)
        if folder is None or listed is None:
            raise TTAError(" ".join(files.missing(self.entry, self.places)))
        names, places = listed.read_text().split(), {wnid: place for place, wnid in enumerate(wnids())}
        if strange := [file for file in names if file.partition("/")[0] not in places]:
            raise TTAError(f"{listed} names {strange[0]}; expected WNID/IMAGE.JPEG in every line")
        check_there(folder, names, listed)
        labels = [places[file.partition("/")[0]] for file in names]
        return FileImages(
            f"{root.name}/{name}-{severity}", folder, names, labels, wnids(), classes=descriptions(),
            limit=self.places.limit, where=f"listed in {listed}",
        )  # fmt: skip

    def unlike(self, results: Results) -> list[str]:
        """What was otherwise than published in a run with these results."""
        protocol, places, found = self.protocol, self.places, []
        if places.model is not None and places.model != protocol.model:
            found.append(f"the model is {places.model}, not {protocol.model}")
        else:
            file, digest = files.checkpoint(protocol, places)
            if digest and file.is_file() and not files.file_sha256(file).startswith(digest):
                found.append(f"the checkpoint {file} is not the published one, whose SHA-256 begins with {digest}")
        counts = sorted({row.n for row in results.rows if row.metric == "error" and row.position >= 0})
        if counts != [protocol.images]:
            given = f", with a limit of {places.limit:,}" if places.limit is not None else ""
            told = "-".join(f"{count:,}" for count in sorted({counts[0], counts[-1]}))
            found.append(f"{told} images per visit instead of {protocol.images:,}{given}")
        folder = files.stored_folder(protocol, places)
        if folder is not None and files.computed(folder):
            found.append(f"the images in {folder} were computed by `tta corrupt`, not published")
        listed = files.listed_images(protocol, places) if protocol.listed else None
        if listed is not None and files.list_sha256(listed) != protocol.listed_sha256:
            found.append(f"{listed} is not the published list, whose SHA-256 is {protocol.listed_sha256}")
        return found + self._unlike_source()

    def _unlike_source(self) -> list[str]:
        wanted = self.entry.source_images
        if not wanted or self.source_data is None:
            return []
        published = {"imagenet": 1_281_167}.get(self.protocol.data, 50_000) if wanted == "all" else int(wanted)
        count = len(self.source_data)
        return [] if count == published else [f"{count:,} source images instead of {published:,}"]


class SourceImages(SourceData):
    """Labelled source images in memory: all of a data set, not only a part of it."""

    def __init__(self, data: ImageData) -> None:
        super().__init__(data.images(slice(None)), data.labels)
        self.fingerprint = data.fingerprint


def reproduce(
    entry: Entry,
    places: Places,
    *,
    out: Path | None = None,
    fresh: bool = False,
    watch: Watch | None = None,
    workers: int = 1,
) -> Verdict:
    """Runs the protocol of a published value, all its seeds, and judges the result.

    Args:
        entry: The published value.
        places: Where data and weights are, and what is to be done otherwise than published.
        out: Folder whose subfolder of the entry's id keeps results and finished cells; None keeps nothing.
        fresh: Run again what is finished there.
        watch: Sees the progress.
        workers: Processes, each with one seed at a time.

    Returns:
        The verdict; "missing" if data or weights are not there or cannot be used.

    Raises:
        TTAError: Another model than the published one was given, and cannot be used.
    """
    if absent := files.missing(entry, places):
        return Verdict.of(entry, MISSING, absent)
    protocol, lab = entry.protocol, PublishedLab(entry, places)
    scenario = Scenario(protocol.order, protocol.arrangement, "none", protocol.batch_size, protocol.reset)  # type: ignore[arg-type]  # checked
    cells = [Cell(entry.method, seed, scenario) for seed in entry.seeds]
    try:
        results = run_cells(
            cells, lab, refused="record", out=None if out is None else out / entry.id, fresh=fresh, watch=watch,
            workers=workers,
        )  # fmt: skip
        return verdict(entry, results, lab.unlike(results) if failure(results) is None else [])
    except TTAError as error:
        if places.model is not None:
            raise
        return Verdict.of(entry, MISSING, [str(error)])


def verdict(entry: Entry, results: Results, unlike: list[str]) -> Verdict:
    """The verdict on results, with their provenance.

    Args:
        entry: The published value.
        results: Of all its seeds.
        unlike: What was otherwise than published.
    """
    cells = results.provenance["cells"]
    if (reason := failure(results)) is not None:
        return Verdict.of(entry, FAILED, [*unlike, reason], seeds=tuple(cell["seed"] for cell in cells))
    (summary,) = results.summary()
    mean, cell = summary.mean, cells[0]
    environment = results.provenance["environments"][cell["environment"]]
    code = environment["code"] or {}
    kind, remarks = judge(entry, mean.mean, unlike)
    return Verdict.of(
        entry, kind, remarks, measured=mean.mean, difference=mean.mean - entry.error,
        spread=mean.std if mean.seeds > 1 else None, n=summary.n, seeds=tuple(cell["seed"] for cell in cells),
        model=cell["model"]["name"] or "", checkpoint=cell["model"]["sha256"] or "",
        commit=code.get("commit", "") + ("+" if code.get("dirty") else ""),
        versions={name: environment[name] for name in ("python", "tta", "torch", "torchvision", "timm", "numpy")},
        date=cell["date"],
    )  # fmt: skip
