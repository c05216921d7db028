"""What a serving process keeps in the folder of its deployment: that it is the only one, and which ids it has given."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import IO

from tta import files
from tta.errors import TTAError

LOCK, EPOCH = "serving.lock", "serving.json"


class OneProcess:
    """Holds a folder, so that no second process learns into it; the system lets go of it when the process ends.

    Args:
        folder: Made if it is not there.

    Raises:
        TTAError: Another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.file: IO[str] | None = files.folder(folder, "the folder of snapshots").joinpath(LOCK).open("w")
        try:
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no such locks on this system
            pass
        except OSError as error:
            self.close()
            raise TTAError(f"{folder} is held by another serving process; give each its own --folder") from error

    def close(self) -> None:
        """Lets go."""
        if self.file is not None:
            self.file.close()
        self.file = None


def begin_epoch(folder: Path | None, snapshot: int) -> str:
    """The first part of the ids of this process.

    A deployment numbers its images, and one that begins from a snapshot goes on from the number that it holds: after
    `kill -9` two images would have the same number, and a label could reach the wrong one. Ids therefore have a second
    part, which is a new one each time; after an orderly end it goes on, as all numbers have been saved.

    Args:
        folder: Of the deployment, or None.
        snapshot: The version that it has gone on from, 0 for none.
    """
    if folder is not None and (file := folder / EPOCH).exists():
        try:
            kept = json.loads(file.read_text())
            if kept["snapshot"] == snapshot and isinstance(kept["epoch"], str):
                return kept["epoch"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        finally:
            file.unlink(missing_ok=True)  # it holds for one orderly end
    return new_epoch()


def new_epoch() -> str:
    """One that no process has had."""
    return secrets.token_hex(4)


def end_epoch(folder: Path, epoch: str, snapshot: int) -> None:
    """Notes that this epoch has ended with this snapshot and nothing after it."""
    files.write(folder / EPOCH, json.dumps({"epoch": epoch, "snapshot": snapshot}) + "\n")
