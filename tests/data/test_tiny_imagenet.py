"""Tiny-ImageNet in its two layouts, and Tiny-ImageNet-C."""

import numpy as np
import pytest
import torch
from PIL import Image
from trees import noise, same, write_images

from tta.datasets import Corrupted, load_data, stored_corruption
from tta.errors import TTAError

WNIDS = ("n03444034", "n04067472", "n01443537")  # as wnids.txt has them: not sorted


def write_published(root, rng, annotations=None):
    """The layout of tiny-imagenet-200.zip; returns the validation images sorted by WordNet id and name."""
    root.mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\n")
    (root / "val" / "images").mkdir(parents=True)
    lines, arrays = [], []
    for i, wnid in enumerate((*WNIDS, *WNIDS)):
        arrays.append((wnid, f"val_{i}.JPEG", noise(rng, 64, 64, 3)))
        Image.fromarray(arrays[-1][2]).save(root / "val" / "images" / f"val_{i}.JPEG", "PNG")  # lossless, to compare
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(annotations or lines) + "\n")
    return [array for _, _, array in sorted(arrays, key=lambda entry: entry[:2])]


def test_published_layout(tmp_path, rng):
    arrays = write_published(tmp_path / "tiny-imagenet-200", rng)
    data = load_data("tiny-imagenet", tmp_path)
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.folders == tuple(sorted(WNIDS))
    assert data.classes == ("goldfish, Carassius auratus", "n03444034", "n04067472")
    assert same(data.images(slice(None)), arrays)
    assert torch.equal(load_data("tiny-imagenet", tmp_path / "tiny-imagenet-200").labels, data.labels)


def test_both_layouts_are_the_same_data(tmp_path, rng):
    arrays = write_published(tmp_path / "a" / "tiny-imagenet-200", rng)
    for k, wnid in enumerate(sorted(WNIDS)):
        folder = tmp_path / "b" / "tiny-imagenet-200" / "val" / wnid
        folder.mkdir(parents=True)
        for i, array in enumerate(arrays[2 * k : 2 * k + 2]):
            Image.fromarray(array).save(folder / f"{i}.png")
    a, b = (load_data("tiny-imagenet", tmp_path / root) for root in "ab")
    assert torch.equal(a.labels, b.labels)
    noisy = [Corrupted(data, "gaussian_noise", 3).images(slice(None)) for data in (a, b)]
    assert torch.equal(*noisy)


def test_training_images_lie_one_folder_deeper(tmp_path, rng):
    root = tmp_path / "tiny-imagenet-200"
    write_published(root, rng)
    for wnid in WNIDS:
        write_images(root / "train" / wnid, ["images"], 2, rng, side=64)
    assert load_data("tiny-imagenet", tmp_path, split="train").labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_annotations_that_do_not_fit_are_refused(tmp_path, rng):
    write_published(tmp_path / "a" / "tiny-imagenet-200", rng, ["val_0.JPEG\tn09999999\t0\t0\t1\t1"])
    with pytest.raises(TTAError, match=r"line 1.*n09999999"):
        load_data("tiny-imagenet", tmp_path / "a")
    write_published(tmp_path / "b" / "tiny-imagenet-200", rng, ["val_77.JPEG\tn03444034\t0\t0\t1\t1"])
    with pytest.raises(TTAError, match=r"1 of 1 files that are not in .*images/val_77\.JPEG"):
        load_data("tiny-imagenet", tmp_path / "b")


def test_stored_corruption_has_the_labels_of_the_clean_images(tmp_path, rng):
    write_published(tmp_path / "tiny-imagenet-200", rng)
    like = load_data("tiny-imagenet", tmp_path)
    some = sorted(WNIDS)[1:]  # a copy without the first class
    arrays = write_images(tmp_path / "Tiny-ImageNet-C" / "fog" / "3", some, 2, rng, side=64)
    data = stored_corruption(tmp_path / "Tiny-ImageNet-C", "fog", 3, like=like)
    assert data.labels.tolist() == [1, 1, 2, 2]
    assert data.classes == like.classes
    assert same(data.images(slice(None)), arrays)


def test_imagenet_is_not_taken_for_it(tmp_path, rng):
    np_names = [f"n{i:08d}" for i in range(201)]
    write_images(tmp_path / "val", np_names, 1, np.random.default_rng(0), side=2)
    with pytest.raises(TTAError, match=r"tiny-imagenet-200\.zip \(MD5 90528d7ca1a4"):
        load_data("tiny-imagenet", tmp_path)
