"""The lab that the options of a command describe."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tta.errors import TTAError
from tta.setup import CLEAN, DIGITS_LIMIT, Setup

if TYPE_CHECKING:
    import torch

    from tta.ccc import CCC
    from tta.data.images import ImageData
    from tta.intruders import Intruders
    from tta.models import SourceModel
    from tta.scenarios import Scenario
    from tta.sharing import Share
    from tta.streams import Domain, Stream

#: Corrupted images are kept for the next method if those of a stream take no more bytes than this.
KEPT_BYTES = 2**28
#: As many training images as a method that needs some is given at most.
SOURCE_IMAGES = 2000


class SetupLab:
    """A lab that loads what a setup names, when it is asked for; pickled, it takes nothing of that along.

    Args:
        setup: What to load.
        ccc: What stream the order ccc is.
        source_split: Split of the data set that the source data are of.
    """

    #: Folder in which corrupted images may lie that another worker has made.
    shared: Path | None = None

    def __init__(self, setup: Setup, ccc: CCC | None = None, source_split: str = "train") -> None:
        self.setup, self.ccc, self.source_split = setup, ccc, source_split
        self._intruding: tuple[Any, Intruders | None] | None = None
        self._kept: tuple[int, dict[tuple[str, float], ImageData]] = (0, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.setup, self.ccc, self.source_split), {"shared": self.shared}

    @cached_property
    def device(self) -> torch.device:
        """Where the model runs; the corruptions too."""
        from tta.commands import choose_device

        # The layers of the embedded digits are too small to be shared between threads.
        small = self.setup.threads is None and self.setup.dataset == "digits"
        return choose_device(self.setup.device, 1 if small else self.setup.threads)

    @cached_property
    def model(self) -> SourceModel:
        """The source model; restricted to the classes of the data where these are some of ImageNet's."""
        from tta.class_subset import fit_classes

        return fit_classes(self.whole_model, self.images)

    @cached_property
    def whole_model(self) -> SourceModel:
        """The source model with all its classes."""
        from tta.datasets import load_data
        from tta.models import load_source

        setup = self.setup
        setup.check_setup()
        if setup.model is None and setup.dataset != "digits":
            load_data(setup.dataset, setup.data, limit=1)  # whether the data are there comes first
            raise TTAError(
                f"--dataset {setup.dataset} needs a --model: a timm name, torchvision:NAME, FILE.py:FUNCTION ..."
            )
        return load_source(setup.model or "digits", weights=setup.weights, device=self.device)

    @cached_property
    def images(self) -> ImageData:
        """The clean images; where the data have natural domains, those of the first."""
        return next(iter(self.natural.values())) if self.setup.natural else self._load("test", self.setup.limit)

    @cached_property
    def natural(self) -> dict[str, ImageData]:
        """The natural domains."""
        return self.natural_domains(self.setup.shifts())

    def natural_domains(self, names: Sequence[str]) -> dict[str, ImageData]:
        """Natural domains in the size that was asked for, or the model's, or that of all images, or 224."""
        from tta.datasets import domain_folders

        setup, size = self.setup, self.setup.size or self.whole_model.size
        assert setup.natural is not None
        found = domain_folders(setup.natural, names=names, size=size, limit=setup.limit)
        shapes = {images.shape for images in found.values()}
        if len(shapes) == 1 and None not in shapes:
            return found
        return domain_folders(setup.natural, names=names, size=224, limit=setup.limit)

    @property
    def probe(self) -> ImageData | None:
        """The clean images, for forgetting; none where no natural domain is cleaner than another."""
        return None if self.setup.natural else self.images

    @cached_property
    def source_data(self) -> ImageData:
        """Images the model was trained on, or such as these."""
        return self._load(self.source_split, SOURCE_IMAGES)

    def _load(self, split: str, limit: int | None) -> ImageData:
        from tta.datasets import load_data

        setup, model = self.setup, self.whole_model
        if limit is None and setup.dataset == "digits":
            limit = DIGITS_LIMIT
        channels = model.channels
        data = load_data(setup.dataset, setup.data, split=split, limit=limit, size=setup.size, channels=channels)
        if data.shape is None:  # pictures of several sizes cannot make a batch
            size = model.size or 224
            return load_data(setup.dataset, setup.data, split=split, limit=limit, size=size, channels=channels)
        return data

    def stream(self, scenario: Scenario, seed: int) -> Stream:
        """The stream of a scenario over the setup's data and corruptions.

        Raises:
            TTAError, CorruptionError: It cannot be made.
        """
        from tta.streams import make_stream

        if scenario.order == "ccc":
            return self._ccc_stream(scenario, seed)
        domains = self._domains(scenario.order, seed)
        intruders = self._intruders(scenario.intruders, domains, seed)
        return make_stream(
            domains, scenario.order, scenario.batch_size, seed, arrangement=scenario.arrangement, intruders=intruders
        )

    def _domains(self, order: str, seed: int) -> list[Domain]:
        from tta.data.kept import Kept
        from tta.streams import Domain

        if self.setup.natural:
            return [Domain(name, 0, images) for name, images in self.natural.items()]
        shifts = self._shifts(order)
        if not self._fits(shifts):
            return [Domain(name, severity, self.under(name, severity, seed)) for name, severity in shifts]
        # The same images for every scenario of a seed, computed once.
        if self._kept[0] != seed:
            self._kept = seed, {}
        kept = self._kept[1]
        for name, severity in shifts:
            if (name, severity) not in kept:
                file = self.shared and self.shared / f"{seed}-{name}-{severity:g}.npy"
                kept[name, severity] = Kept(self.under(name, severity, seed), file)
        return [Domain(name, severity, kept[name, severity]) for name, severity in shifts]

    def _shifts(self, order: str) -> list[tuple[str, float]]:
        """Corruption and severity of the domains."""
        severities = self.setup.severities(order)
        return [(name, level) for name in self.setup.shifts() for level in ([0.0] if name == CLEAN else severities)]

    def _fits(self, shifts: Sequence[tuple[str, float]]) -> bool:
        """Whether the corrupted images are kept."""
        return len(self.images) * math.prod(self.images.shape or ()) * len(shifts) <= KEPT_BYTES

    def sharing(self, folder: Path) -> SetupLab:
        """The same lab, which looks into a folder for corrupted images before it computes them."""
        lab = copy.copy(self)
        lab.shared = folder
        return lab

    def shares(self, scenario: Scenario, seed: int) -> list[Share]:
        """The corrupted images of a stream, if they are computed and kept."""
        from tta.sharing import Share

        if self.setup.natural or self.setup.stored is not None or scenario.order == "ccc":
            return []
        shifts = self._shifts(scenario.order)
        return [Share(name, level, seed) for name, level in shifts if name != CLEAN] if self._fits(shifts) else []

    def make(self, share: Share) -> None:
        """Computes images and puts them into the folder."""
        from tta.data.kept import Kept

        assert self.shared is not None
        file = self.shared / f"{share.seed}-{share.name}-{share.severity:g}.npy"
        Kept(self.under(share.name, share.severity, share.seed), file).write()

    def under(self, name: str, severity: float, seed: int) -> ImageData:
        """The data under one corruption, computed or as they are stored."""
        from tta.datasets import Corrupted, stored_corruption

        setup, data = self.setup, self.images
        if name == CLEAN:
            return data
        if setup.stored is None:
            return Corrupted(data, name, severity, seed, device=self.device)
        if severity % 1:
            raise TTAError(f"stored corruptions have the severities 1 to 5, not {severity:g}")
        channels, _, size = data.shape or (None, None, None)
        return stored_corruption(
            setup.stored, name, int(severity), like=data, limit=setup.limit, size=size, channels=channels
        )

    def _intruders(self, text: str, domains: list[Domain], seed: int) -> Intruders | None:
        """What is mixed in; malicious users poison images of the training split under the stream's corruptions."""
        from tta.datasets import Corrupted, load_data
        from tta.intruder_kinds import make_intruders, read_intruders
        from tta.streams import Domain

        which = (text, seed, tuple(domain.label for domain in domains))
        if self._intruding is not None and self._intruding[0] == which:
            return self._intruding[1]
        kind, data, own, other = read_intruders(text), self.images, list[Domain](), None
        if kind is not None and kind[0] == "ood":
            channels, height, _ = data.shape or (3, 224, 224)
            other = load_data(self.setup.ood or "digits", self.setup.data, size=height, channels=channels)
        elif kind is not None and kind[0].startswith(("benign", "poison")):
            if self.setup.natural or any(">" in domain.name for domain in domains):
                raise TTAError(
                    f"intruders of the kind {kind[0]} bring images under the corruptions of the stream, which natural"
                    " domains and the order ccc do not have one by one; choose noise or ood"
                )
            own = [
                Domain(d.name, d.severity, Corrupted(self.source_data, d.name, d.severity, seed, device=self.device))
                for d in domains
            ]
        own = [dataclasses.replace(domain, scored=False) for domain in own]
        found = make_intruders(text, domains, own=own, other=other, model=self.model, seed=seed)
        self._intruding = which, found
        return found

    def _ccc_stream(self, scenario: Scenario, seed: int) -> Stream:
        """The stream of the order ccc; what it needs to know of the source model is measured once and kept."""
        from tta.ccc import CCC, make_ccc
        from tta.ccc_accuracy import Accuracies, cache_folder
        from tta.commands import complain

        if self.setup.stored is not None:
            raise TTAError("the order ccc computes its images; leave --stored out")
        ccc = self.ccc or CCC(names=self.setup.domains)
        accuracies = Accuracies(
            self.model, self.images, folder=cache_folder(), crop=ccc.crop, store_jpeg=ccc.store_jpeg, device=self.device
        )
        if not accuracies.cells:
            complain(f"measuring {self.model.name} under pairs of corruptions, to be kept in {accuracies.file}")
        stream = make_ccc(self.images, accuracies, ccc, scenario.batch_size, seed, device=self.device)
        intruders = self._intruders(scenario.intruders, list(stream.domains), seed)
        if intruders is None:
            return stream
        return make_ccc(
            self.images, accuracies, ccc, scenario.batch_size, seed, device=self.device, intruders=intruders
        )
