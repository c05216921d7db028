"""MedMNIST and MedMNIST+."""

import numpy as np
import pytest
from trees import noise, same

from tta.datasets import load_data
from tta.errors import TTAError


def test_medmnist_file(tmp_path, rng):
    parts = {"train": 9, "val": 4, "test": 5}
    arrays = {f"{split}_images": noise(rng, n, 28, 28, 3) for split, n in parts.items()}
    labels = {f"{split}_labels": (np.arange(n)[:, None] % 8).astype(np.uint8) for split, n in parts.items()}
    np.savez_compressed(tmp_path / "bloodmnist.npz", **arrays, **labels)
    for split, count in parts.items():
        data = load_data("bloodmnist", tmp_path, split=split)
        assert len(data) == count
        assert same(data.images(slice(None)), arrays[f"{split}_images"])
        assert len(data.classes) == 8
    large = {f"test_{key}": value for key, value in (("images", noise(rng, 5, 64, 64, 3)), ("labels", np.arange(5)))}
    np.savez_compressed(tmp_path / "bloodmnist_64.npz", **large)
    assert load_data("medmnist/bloodmnist", tmp_path, size=64).array.shape == (5, 64, 64, 3)
    assert load_data("bloodmnist", tmp_path).array.shape == (5, 28, 28, 3)


def test_medmnist_labels_outside_its_classes_are_refused(tmp_path, rng):
    np.savez(tmp_path / "pneumoniamnist.npz", test_images=noise(rng, 3, 28, 28), test_labels=[0, 1, 2])
    with pytest.raises(TTAError, match="2 classes"):
        load_data("pneumoniamnist", tmp_path)
