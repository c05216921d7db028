"""Where the models, data and streams of a benchmark come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from tta.scenarios import Scenario
from tta.streams import Data, Stream


class Lab(Protocol):
    """Gives what the cells of a benchmark need. It is pickled for the workers, each of which asks it anew."""

    @property
    def model(self) -> nn.Module:
        """The source model, on the device to run on."""

    @property
    def probe(self) -> Data | None:
        """Clean images for forgetting."""

    @property
    def source_data(self) -> Data | None:
        """Images the source model was trained on, for the methods that need some."""

    def stream(self, scenario: Scenario, seed: int) -> Stream:
        """The stream of a scenario."""


@dataclass(frozen=True)
class Given:
    """A lab of objects that exist already.

    Attributes:
        model: The source model.
        streams: From a seed to the stream; the scenario has no say.
        probe: Clean images for forgetting.
        source_data: Images the source model was trained on.
    """

    model: nn.Module
    streams: Callable[[int], Stream]
    probe: Data | None = None
    source_data: Data | None = None

    def stream(self, scenario: Scenario, seed: int) -> Stream:
        """The stream of the seed."""
        return self.streams(seed)
