"""Runs that survive: killed at any moment, spread over workers, or with a worker shot, the numbers are the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tta.output import read_output

ROOT = Path(__file__).parents[1]
JOB = [
    "bench", "--domains", "fog", "brightness", "--limit", "64", "--batch-size", "8", "--threads", "1",
    "--methods", "source", "tent", "eta", "--seeds", "0", "1",
]  # fmt: skip
TIMED = ("seconds", "peak_memory", "source_seconds")


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tta", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=environment,
    )  # fmt: skip


def finish(*arguments):
    process = start(*arguments)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out


def same(one, two):
    """Everything but what was measured with a clock is bit-identical, in the table and in the single records."""
    one, two = read_output(one), read_output(two)
    keep = [[row for row in results.rows if not row.metric.startswith(TIMED)] for results in (one, two)]
    assert keep[0] == keep[1]
    assert len(keep[0]) > 100
    assert list(one.records) == list(two.records)
    for cell, arrays in one.records.items():
        assert all(np.array_equal(array, two.records[cell][field]) for field, array in arrays.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    finish(*JOB, "--out", out)
    return out


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_it_ends_with_the_same_numbers(tmp_path, whole, workers):
    job = [*JOB, "--out", tmp_path, "--workers", workers]
    for kept in (1, 3):  # killed when so many cells are there, that is in the middle of the next
        process = start(*job)
        deadline = time.monotonic() + 240
        while len(list(tmp_path.glob("cells/*.json"))) < kept and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")}
    assert 3 <= len(before) < 6
    finish(*job)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    same(whole, tmp_path)


def test_a_ray_cluster_of_two_nodes_that_loses_a_worker_gives_the_same_numbers(tmp_path, whole):
    pytest.importorskip("ray", reason="Ray is not installed")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        process = start(*JOB, "--out", tmp_path, "--engine", "ray", "--workers", "2", "--address", cluster.address)
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob("cells/*.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        busy = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and b"ray::task" in command(pid)]
        assert busy
        os.kill(busy[0], signal.SIGKILL)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    finally:
        ray.shutdown()
        cluster.shutdown()
    same(whole, tmp_path)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
