"""Records of a long visit are joined on the way, and stay the same."""

import numpy as np
import pytest
import torch

from tta import records
from tta.records import Records
from tta.streams import Batch


@pytest.mark.parametrize("batches", [2, 3, 7])
def test_joined_records_are_those_of_single_batches_and_few_tensors_wait(monkeypatch, batches):
    monkeypatch.setattr(records, "JOINED", 3)
    kept = Records()
    for n in range(batches):
        index = torch.arange(2 * n, 2 * n + 2)
        kept.add(torch.eye(4)[index % 4], Batch(None, index % 4, index, torch.zeros_like(index), 0))
        assert len(kept._pending) < 3
    arrays = kept.arrays()
    assert np.array_equal(arrays["index"], np.arange(2 * batches))
    assert np.array_equal(arrays["prediction"], arrays["label"])
    assert len(kept.arrays()["index"]) == 2 * batches
