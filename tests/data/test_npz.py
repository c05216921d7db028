"""Large arrays in .npz files: mapped, read in part, or unpacked once."""

import shutil
import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from trees import noise

import tta.data.npz as npz
from tta.data import stored
from tta.datasets import load_data, stored_corruption
from tta.errors import TTAError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache in a folder of its own, and arrays of more than 4 KiB that count as large."""
    monkeypatch.setenv("TTA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(npz, "IN_MEMORY", 2**12)
    monkeypatch.setattr(stored, "IN_MEMORY", 2**10)
    return tmp_path / "cache" / "unpacked"


def write(path, rng, count=8):
    x = noise(rng, count, 28, 28, 3)  # 2,352 bytes each
    np.savez_compressed(path, test_images=x, test_labels=(np.arange(count) % 4)[:, None].astype(np.uint8))
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def test_a_large_compressed_array_is_unpacked_once_and_mapped(tmp_path, rng, cache):
    x = write(tmp_path / "set.npz", rng)
    with pytest.warns(UserWarning, match=r"set\.npz: unpacking .* GB of images to .*, once"):
        data = load_data("set.npz", tmp_path)
    assert isinstance(data.array, np.memmap)
    assert torch.equal(data.images(torch.tensor([7, 0, 3])), x[[7, 0, 3]])
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_data("set.npz", tmp_path)
    assert kept.stat().st_mtime_ns == before
    np.savez(tmp_path / "plain.npz", x=x.permute(0, 2, 3, 1).numpy(), y=np.arange(8) % 4)
    assert again.fingerprint == load_data("plain.npz", tmp_path).fingerprint


def test_another_file_of_the_same_name_is_unpacked_again(tmp_path, rng, cache):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        x = write(tmp_path / folder / "set.npz", rng)
        with pytest.warns(UserWarning, match="unpacking"):
            assert torch.equal(load_data("set.npz", tmp_path / folder).images(slice(None)), x)


def test_a_few_images_of_a_large_array_are_read_alone(tmp_path, rng, cache):
    x = write(tmp_path / "set.npz", rng)
    data = load_data("set.npz", tmp_path, limit=1)
    assert torch.equal(data.images(slice(None)), x[:1])
    assert data.classes == ("0", "1", "2", "3")  # of all images
    assert "1 of 8 images" in data.note
    assert not cache.exists()


def test_one_severity_of_a_large_stored_set_is_unpacked_alone(tmp_path, rng, cache):
    x = noise(rng, 10, 28, 28)
    labels = np.tile([0, 1], 5)
    np.savez_compressed(tmp_path / "pixelate.npz", test_images=x, test_labels=labels[:, None])
    with pytest.warns(UserWarning, match="unpacking"):
        data = stored_corruption(tmp_path, "pixelate", 4)
    assert torch.equal(data.images(slice(None))[:, 0], torch.from_numpy(x[6:8]))
    assert [file.stat().st_size for file in cache.iterdir()] == [2 * 28 * 28]
    few = stored_corruption(tmp_path, "pixelate", 4, limit=1)
    assert torch.equal(few.images(slice(None))[:, 0], torch.from_numpy(x[6:7]))


def test_severities_stored_image_by_image_are_read_with_a_step(tmp_path, rng):
    x = noise(rng, 10, 28, 28)
    np.savez_compressed(tmp_path / "pixelate.npz", test_images=x, test_labels=np.repeat([0, 1], 5))
    data = stored_corruption(tmp_path, "pixelate", 3)
    assert torch.equal(data.images(slice(None))[:, 0], torch.from_numpy(x[2::5]))
    assert data.labels.tolist() == [0, 1]


def test_no_room_to_unpack_is_told_before_anything_is_written(tmp_path, rng, cache, monkeypatch):
    write(tmp_path / "set.npz", rng)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(TTAError, match="set TTA_CACHE to a folder with more room"):
        load_data("set.npz", tmp_path)
    assert list(cache.iterdir()) == []


def test_a_damaged_large_array_leaves_nothing_behind(tmp_path, rng, cache):
    write(tmp_path / "set.npz", rng)
    content = bytearray((tmp_path / "set.npz").read_bytes())
    content[2000:2400] = bytes(400)
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.warns(UserWarning, match="unpacking"), pytest.raises(TTAError, match=r"cannot be read as \.npz"):
        load_data("set.npz", tmp_path)
    assert list(cache.iterdir()) == []


def test_a_compressed_array_is_not_held_while_it_is_unpacked(tmp_path, rng, cache):
    x = np.zeros((120, 256, 256), np.uint8)  # 7.9 MB
    np.savez_compressed(tmp_path / "set.npz", x=x, y=np.zeros(120, int))
    tracemalloc.start()
    with pytest.warns(UserWarning, match="unpacking"):
        data = load_data("set.npz", tmp_path)
    for start in range(0, 120, 4):
        data.images(slice(start, start + 4))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * x.nbytes  # pieces of 1 MiB
