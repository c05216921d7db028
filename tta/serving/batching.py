"""Micro-batching: what several clients ask for within a few milliseconds is answered together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tta.errors import TTAError

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass
class Asked(Generic[Q, A]):
    """What was asked together, and where the answers go."""

    items: Sequence[Q]
    answers: asyncio.Future[list[A]]
    arrived: float


class Batcher(Generic[Q, A]):
    """Collects items into batches and has them answered one batch after another, in one thread.

    A batch is closed when it is full, or when its first item has waited long enough; while a batch is worked on, the
    next one fills. Items that were asked together stay together.

    Args:
        work: Answers a batch, one answer per item, in order; called in the thread. What it raises, all who asked get.
        size: Most items of a batch.
        wait: Seconds that an item waits for others.
    """

    def __init__(self, work: Callable[[list[Q]], Sequence[A]], size: int, wait: float) -> None:
        if size < 1 or wait < 0:
            raise TTAError(f"a batch has at least 1 image and waits at least 0 ms, got {size} and {wait * 1000:g} ms")
        self.work, self.size, self.wait = work, size, wait
        self.thread = ThreadPoolExecutor(1, "tta-model")
        self._waiting: deque[Asked[Q, A]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._closing = False

    def start(self) -> None:
        """Begins to answer, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def ask(self, items: Sequence[Q]) -> list[A]:
        """The answers to some items, at most as many as a batch has. If the caller is cancelled they are not asked."""
        assert 0 < len(items) <= self.size
        loop = asyncio.get_running_loop()
        asked: Asked[Q, A] = Asked(items, loop.create_future(), loop.time())
        self._waiting.append(asked)
        self._changed.set()
        return await asked.answers

    async def between(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls something in the same thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, lambda: function(*arguments))

    async def close(self) -> None:
        """Answers what waits, and ends."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await self._task
        self.thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := await self._next():
            items = [item for asked in batch for item in asked.items]
            try:
                answers = deque(await loop.run_in_executor(self.thread, self.work, items))
            except Exception as error:  # whoever asked is told; the next batch may fare better
                for asked in batch:
                    if not asked.answers.done():
                        asked.answers.set_exception(error)
                continue
            for asked in batch:
                own = [answers.popleft() for _ in asked.items]
                if not asked.answers.done():
                    asked.answers.set_result(own)

    async def _next(self) -> list[Asked[Q, A]]:
        """The next batch; empty when there will be none."""
        loop = asyncio.get_running_loop()
        while not self._present():
            if self._closing:
                return []
            await self._wait(None)
        until = self._waiting[0].arrived + self.wait
        while self._present() < self.size and not self._closing and (left := until - loop.time()) > 0:
            await self._wait(left)
        batch, count = list[Asked[Q, A]](), 0
        while self._waiting and count + len(self._waiting[0].items) <= self.size:
            asked = self._waiting.popleft()
            if not asked.answers.done():
                batch.append(asked)
                count += len(asked.items)
        return batch or await self._next()

    def _present(self) -> int:
        """How many items wait, after those nobody waits for any more have gone."""
        while self._waiting and self._waiting[0].answers.done():
            self._waiting.popleft()
        return sum(len(asked.items) for asked in self._waiting)

    async def _wait(self, seconds: float | None) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:
            return
