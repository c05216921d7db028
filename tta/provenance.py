"""Where a number comes from: software, machine, protocol, model and configuration of every cell."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import tta
from corruptions import frost_source, ink_source
from tta.adapter import Adapter


def of_cell(
    cell: str, method: str, seed: int, adapter: Adapter, protocol: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """The provenance of the results of one method and one seed.

    Args:
        cell: Name of the cell, that of its records.
        method: Name of the method.
        seed: Of the stream and the adapter.
        adapter: The adapter that was evaluated.
        protocol: Definition of the stream, the reset policy and the probe.
        device: Where it ran.

    Returns:
        `protocols` and `environments` by their hashes, and one entry in `cells` that refers to them.
    """
    around = environment(device)
    entry = {
        "cell": cell,
        "method": method,
        "seed": seed,
        "config": plain(adapter.config),
        **({"acceleration": str(adapter.acceleration)} if adapter.acceleration else {}),
        "answers": adapter.answers,
        "model": of_model(adapter.model),
        "protocol": digest(protocol),
        "environment": digest(around),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return {
        "protocols": {entry["protocol"]: protocol},
        "environments": {entry["environment"]: around},
        "cells": [entry],
    }


def of_model(model: torch.nn.Module) -> dict[str, Any]:
    """Name, preprocessing and the hash of the weights, as far as the model tells them."""
    return {key: getattr(model, key, None) for key in ("name", "preprocessing", "sha256")}


def environment(device: torch.device) -> dict[str, Any]:
    """Software, machine and command line."""
    cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "tta": tta.__version__,
        **{name: _version(name) for name in ("torch", "torchvision", "timm", "numpy")},
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if cuda else f"{device.type} ({_processor()})",
        "threads": torch.get_num_threads(),
        "frost_textures": frost_source(),
        "ink_masks": ink_source(),
        "code": _commit(Path(__file__).parent),
        "working_directory": _commit(Path.cwd()),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def digest(value: Any) -> str:
    """SHA-256 of plain values, independent of the order of keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """A configuration as values for JSON; nested dataclasses carry the name of their class.

    >>> plain((1, "a"))
    [1, 'a']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, **fields}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor() -> str:
    """The processor's model name; the architecture where that is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


@functools.cache
def _commit(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository around a folder, and whether tracked files differ from it; None outside one."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
