"""A small report: a few digits whose classes have hostile names."""

import json
from contextlib import nullcontext
from dataclasses import replace
from importlib.resources import files

import pytest
import torch

import tta
from tta.cell_job import Watch
from tta.data.arrays import ArrayImages
from tta.digits import digits
from tta.reporting.gather import gather
from tta.reporting.lab import ReportLab
from tta.reporting.profiles import PROFILES
from tta.setup import Setup

EVIL = "<script>document.title='taken'</script>"
CLASSES = (EVIL, "a|b*c_d", "$x^2$", "'\"&", "\n---\n", "</svg>", "6", "7", "eight", "9")
NAMES = ("gaussian_noise", "fog")
PROFILE = replace(
    PROFILES["quick"], severities=(3.0, 5.0), methods=("source", "bn", "lame"), streams=("continual", "mixed"),
    batch_sizes=(16,), shift_images=10,
)  # fmt: skip


def small_lab():
    torch.set_num_threads(1)
    x, y = digits("test")
    data = ArrayImages("digits", x[:36].numpy(), y[:36].numpy(), classes=CLASSES, note="the first 36 digits")
    data.mirrors = False
    model = tta.load_source("digits")
    model.name = EVIL
    return ReportLab.given(model, data, None, Setup(dataset="", domains=NAMES))


def small_report(out=None, watch=None):
    return gather(small_lab(), NAMES, PROFILE, out=out, watching=lambda title: nullcontext(watch or Watch()))


SCHEMA = json.loads((files("tta.reporting") / "schema.json").read_text())


def problems(content):
    """What the JSON Schema of reports finds wrong with a content."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(content)]
