"""Micro-batching: what comes together is answered together, each with its own."""

import asyncio
import threading

import pytest

import tta
from tta.serving.batching import Batcher


def batches(size, wait, groups, work=None, pause=0.0):
    """What each group was answered, and the batches that were made."""
    seen = []

    def double(items):
        seen.append(list(items))
        return [2 * item for item in items]

    async def run():
        batcher = Batcher(work or double, size, wait)
        batcher.start()
        asked = []
        for group in groups:
            asked.append(asyncio.ensure_future(batcher.ask(group)))
            await asyncio.sleep(pause)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.close()
        return answers

    return asyncio.run(run()), seen


def test_each_gets_its_own_and_a_full_batch_does_not_wait():
    answers, seen = batches(4, 60.0, [[1], [2], [3, 4], [5], [6, 7, 8]])
    assert answers == [[2], [4], [6, 8], [10], [12, 14, 16]]
    assert seen == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_groups_stay_together():
    answers, seen = batches(4, 0.01, [[1, 2, 3], [4, 5], [6, 7]])
    assert answers == [[2, 4, 6], [8, 10], [12, 14]]
    assert seen == [[1, 2, 3], [4, 5, 6, 7]]


def test_a_batch_that_fails_fails_alone():
    def work(items):
        if 3 in items:
            raise ValueError("three")
        return items

    answers, _ = batches(2, 0.0, [[1, 2], [3], [4, 5]], work, pause=0.01)
    assert (answers[0], answers[2]) == ([1, 2], [4, 5])
    assert isinstance(answers[1], ValueError)


def test_while_a_batch_is_worked_on_the_next_one_fills_and_who_has_left_is_not_asked():
    gate, inside, seen, threads = threading.Event(), threading.Event(), [], set()

    def work(items):
        inside.set()
        assert gate.wait(60)
        seen.append(list(items))
        threads.add(threading.get_ident())
        return items

    async def run():
        batcher = Batcher(work, 8, 0.0)
        batcher.start()
        first = asyncio.ensure_future(batcher.ask([0]))
        await asyncio.get_running_loop().run_in_executor(None, inside.wait)
        others = [asyncio.ensure_future(batcher.ask([k])) for k in range(1, 5)]
        await asyncio.sleep(0.01)
        others[1].cancel()
        between = asyncio.ensure_future(batcher.between(threading.get_ident))
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0.01)
        gate.set()
        await closing
        assert await first == [0]
        assert [await others[k] for k in (0, 2, 3)] == [[1], [3], [4]]
        threads.add(await between)

    asyncio.run(run())
    assert seen == [[0], [1, 3, 4]]
    assert len(threads) == 1


def test_sizes_are_checked():
    for size, wait in ((0, 0.0), (1, -1.0)):
        with pytest.raises(tta.TTAError, match="at least 1 image"):
            Batcher(list, size, wait)
