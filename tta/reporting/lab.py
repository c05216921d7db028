"""What a report is measured on: the grid of corruptions and severities, and the streams of the stress matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from tta.cells import device_of
from tta.data.images import ImageData
from tta.data.kept import Kept
from tta.errors import TTAError
from tta.models import SourceModel
from tta.scenarios import Scenario
from tta.setup import CLEAN, Setup
from tta.setup_lab import KEPT_BYTES, SetupLab
from tta.streams import Data, Domain, Stream, make_stream


@dataclass(frozen=True)
class Spot(Scenario):
    """One corruption at several severities, one after another: a row of the grid.

    Attributes:
        corruption: Its name, or "clean".
        severities: Of its domains.
    """

    corruption: str = CLEAN
    severities: tuple[float, ...] = (0.0,)

    @property
    def stream(self) -> str:
        """A name of its own, so that the cells of the grid are told apart."""
        return f"grid-{self.corruption}"


@dataclass(frozen=True)
class GridLab:
    """Gives the rows of the grid. The images come as they are stored: the source model does not mind their order.

    Attributes:
        model: The source model.
        shifted: From corruption, severity and seed to the images.
    """

    model: nn.Module
    shifted: Callable[[str, float, int], ImageData]
    probe: None = None
    source_data: None = None

    def stream(self, scenario: Scenario, seed: int) -> Stream:
        """The stream of a row."""
        assert isinstance(scenario, Spot)
        name = scenario.corruption
        domains = [Domain(name, severity, self.shifted(name, severity, seed)) for severity in scenario.severities]
        return make_stream(domains, "continual", scenario.batch_size, seed, arrangement="stored")


class ReportLab(SetupLab):
    """The lab of the streams, which also gives the images of the grid; these are kept where they are small.

    Raises:
        TTAError: Data in folders DOMAIN/CLASS/IMAGE, which have no clean images to corrupt.
    """

    def __init__(self, setup: Setup, ccc: Any = None) -> None:
        if setup.natural:
            raise TTAError(
                f"{setup.dataset} holds natural domains; a report corrupts one data set: give the folder of one domain,"
                " and use `tta bench` for the domains"
            )
        super().__init__(setup, ccc)
        self._seen: dict[tuple[str, float, int], ImageData] = {}

    @classmethod
    def given(cls, model: nn.Module, data: ImageData, source_data: Data | None, setup: Setup) -> ReportLab:
        """The lab of a model and data that exist already.

        Args:
            model: Takes images in [0, 1], gives logits (B, K).
            data: Clean images.
            source_data: Images the model was trained on, for the methods that need some.
            setup: Corruptions and severity of the streams.
        """
        lab = cls(setup)
        device = device_of(model)
        source = model if isinstance(model, SourceModel) else SourceModel(model, shape=data.shape).to(device)
        # What the setup would have been asked for.
        lab.__dict__.update(device=device, whole_model=source, model=source, images=data, source_data=source_data)
        return lab

    def shifted(self, name: str, severity: float, seed: int) -> ImageData:
        """The images under a corruption."""
        key = name, severity, seed
        if key not in self._seen:
            images = self.under(name, severity, seed)
            held = sum(math.prod(data.shape or ()) * len(data) for data in self._seen.values())
            if held + len(images) * math.prod(images.shape or ()) > KEPT_BYTES:
                return images
            self._seen[key] = Kept(images)
        return self._seen[key]
