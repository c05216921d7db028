"""Images in class folders."""

import threading
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from trees import noise, same, write_images

from tta.data import image_files
from tta.data.folders import FolderImages
from tta.data.resize import crop
from tta.datasets import load_data
from tta.errors import TTAError


def test_folder_limit_spreads_over_the_classes_and_keeps_keys(tmp_path, rng):
    write_images(tmp_path / "set", "abc", 4, rng)
    data = load_data("set", tmp_path, limit=6)
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.keys.tolist() == [0, 2, 4, 6, 8, 10]
    assert data.classes == ("a", "b", "c")
    assert "6 of 12 images in 3 class folders" in data.note


def test_folder_splits(tmp_path, rng):
    write_images(tmp_path / "set" / "train", "ab", 2, rng)
    write_images(tmp_path / "set" / "val", "ab", 3, rng)
    assert len(load_data("set", tmp_path)) == 6
    assert len(load_data("set", tmp_path, split="train")) == 4
    write_images(tmp_path / "set" / "test", "ab", 1, rng)
    assert len(load_data("set", tmp_path)) == 2


def test_unreadable_files_are_counted_and_reported(tmp_path, rng):
    arrays = write_images(tmp_path / "set", "ab", 2, rng)
    (tmp_path / "set" / "a" / "2.png").write_text("not an image")
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "set" / "b" / "2.png")
    with pytest.warns(UserWarning, match=r"2 of 6 files are left out; the first: 2\.png"):
        data = load_data("set", tmp_path)
    assert [file.parent.name for file in data.unreadable] == ["a", "b"]
    assert "2 unreadable" in data.note
    assert data.keys.tolist() == [0, 1, 3, 4]
    assert same(data.images(slice(None)), arrays)


def test_truncated_image_is_named_when_it_is_decoded(tmp_path, rng):
    write_images(tmp_path / "set", "ab", 2, rng, side=64, kind="jpg")
    broken = tmp_path / "set" / "b" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:900])
    data = load_data("set", tmp_path)
    assert data.images(slice(3)).shape == (3, 3, 64, 64)
    with pytest.raises(TTAError, match=r"1 of 4 images cannot be decoded.*1\.jpg"):
        data.images(slice(None))


def test_images_of_several_sizes_need_a_size(tmp_path, rng):
    write_images(tmp_path / "set", "a", 1, rng, side=40)
    write_images(tmp_path / "set", "b", 1, rng, side=50)
    data = load_data("set", tmp_path)
    assert data.shape is None
    with pytest.raises(TTAError, match="give size="):
        data.images(slice(None))
    assert load_data("set", tmp_path, size=32).images(slice(None)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("width", [256, 301, 500])
def test_crop_is_that_of_torchvision(rng, width):
    from torchvision.transforms import CenterCrop, Compose, Resize

    image = Image.fromarray(noise(rng, 333, width, 3))
    expected = Compose([Resize(256), CenterCrop(224)])(image)
    assert np.array_equal(np.asarray(crop(image, 224)), np.asarray(expected))


def test_crop_never_touches_an_image_of_the_size(rng):
    image = Image.fromarray(noise(rng, 224, 224, 3))
    assert crop(image, 224) is image


def test_grey_and_transparent_files_become_rgb(tmp_path, rng):
    folder = tmp_path / "set" / "a"
    folder.mkdir(parents=True)
    grey = noise(rng, 8, 8)
    Image.fromarray(grey).save(folder / "0.png")
    Image.fromarray(noise(rng, 8, 8, 4), "RGBA").save(folder / "1.png")
    x = load_data("set", tmp_path).images(slice(None))
    assert torch.equal(x[0], torch.from_numpy(grey).expand(3, 8, 8))
    assert x.shape == (2, 3, 8, 8)
    with pytest.raises(TTAError, match="1 channel"):
        load_data("set", tmp_path, channels=1)


def test_folder_fingerprint_follows_the_files(tmp_path, rng):
    write_images(tmp_path / "set", "ab", 2, rng)
    before = load_data("set", tmp_path).fingerprint
    assert load_data("set", tmp_path).fingerprint == before
    Image.fromarray(noise(rng, 8, 8, 3)).save(tmp_path / "set" / "b" / "1.png")
    assert load_data("set", tmp_path).fingerprint != before


def test_empty_folders_are_refused(tmp_path):
    (tmp_path / "set" / "a").mkdir(parents=True)
    with pytest.raises(TTAError, match="1 class folders but no images"):
        load_data("set", tmp_path)
    (tmp_path / "flat").mkdir()
    with pytest.raises(TTAError, match="CLASS/IMAGE"):
        load_data("flat", tmp_path)
    with pytest.raises(TTAError, match="is not there"):
        FolderImages("x", tmp_path / "nowhere")


def test_no_decoded_image_is_kept(tmp_path, rng):
    write_images(tmp_path / "set", "ab", 30, rng, side=128)  # 2.9 MB decoded
    data = load_data("set", tmp_path)
    data.images(slice(4))  # what is imported and cached once
    tracemalloc.start()
    for start in range(0, 60, 4):
        data.images(slice(start, start + 4))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2e5
    assert peak < 1.5e6


def test_a_list_of_files_takes_few_bytes(tmp_path, rng):
    write_images(tmp_path / "set", "ab", 50, rng, side=2)
    data = load_data("set", tmp_path)
    assert data.names.nbytes + data.labels.nbytes + data.keys.nbytes < 100 * len(data)
    assert data.path(50) == tmp_path / "set" / "b" / "0.png"


def test_images_are_decoded_by_a_bounded_number_of_threads(tmp_path, rng, monkeypatch):
    write_images(tmp_path / "set", "ab", 20, rng)
    data = load_data("set", tmp_path)
    expected = data.images(slice(None))
    seen = set()

    def watched(file, size):
        seen.add(threading.get_ident())
        return decode(file, size)

    decode = image_files.decode
    monkeypatch.setattr(image_files, "decode", watched)
    monkeypatch.setattr(image_files, "WORKERS", 3)
    assert torch.equal(data.images(slice(None)), expected)
    assert threading.get_ident() not in seen
    assert len(seen) <= 3
