"""MedMNIST and MedMNIST+."""

import numpy as np
import pytest
from trees import noise, same

from tta.data.medmnist import CLASSES
from tta.datasets import Corrupted, load_data
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


def test_a_size_takes_the_file_of_that_size_and_no_other(tmp_path, rng):
    for name, side in (("pathmnist", 28), ("pathmnist_128", 128)):
        images = noise(rng, 3, side, side, 3)
        np.savez_compressed(tmp_path / f"{name}.npz", test_images=images, test_labels=[[0], [1], [8]])
    assert load_data("pathmnist", tmp_path, size=128).array.shape == (3, 128, 128, 3)
    assert load_data("pathmnist", tmp_path, size=28).array.shape == (3, 28, 28, 3)
    with pytest.raises(TTAError, match=r"holds pathmnist\.npz, pathmnist_128\.npz"):
        load_data("pathmnist", tmp_path, size=224)
    (tmp_path / "pathmnist_128.npz").unlink()
    with pytest.raises(TTAError, match=r"pathmnist_224\.npz \(MD5 2c51a510bcdc9cf8ddb2af93af1eadec\) is not there"):
        load_data("pathmnist", tmp_path, size=224)


def test_a_missing_size_names_its_file(tmp_path):
    with pytest.raises(TTAError, match=r"retinamnist_64\.npz \(MD5 afda852cc34dcda56f86ad2b2457dbcc\)"):
        load_data("retinamnist", tmp_path, size=64)


@pytest.mark.parametrize("name", CLASSES)
def test_all_sets_of_one_label_load_and_are_marked(tmp_path, rng, name):
    labels = np.arange(len(CLASSES[name]), dtype=np.uint8)[:, None]
    np.savez_compressed(tmp_path / f"{name}.npz", test_images=noise(rng, len(labels), 28, 28), test_labels=labels)
    data = load_data(name, tmp_path)
    assert data.labels.tolist() == list(range(len(CLASSES[name])))
    assert data.balanced
    assert Corrupted(data, "pixelate", 2).balanced
    assert data.mirrors == (not name.startswith("organ"))  # the mirror image of a left kidney is a right one


def test_several_labels_per_image_are_refused(tmp_path, rng):
    np.savez(tmp_path / "chestmnist.npz", test_images=noise(rng, 3, 28, 28), test_labels=np.eye(3, 14, dtype=np.uint8))
    for name, message in (("chestmnist", "up to 14 findings"), (str(tmp_path / "chestmnist.npz"), "several labels")):
        with pytest.raises(TTAError, match=message):
            load_data(name, tmp_path)
