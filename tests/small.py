"""Settings of the dear methods under which they are cheap enough for tests of every method."""

import torch

import tta
from tta.contract import images
from tta.registry import method

SETTINGS = {
    "cotta": {"views": 2, "gate": 2.0},
    "ttaug": {"views": 2},
    "memo": {"views": 2},
    "ttaug_gated": {"views": 2, "step": 1},
    "ttaug_close": {"views": 2},
    "foa": {"population": 3},
    "crop_select": {"crops": 2, "fit": "resize"},
    "tent+recurring": {"every": 2},
    "cotta+asr": {"views": 2, "gate": 2.0},
    "ttaug+cascade": {"views": 2},
    "rotta": {"capacity": 8, "frequency": 4},
    "sotta": {"capacity": 8, "frequency": 4, "threshold": 0.0},
    "note": {"capacity": 8, "frequency": 4},
    "petta": {"capacity": 8},
    "adacontrast": {"queue": 16, "warm_up": 8, "neighbours": 3},
    "rmt": {"warm_up": 12, "warm_up_batch": 6},
}


def wrapped(name: str, model: torch.nn.Module, **options: object) -> tta.Adapter:
    """An adapter with these settings, and with source images if the method needs some."""
    data = (images(99), torch.arange(6)) if method(name).requires.source_data else None
    return tta.wrap(model, name, source_data=data, **SETTINGS.get(name, {}), **options)
