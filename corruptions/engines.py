"""Who does the work: this process, several, or a Ray cluster. The units of a job are independent of each other."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from typing import Any, Protocol, TypeVar

from corruptions.errors import CorruptionError

U = TypeVar("U", contravariant=True)
R = TypeVar("R", covariant=True)
Work = TypeVar("Work")
Result = TypeVar("Result")

#: How often a unit is given to another node of a Ray cluster when the one that had it was lost.
RETRIES = 3


class Job(Protocol[U, R]):
    """All that a worker needs; pickled once for each."""

    def begin(self) -> None:
        """Called once in each worker process, before its first unit."""

    def run(self, unit: U) -> R:
        """Does one unit of the work."""


def check_engine(engine: str, workers: int) -> None:
    """Raises CorruptionError unless there is such an engine, installed, and at least one worker."""
    if workers < 1:
        raise CorruptionError(f"{workers} workers cannot work; give at least 1")
    if engine not in ("processes", "ray"):
        raise CorruptionError(f"unknown engine {engine!r}: choose from processes, ray")
    if engine == "ray":
        _import_ray()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise CorruptionError(
            "the engine ray needs Ray: pip install 'tta-harness[ray]'; or leave the engine out"
        ) from error
    return ray


def run(
    job: Job[Work, Result], units: Sequence[Work], workers: int, engine: str = "processes", address: str | None = None
) -> Iterator[Result]:
    """Does the units, and yields the result of each one when it is there; several workers finish in any order.

    Args:
        job: What is done; picklable, as units and results are, unless one worker does it in this process.
        units: The pieces of work.
        workers: Processes; 1 is this one. On a Ray cluster, units at a time.
        engine: "processes" or "ray".
        address: Of the Ray cluster; a local one if not given.

    Raises:
        CorruptionError: A worker process died. What `job.run` raises is raised here.
    """
    if engine == "ray":
        yield from _on_ray(job, units, workers, address)
    elif workers == 1 or len(units) <= 1:
        for unit in units:
            yield job.run(unit)
    else:
        yield from _in_processes(job, units, min(workers, len(units)))


_job: Any = None


def _begin(pickled: bytes, environment: dict[str, str]) -> None:
    """Called once in each worker process."""
    global _job
    os.environ.clear()  # that of the first call, if the process they are forked from is an old one
    os.environ.update(environment)
    _job = pickle.loads(pickled)
    _job.begin()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: the main process says so, the workers just end
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)  # the main process was killed; what it wrote is recorded, and nobody reads on

    threading.Thread(target=watch, daemon=True).start()


def _do(unit: Any) -> Any:
    return _job.run(unit)


def _in_processes(job: Job[Work, Result], units: Sequence[Work], workers: int) -> Iterator[Result]:
    with _pool(job, workers) as pool:
        futures: list[Future[Result]] = [pool.submit(_do, unit) for unit in units]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise CorruptionError(
                "a worker process died (killed, or out of memory); the same command continues, with fewer --workers "
                "if memory is short"
            ) from error


@contextmanager
def _pool(job: Any, workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool that waits for no more than the units under way."""
    # Pickled here: else torch would move the caller's tensors into shared memory, from under arrays that look at them.
    pool = ProcessPoolExecutor(workers, _context(), _begin, (pickle.dumps(job), dict(os.environ)))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _context() -> BaseContext:
    """Never forked from this process: the threads of torch do not survive that.

    On Linux the workers are forked from a process of its own that has done nothing but import; what, and when it starts
    to, a command may have said before (`tta.commands.warm_up`).
    """
    return multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def _on_ray(job: Job[Work, Result], units: Sequence[Work], workers: int, address: str | None) -> Iterator[Result]:
    """The same on a Ray cluster, at most `workers` units at a time."""
    ray = _import_ray()
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, log_to_driver=False)
    try:
        shared = ray.put(pickle.dumps(job))

        @ray.remote(num_cpus=1, max_retries=RETRIES)
        def task(pickled: bytes, unit: Any) -> Any:
            return _once(pickled).run(unit)

        waiting, pending = list(units)[::-1], list[Any]()
        while waiting or pending:
            while waiting and len(pending) < workers:
                pending.append(task.remote(shared, waiting.pop()))
            ready, pending = ray.wait(pending)
            yield from (ray.get(one) for one in ready)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error from error
    finally:
        if started:
            ray.shutdown()


_jobs: dict[bytes, Any] = {}


def _once(pickled: bytes) -> Any:
    """The job, unpickled and begun once in each process of the cluster."""
    if pickled not in _jobs:
        _jobs.clear()
        _jobs[pickled] = pickle.loads(pickled)
        _jobs[pickled].begin()
    return _jobs[pickled]
