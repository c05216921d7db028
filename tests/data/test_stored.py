"""Stored corruptions in the published layouts."""

import numpy as np
import pytest
import torch
from trees import noise, same, write_images

from tta.data.imagenet import IMAGENET_A, wnids
from tta.datasets import load_data, stored_corruption, stored_names
from tta.errors import TTAError


def write_cifar_c(root, rng, count=6):
    root.mkdir()
    x = noise(rng, 5 * count, 32, 32, 3)
    np.save(root / "fog.npy", x)
    np.save(root / "labels.npy", np.tile(np.arange(count), 5))
    return x


def test_cifar_c_is_severity_major(tmp_path, rng):
    x = write_cifar_c(tmp_path / "CIFAR-10-C", rng)
    for severity in (1, 5):
        data = stored_corruption(tmp_path / "CIFAR-10-C", "fog", severity)
        assert same(data.images(slice(None)), x[(severity - 1) * 6 : severity * 6])
        assert data.labels.tolist() == list(range(6))
        assert isinstance(data.array, np.memmap)
    assert "severity 5, 6 of 6 images, stored" in data.note
    assert len(stored_corruption(tmp_path / "CIFAR-10-C", "fog", 2, limit=4)) == 4
    assert stored_names(tmp_path / "CIFAR-10-C") == ["fog"]


def test_cifar_c_that_does_not_fit_is_refused(tmp_path, rng):
    root = tmp_path / "CIFAR-10-C"
    x = write_cifar_c(root, rng)
    with pytest.raises(TTAError, match="did you mean 'fog'"):
        stored_corruption(root, "frog", 1)
    for severity in (0, 6, 2.5):
        with pytest.raises(TTAError, match="1 to 5"):
            stored_corruption(root, "fog", severity)
    np.savez(tmp_path / "clean.npz", x=x[:6], y=[0, 1, 2, 3, 5, 4])
    with pytest.raises(TTAError, match="labels differ"):
        stored_corruption(root, "fog", 1, like=load_data("clean.npz", tmp_path))
    np.save(root / "fog.npy", x[:-1])
    with pytest.raises(TTAError, match="29 images and 30 labels"):
        stored_corruption(root, "fog", 1)
    (root / "labels.npy").unlink()
    with pytest.raises(TTAError, match=r"labels\.npy is not there"):
        stored_corruption(root, "fog", 1)
    with pytest.raises(TTAError, match="not there"):
        stored_corruption(tmp_path / "CIFAR-100-C", "fog", 1)


def test_medmnist_c_with_labels_once(tmp_path, rng):
    x = noise(rng, 20, 28, 28)
    np.savez_compressed(tmp_path / "pixelate.npz", test_images=x, test_labels=np.arange(4)[:, None])
    data = stored_corruption(tmp_path, "pixelate", 2, channels=3)
    assert data.shape == (3, 28, 28)
    assert torch.equal(data.images(slice(None))[:, 1], torch.from_numpy(x[4:8]))


@pytest.mark.parametrize("archive", ["", "weather"])
def test_imagenet_c_folders(tmp_path, rng, archive):
    root, names = tmp_path / "ImageNet-C", [wnids()[7], wnids()[3]]
    arrays = write_images(root / archive / "fog" / "3", sorted(names), 2, rng)
    data = stored_corruption(root, "fog", 3)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert same(data.images(slice(None)), arrays)
    assert stored_names(root) == []  # severity 1 is what names a corruption
    write_images(tmp_path / "imagenet" / "val", sorted(names), 2, rng)
    like = load_data("imagenet", tmp_path)
    assert stored_corruption(root, "fog", 3, like=like).labels.tolist() == [3, 3, 7, 7]


def test_imagenet_c_bar_folders(tmp_path, rng):
    root = tmp_path / "cbar_download"
    for severity in range(1, 6):
        write_images(root / "caustic_refraction" / str(severity), [wnids()[2]], 1, rng)
    write_images(tmp_path / "imagenet" / "val", [wnids()[2]], 1, rng)
    assert stored_names(root) == ["caustic_refraction"]
    data = stored_corruption(root, "caustic_refraction", 4, like=load_data("imagenet", tmp_path))
    assert (data.labels.tolist(), len(data.classes)) == ([2], 1000)


def test_stored_images_are_described_as_the_clean_ones(tmp_path, rng):
    digits = load_data("digits", limit=6)
    root = tmp_path / "stored"
    write_cifar_c(root, rng)
    np.save(root / "labels.npy", np.tile(digits.labels.numpy(), 5))
    data = stored_corruption(root, "fog", 2, like=digits)
    assert (data.classes, data.mirrors) == (digits.classes, False)


def test_stored_folders_of_a_subset_of_imagenet(tmp_path, rng):
    names = [wnids()[i] for i in IMAGENET_A[:2]]
    write_images(tmp_path / "imagenet-a", names, 1, rng)
    write_images(tmp_path / "stored" / "fog" / "1", names, 1, rng)
    data = stored_corruption(tmp_path / "stored", "fog", 1, like=load_data("imagenet-a", tmp_path))
    assert data.class_indices == IMAGENET_A
    assert data.labels.tolist() == [0, 1]


def test_medmnist_c_has_a_folder_for_each_data_set(tmp_path, rng):
    clean = noise(rng, 2, 28, 28, 3)
    np.savez(tmp_path / "bloodmnist.npz", test_images=clean, test_labels=[[5], [2]])
    like = load_data("bloodmnist", tmp_path)
    (tmp_path / "MedMNIST-C" / "bloodmnist").mkdir(parents=True)
    x = noise(rng, 10, 28, 28, 3)
    file = tmp_path / "MedMNIST-C" / "bloodmnist" / "bubble.npz"
    np.savez_compressed(file, test_images=x, test_labels=np.tile([[5], [2]], (5, 1)))
    for root, name in ((file.parent, "bubble"), (file.parents[1], "medmnist-c/bloodmnist/bubble")):
        data = stored_corruption(root, name, 5, like=like)
        assert same(data.images(slice(None)), x[8:])
        assert data.balanced
