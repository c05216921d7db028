"""What is evaluated on what: the options that commands have in common, and the lab they describe."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tta.errors import TTAError

if TYPE_CHECKING:
    import torch

    from tta.ccc import CCC
    from tta.data.images import ImageData
    from tta.intruders import Intruders
    from tta.models import SourceModel
    from tta.scenarios import Scenario
    from tta.streams import Domain, Stream

#: Three batches of 64 per domain: `tta bench` alone stays under two minutes on two cores.
DIGITS_LIMIT = 192
#: Corrupted images are kept for the next method if those of a stream take no more bytes than this.
KEPT_BYTES = 2**28
#: As many training images as a method that needs some is given at most.
SOURCE_IMAGES = 2000

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
    """digits, cifar10, cifar100, imagenet, a MedMNIST name, or the path of an .npz, an .npy or an image folder."""
    data: Folder = None
    """Folder in which the data set lies; the environment variable TTA_DATA if not given."""
    stored: Folder = None
    """Folder of stored corruptions (CIFAR-10-C, ImageNet-C, MedMNIST-C); they are computed if not given."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """timm name, torchvision:NAME, robustbench:DATASET/THREAT/NAME, FILE.py:FUNCTION, checkpoint or digits."""
    weights: File = None
    """Checkpoint of the model, best as .safetensors."""
    domains: Names = ()
    """Corruptions in the order of their appearance; the 15 common ones if not given. `tta corruptions` lists them."""
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
        for name in self.domains if self.stored is None else ():
            get(name)
        if self.threads is not None and self.threads < 1:
            raise TTAError(f"--threads is {self.threads}; give at least 1")

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


class SetupLab:
    """A lab that loads what a setup names, when it is asked for; pickled, it takes nothing of that along.

    Args:
        setup: What to load.
        ccc: What stream the order ccc is.
    """

    def __init__(self, setup: Setup, ccc: CCC | None = None) -> None:
        self.setup, self.ccc = setup, ccc
        self._intruding: tuple[Any, Intruders | None] | None = None
        self._kept: tuple[int, dict[tuple[str, float], ImageData]] = (0, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.setup, self.ccc)

    @cached_property
    def device(self) -> torch.device:
        """Where the model runs; the corruptions too."""
        from tta.commands import choose_device

        # The layers of the embedded digits are too small to be shared between threads.
        small = self.setup.threads is None and self.setup.dataset == "digits"
        return choose_device(self.setup.device, 1 if small else self.setup.threads)

    @cached_property
    def model(self) -> SourceModel:
        """The source model, checked against the data."""
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
    def probe(self) -> ImageData:
        """The clean data."""
        from tta.datasets import load_data

        setup, model = self.setup, self.model
        limit = DIGITS_LIMIT if setup.limit is None and setup.dataset == "digits" else setup.limit
        data = load_data(setup.dataset, setup.data, limit=limit, size=setup.size, channels=model.channels)
        if data.shape is None:  # pictures of several sizes cannot make a batch
            size = model.size or 224
            data = load_data(setup.dataset, setup.data, limit=setup.limit, size=size, channels=model.channels)
        if len(data.classes) != model.num_classes:
            raise TTAError(
                f"{model.name} predicts {model.num_classes} classes but {data.name} has {len(data.classes)};"
                " choose a model and data that belong together"
            )
        return data

    @cached_property
    def source_data(self) -> ImageData:
        """Images the model was trained on."""
        from tta.datasets import load_data

        setup = self.setup
        return load_data(
            setup.dataset, setup.data, split="train", limit=SOURCE_IMAGES, size=setup.size, channels=self.model.channels
        )

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
        import corruptions
        from tta.data.kept import Kept
        from tta.streams import Domain

        names = self.setup.domains or corruptions.COMMON
        shifts = [(name, severity) for name in names for severity in self.setup.severities(order)]
        size = len(self.probe) * math.prod(self.probe.shape or ())
        if size * len(shifts) > KEPT_BYTES:
            return [Domain(name, severity, self._shifted(name, severity, seed)) for name, severity in shifts]
        # The same images for every scenario of a seed, computed once.
        if self._kept[0] != seed:
            self._kept = seed, {}
        kept = self._kept[1]
        for shift in shifts:
            if shift not in kept:
                kept[shift] = Kept(self._shifted(*shift, seed))
        return [Domain(name, severity, kept[name, severity]) for name, severity in shifts]

    def _shifted(self, name: str, severity: float, seed: int) -> ImageData:
        """The data under one corruption, computed or as they are stored."""
        from tta.datasets import Corrupted, stored_corruption

        setup, data = self.setup, self.probe
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
        kind, data, own, other = read_intruders(text), self.probe, list[Domain](), None
        if kind is not None and kind[0] == "ood":
            channels, height, _ = data.shape or (3, 224, 224)
            other = load_data(self.setup.ood or "digits", self.setup.data, size=height, channels=channels)
        elif kind is not None and kind[0].startswith(("benign", "poison")):
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
            self.model, self.probe, folder=cache_folder(), crop=ccc.crop, store_jpeg=ccc.store_jpeg, device=self.device
        )
        if not accuracies.cells:
            complain(f"measuring {self.model.name} under pairs of corruptions, to be kept in {accuracies.file}")
        return make_ccc(self.probe, accuracies, ccc, scenario.batch_size, seed, device=self.device)
