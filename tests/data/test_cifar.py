"""CIFAR, written as its publishers write it."""

import pickle

import numpy as np
import pytest
import torch
from trees import Payload, noise

from tta.datasets import load_data
from tta.errors import TTAError


def write_cifar(folder, names, key, rng, count=10):
    folder.mkdir(parents=True)
    arrays = []
    for i, name in enumerate(names):
        arrays.append(noise(rng, count, 3072))
        content = {b"data": arrays[-1], key: [(i + k) % 10 for k in range(count)], b"batch_label": b"one of several"}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return arrays


@pytest.mark.parametrize(
    ("name", "folder", "test", "train", "key"),
    [
        ("cifar10", "cifar-10-batches-py", ["test_batch"], [f"data_batch_{i}" for i in range(1, 6)], b"labels"),
        ("cifar100", "cifar-100-python", ["test"], ["train"], b"fine_labels"),
    ],
)
def test_cifar_python_version(tmp_path, rng, name, folder, test, train, key):
    arrays = write_cifar(tmp_path / folder, test + train, key, rng)
    for split, rows in (("test", arrays[0]), ("train", np.concatenate(arrays[1:]))):
        data = load_data(name, tmp_path, split=split)
        assert torch.equal(data.images(slice(None)), torch.from_numpy(rows.reshape(-1, 3, 32, 32)))
        assert len(data.classes) == (10 if name == "cifar10" else 100)
    assert data.labels[:3].tolist() == [1, 2, 3]


def test_cifar_binary_version(tmp_path, rng):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    rows = noise(rng, 6, 2 + 3072)
    rows[:, 1] = [5, 99, 0, 1, 2, 3]
    rows.tofile(folder / "test.bin")
    data = load_data("cifar100", tmp_path)
    assert data.labels.tolist() == [5, 99, 0, 1, 2, 3]
    assert torch.equal(data.images(slice(None)), torch.from_numpy(rows[:, 2:].reshape(-1, 3, 32, 32)))
    rows.tofile(folder / "test.bin", sep=" ")
    with pytest.raises(TTAError, match="multiple of 3,074"):
        load_data("cifar100", tmp_path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar_pickle_with_code_is_refused_and_not_run(tmp_path, protocol):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    content = {b"data": Payload(tmp_path / "ran"), b"labels": [0]}
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(TTAError, match="mkdir"):
        load_data("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


def test_incomplete_cifar_is_named(tmp_path, rng):
    write_cifar(tmp_path / "cifar-10-batches-py", ["data_batch_1", "data_batch_2"], b"labels", rng)
    with pytest.raises(TTAError, match="data_batch_3"):
        load_data("cifar10", tmp_path, split="train")
    with pytest.raises(TTAError, match="cifar-10-batches-py"):
        load_data("cifar10", tmp_path)
