"""Learning in the background: a bounded queue and one thread that takes batches from it in their order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

from tta.errors import TTAError

T = TypeVar("T")
#: What happens when the queue is full. "drop_oldest": the oldest batch that waits is not learned from, and nobody
#: waits. "block": whoever brings the next batch waits until there is room.
WhenFull = Literal["drop_oldest", "block"]


class Worker(Generic[T]):
    """Works on items one after another, in the order in which they came, in a thread of its own.

    Args:
        work: Called with each item; what it raises ends the work and is raised again by `put` and `close`.
        size: Items that may wait, at least 1.
        when_full: See `WhenFull`.
        dropped: Called with each item that is dropped.
    """

    def __init__(self, work: Callable[[T], None], size: int, when_full: WhenFull, dropped: Callable[[T], None]) -> None:
        if size < 1 or when_full not in ("drop_oldest", "block"):
            raise TTAError(f"a queue has room for at least 1, and drop_oldest or block; got {size} and {when_full!r}")
        self._work, self._size, self._when_full, self._dropped = work, size, when_full, dropped
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._busy = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="tta-learner", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._items)

    def put(self, item: T) -> None:
        """Hands over an item.

        Raises:
            TTAError: The worker is closed.
        """
        old: list[T] = []
        with self._changed:
            self._check()
            if self._when_full == "block":
                self._changed.wait_for(lambda: len(self._items) < self._size or self._closed or self._error is not None)
                self._check()
            while len(self._items) >= self._size:
                old.append(self._items.popleft())
            self._items.append(item)
            self._changed.notify_all()
        for each in old:
            self._dropped(each)

    def drain(self) -> None:
        """Waits until everything that was handed over is done."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or not (self._items or self._busy))
            if self._error is not None:
                raise self._error

    def forget(self) -> None:
        """Drops what waits, and waits until what is in work is done."""
        with self._changed:
            old = list(self._items)
            self._items.clear()
            self._changed.notify_all()
        for each in old:
            self._dropped(each)
        self.drain()

    def close(self) -> None:
        """Finishes what waits, and ends the thread. May be called again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise TTAError("this deployment is closed and learns no more: make a new one")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                item, self._busy = self._items.popleft(), True
                self._changed.notify_all()
            try:
                self._work(item)
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._items.clear()
                return
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()
