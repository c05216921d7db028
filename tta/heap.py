"""Memory that a process has freed stays with it, instead of going back to the system after every layer.

glibc gives large blocks back as soon as they are free. A network on the CPU then asks for the same megabytes again with
each layer, and the system clears every page of them: a third of the time of a small network, and more where all cores
do so at once. What is computed does not change.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

# The numbers of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Whether this process keeps what it frees.
kept = False
#: Blocks and free tails of at least so many bytes still go back at once; the second for a glibc before 2.35.
LARGE, LARGE_BEFORE = 2**30, 2**25


def keep_freed() -> None:
    """Keeps what this process frees, for its next blocks; for a process that is ours, not for one that imports us."""
    global kept
    libc = _glibc()
    if libc is not None:
        kept = True
        libc.mallopt(_TRIM_THRESHOLD, LARGE)
        if not libc.mallopt(_MMAP_THRESHOLD, LARGE):
            libc.mallopt(_MMAP_THRESHOLD, LARGE_BEFORE)


def give_back_freed() -> None:
    """Gives what is free to the system, so that resident memory is what is in use."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    """The C library, if it is one that has these knobs."""
    try:
        libc = ctypes.CDLL(None)
        return libc if libc.mallopt and libc.malloc_trim else None
    except (OSError, TypeError, AttributeError):  # Windows, macOS, musl
        return None
