"""Arrays in .npz and .npy files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trees import Payload, noise, same

from tta.data.resize import crop
from tta.datasets import load_data
from tta.errors import TTAError


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", [("x", "y"), ("images", "labels"), ("test_images", "test_labels")])
def test_npz_layouts_and_keys(tmp_path, rng, save, keys):
    x, y = noise(rng, 7, 5, 6, 3), np.arange(7) % 3
    for name, stored in (("nhwc", x), ("nchw", x.transpose(0, 3, 1, 2))):
        save(tmp_path / f"{name}.npz", **{keys[0]: stored, keys[1]: y})
        data = load_data(str(tmp_path / f"{name}.npz"))
        assert (len(data), data.shape, data.classes) == (7, (3, 5, 6), ("0", "1", "2"))
        assert same(data.images(torch.tensor([6, 2])), x[[6, 2]])
        assert data.labels.tolist() == y.tolist()
        assert isinstance(data.array, np.memmap) == (save is np.savez)


def test_grey_images_have_one_channel_or_three_equal_ones(tmp_path, rng):
    x = noise(rng, 4, 5, 5)
    np.savez(tmp_path / "grey.npz", x=x, y=np.zeros(4, int))
    one, three = (load_data("grey.npz", tmp_path, channels=c) for c in (None, 3))
    assert one.images(slice(2)).shape == (2, 1, 5, 5)
    assert torch.equal(three.images(slice(2)), one.images(slice(2)).repeat(1, 3, 1, 1))
    assert three.shape == (3, 5, 5)


def test_npy_pair(tmp_path, rng):
    x = noise(rng, 4, 5, 5, 3)
    np.save(tmp_path / "set.npy", x)
    with pytest.raises(TTAError, match=r"labels\.npy"):
        load_data("set.npy", tmp_path)
    np.save(tmp_path / "labels.npy", np.arange(4))
    data = load_data("set.npy", tmp_path)
    assert isinstance(data.array, np.memmap)
    assert same(data.images(slice(None)), x)


BAD = {
    "float": (dict(x=np.zeros((2, 4, 4, 3), np.float32), y=np.arange(2)), "uint8"),
    "four channels": (dict(x=np.zeros((2, 4, 4, 4), np.uint8), y=np.arange(2)), "C 1 or 3"),
    "none": (dict(x=np.zeros((0, 4, 4, 3), np.uint8), y=np.zeros(0, int)), "no images"),
    "counts": (dict(x=np.zeros((2, 4, 4, 3), np.uint8), y=np.arange(3)), "2 images but 3 labels"),
    "one-hot": (dict(x=np.zeros((2, 4, 4, 3), np.uint8), y=np.eye(2, dtype=int)), "argmax"),
    "real labels": (dict(x=np.zeros((2, 4, 4, 3), np.uint8), y=np.zeros(2)), "integers"),
    "negative": (dict(x=np.zeros((2, 4, 4, 3), np.uint8), y=np.array([-1, 0])), "range from -1"),
    "no labels": (dict(x=np.zeros((2, 4, 4, 3), np.uint8)), "expected test_images"),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_do_not_fit_are_refused(tmp_path, case):
    arrays, message = BAD[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(TTAError, match=message):
        load_data("bad.npz", tmp_path)


def test_pickled_objects_in_arrays_are_not_opened(tmp_path):
    bad = np.array([Payload(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "bad.npz", x=bad, y=np.zeros(1, int))
    np.save(tmp_path / "bad.npy", bad)
    np.save(tmp_path / "labels.npy", np.zeros(1, int))
    for name in ("bad.npz", "bad.npy"):
        with pytest.raises(TTAError, match=r"cannot be read|images are object"):
            load_data(name, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_damaged_npz_is_refused(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(TTAError, match=r"cannot be read as \.npz"):
        load_data("bad.npz", tmp_path)


def test_fingerprint_is_of_the_contents(tmp_path, rng):
    x, y = noise(rng, 4, 5, 5, 3), np.arange(4)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.savez_compressed(tmp_path / "b.npz", images=x, labels=y)
    x[3, 4, 4, 2] ^= 1
    np.savez(tmp_path / "c.npz", x=x, y=y)
    a, b, c = (load_data(f"{name}.npz", tmp_path).fingerprint for name in "abc")
    assert a == b
    assert a != c


def test_arrays_resize_as_images_do(tmp_path, rng):
    x = noise(rng, 2, 40, 40, 3)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(2))
    data = load_data("a.npz", tmp_path, size=32)
    assert data.shape == (3, 32, 32)
    assert same(data.images(slice(None)), [np.asarray(crop(Image.fromarray(image), 32)) for image in x])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the memory of mapped files")
def test_what_was_read_of_a_mapped_file_does_not_stay_in_memory(tmp_path):
    def mapped_megabytes():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssFile"))

    np.save(tmp_path / "set.npy", np.zeros((800, 224, 224), np.uint8))  # 40 MB
    np.save(tmp_path / "labels.npy", np.arange(800) % 2)
    data = load_data("set.npy", tmp_path)
    data.images(slice(8))
    before = mapped_megabytes()
    for start in range(0, 800, 50):
        data.images(slice(start, start + 50))
    assert data.fingerprint
    assert mapped_megabytes() - before < 15
