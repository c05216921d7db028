"""The measuring scripts that need a device not at hand run end to end without it, on next to nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PERF = Path(__file__).parents[1] / "scripts" / "perf.py"


def perf(*arguments):
    return subprocess.run([sys.executable, PERF, *arguments], capture_output=True, text=True)


def test_the_table_of_a_gpu_tried_on_the_cpu(tmp_path):
    out = tmp_path / "rows.json"
    done = perf("gpu", "--device", "cpu", "--tiny", "--methods", "source", "cotta:fast", "--out", out)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["way"] for row in rows if "peak_tflops" in row] == ["float32", "bf16"]
    told = {(row["method"], row["way"]): row for row in rows if "method" in row}
    assert len(told) == 8
    assert told["source", "plain"]["F"] == 1
    assert told["cotta:fast", "bf16+channels_last"]["F"] == pytest.approx(2.75)
    assert all(row["images_per_s"] > 0 and row["roofline"] > 0 for row in told.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_table_of_a_gpu_says_what_it_needs():
    done = perf("gpu")
    assert done.returncode == 1
    assert "no CUDA device here" in done.stderr
