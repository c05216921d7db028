"""Freed memory that stays with the process is not counted as memory of the next run."""

import torch

from tta import heap
from tta.cost import PeakMemory


def test_what_an_earlier_run_has_freed_does_not_hide_what_the_next_one_uses():
    heap.keep_freed()
    small = [torch.ones(250_000) for _ in range(200)]  # 200 MB in blocks of 1 MB
    del small
    memory = PeakMemory("cpu")
    again = [torch.ones(250_000) for _ in range(100)]
    assert len(again) == 100
    assert memory.read() > 80
