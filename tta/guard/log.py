"""The audit log: what the guard has done and why, one JSON object per line, only ever appended to."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tta import files
from tta.errors import TTAError


class AuditLog:
    """Appends events to `audit.jsonl`; a full file becomes `audit.1.jsonl`, that one `audit.2.jsonl`, and so on.

    A line is written at once, in one piece. After a crash of the machine the last lines may be missing; after one of
    the process they are not.

    Args:
        folder: Made if it is not there. None keeps nothing on disk; the latest events are in `recent` either way.
        max_bytes: Size from which a new file is begun.
        keep: Full files that are kept; the oldest is deleted.
    """

    #: Events that are kept in memory.
    RECENT = 100

    def __init__(self, folder: Path | None, *, max_bytes: int = 10_000_000, keep: int = 5) -> None:
        if max_bytes < 1 or keep < 1:
            raise TTAError(f"an audit log has max_bytes and keep of at least 1, got {max_bytes} and {keep}")
        self.path = None if folder is None else files.folder(folder, "the folder of the audit log") / "audit.jsonl"
        self.max_bytes, self.keep = max_bytes, keep
        self.recent: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, event: str, **details: Any) -> None:
        """Appends an event. Where the disk is full or gone it is kept in `recent` only: answers go on without a log.

        Args:
            event: What has happened: "rolled back", "reset", "snapshot" ...
            details: Numbers and words.
        """
        entry = {"time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), "event": event, **details}
        with self._lock:
            self.recent = [*self.recent[1 - self.RECENT :], entry]
            if self.path is not None:
                with contextlib.suppress(OSError):
                    self._rotate()
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(entry) + "\n")

    def _rotate(self) -> None:
        assert self.path is not None
        if not self.path.exists() or self.path.stat().st_size < self.max_bytes:
            return
        names = [self.path, *(self.path.with_name(f"audit.{number}.jsonl") for number in range(1, self.keep + 1))]
        for older, newer in zip(reversed(names), [*reversed(names)][1:], strict=False):
            if newer.exists():
                newer.replace(older)
