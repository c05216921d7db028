"""Snapshots: the state of a deployment in versioned files, each complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from tta import files
from tta.errors import TTAError
from tta.guard.encoding import decode, encode

#: Of the layout of the files.
SCHEMA = 3


class Snapshots:
    """Versions of a state in a folder: tensors in `snapshot-N.safetensors`, the rest in `snapshot-N.json`; no pickle.

    The tensors are written first and the JSON, which holds their SHA-256, last: a version whose JSON is there is
    complete, whenever the process was killed.

    Args:
        folder: Made if it is not there.
        keep: Latest versions that are kept, at least 1; older ones are deleted.
        identity: What a state must share with this deployment to be restored: method, settings, weights ...
    """

    def __init__(self, folder: Path, keep: int, identity: dict[str, str]) -> None:
        if keep < 1:
            raise TTAError(f"keep is a number of snapshots, at least 1, got {keep}")
        self.folder, self.keep, self.identity = files.folder(folder, "the folder of snapshots"), keep, identity

    def versions(self) -> list[int]:
        """The versions that are there, in ascending order."""
        found = [re.fullmatch(r"snapshot-(\d+)\.json", path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in found if match)

    def save(self, state: dict[str, Any]) -> int:
        """Writes a state and returns its version."""
        version = max(self.versions(), default=0) + 1
        tensors: dict[str, Tensor] = {}
        encoded = encode(state, tensors)
        content = save(tensors)
        digest = hashlib.sha256(content).hexdigest()
        head = {"schema": SCHEMA, "version": version, "identity": self.identity, "sha256": digest}
        files.write(self._path(version, "safetensors"), content)
        files.write(self._path(version, "json"), json.dumps(head | {"state": encoded}, allow_nan=False) + "\n")
        for old in self.versions()[: -self.keep]:
            self._path(old, "json").unlink(missing_ok=True)
            self._path(old, "safetensors").unlink(missing_ok=True)
        return version

    def load(self, version: int) -> dict[str, Any]:
        """The state of a version.

        Raises:
            TTAError: There is no such version, it is damaged, or it is of another model, method or setting.
        """
        if version not in self.versions():
            raise TTAError(f"there is no snapshot {version} in {self.folder}; there are {self.versions() or 'none'}")
        try:
            head = json.loads(self._path(version, "json").read_text())
            content = self._path(version, "safetensors").read_bytes()
            schema, identity, digest, state = (head[key] for key in ("schema", "identity", "sha256", "state"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TTAError(f"snapshot {version} in {self.folder} cannot be read ({error}); use another one") from error
        if schema != SCHEMA:
            raise TTAError(f"snapshot {version} in {self.folder} has schema {schema}, expected {SCHEMA}; start afresh")
        if hashlib.sha256(content).hexdigest() != digest:
            raise TTAError(f"snapshot {version} in {self.folder} is damaged: its tensors have changed; use another one")
        for key, value in self.identity.items():
            if identity.get(key) != value:
                raise TTAError(
                    f"snapshot {version} in {self.folder} is of another {key} ({identity.get(key)}, not {value}); give"
                    " another folder"
                )
        return decode(state, load(content))

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The newest version that can be read, and its state; None if there is none.

        Raises:
            TTAError: There are versions, but none that fits.
        """
        failed: TTAError | None = None
        for version in reversed(self.versions()):
            try:
                return version, self.load(version)
            except TTAError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return None

    def _path(self, version: int, kind: str) -> Path:
        return self.folder / f"snapshot-{version:08d}.{kind}"
