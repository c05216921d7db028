"""ImageNet and its variants."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from trees import noise, same, write_images

from tta.data.imagenet import IMAGENET_A, IMAGENET_R, descriptions, wnids
from tta.datasets import Corrupted, Subset, load_data
from tta.errors import TTAError


def test_imagenet_folders_have_the_labels_of_imagenet(tmp_path, rng):
    names = [wnids()[998], wnids()[4]]
    arrays = write_images(tmp_path / "imagenet" / "val", sorted(names), 3, rng, side=16)
    data = load_data("imagenet", tmp_path)
    assert (len(data.classes), data.shape) == (1000, (3, 16, 16))
    assert data.labels.tolist() == [4, 4, 4, 998, 998, 998]
    assert same(data.images(torch.tensor([5, 0])), [arrays[5], arrays[0]])
    assert load_data("imagenet", tmp_path / "imagenet" / "val").labels.tolist() == data.labels.tolist()
    (tmp_path / "imagenet" / "val" / "dogs").mkdir()
    with pytest.raises(TTAError, match="'dogs' is not one of the 1000"):
        load_data("imagenet", tmp_path)


def test_imagenet_arrays_know_the_folders_of_their_classes(tmp_path, rng):
    (tmp_path / "imagenet").mkdir()
    np.savez(tmp_path / "imagenet" / "dev.npz", x=noise(rng, 3, 8, 8, 3), y=[0, 5, 999])
    data = load_data("imagenet", tmp_path)
    assert data.folders == wnids()
    assert data.class_indices is None


def test_validation_images_without_folders_are_told_from_missing_ones(tmp_path, rng):
    (tmp_path / "imagenet" / "val").mkdir(parents=True)
    Image.fromarray(noise(rng, 8, 8, 3)).save(tmp_path / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(TTAError, match=r"holds images without folders.*torchvision\.datasets\.ImageNet"):
        load_data("imagenet", tmp_path)


# --- variants ---


def test_subsets_are_those_of_timm():
    info = files("timm.data") / "_info"
    for name, indices in (("a", IMAGENET_A), ("r", IMAGENET_R)):
        synsets = (info / f"imagenet_{name}_synsets.txt").read_text().split()
        assert [wnids()[i] for i in indices] == synsets
        assert sorted({*indices}) == list(indices)


@pytest.mark.parametrize(("name", "indices"), [("imagenet-r", IMAGENET_R), ("imagenet-a", IMAGENET_A)])
def test_subsets_of_200_classes(tmp_path, rng, name, indices):
    present = [wnids()[indices[7]], wnids()[indices[199]]]  # the others are missing in this copy
    arrays = write_images(tmp_path / name, present, 2, rng, kind="png")
    (tmp_path / name / "README.txt").write_text("as in the archive")
    for root in (tmp_path, tmp_path / name):
        data = load_data(name, root)
        assert data.labels.tolist() == [7, 7, 199, 199]
        assert (len(data.classes), data.class_indices) == (200, indices)
        assert data.classes[7] == descriptions()[indices[7]]
        assert same(data.images(slice(None)), arrays)
    strange = next(wnid for i, wnid in enumerate(wnids()) if i not in indices)
    (tmp_path / name / strange).mkdir()
    with pytest.raises(TTAError, match=f"{strange!r} is not one of the 200"):
        load_data(name, tmp_path)


def test_subset_stays_with_what_is_made_of_it(tmp_path, rng):
    write_images(tmp_path / "imagenet-a", [wnids()[6], wnids()[11]], 2, rng)
    data = load_data("imagenet-a", tmp_path)
    for made in (Subset(data, torch.tensor([1, 3])), Corrupted(data, "fog", 3)):
        assert made.class_indices == IMAGENET_A
        assert made.folders == data.folders


def test_training_images_of_a_subset_are_those_of_imagenet(tmp_path, rng):
    inside, outside = wnids()[IMAGENET_R[3]], wnids()[0]
    assert 0 not in IMAGENET_R
    arrays = write_images(tmp_path / "imagenet" / "train", sorted([outside, inside]), 2, rng)
    data = load_data("imagenet-r", tmp_path, split="train")
    assert data.labels.tolist() == [3, 3]
    assert data.class_indices == IMAGENET_R
    assert same(data.images(slice(None)), arrays[2:] if inside > outside else arrays[:2])
    with pytest.raises(TTAError, match="no split 'val'"):
        load_data("imagenet-r", tmp_path, split="val")


V2 = {
    "imagenet-v2": "imagenetv2-matched-frequency-format-val",
    "imagenet-v2-threshold-0.7": "imagenetv2-threshold0.7-format-val",
    "imagenet-v2-top-images": "imagenetv2-top-images-format-val",
}


@pytest.mark.parametrize("beside", ["", "imagenet-v2"])
def test_imagenet_v2_folders_are_numbers_not_words(tmp_path, rng, beside):
    for name, folder in V2.items():
        arrays = write_images(tmp_path / beside / folder, ["0", "10", "2", "999"], 1, rng)
        for root in (tmp_path, tmp_path / beside / folder):
            data = load_data(name, root)
            assert data.labels.tolist() == [0, 10, 2, 999]  # sorted as words, these would be 0, 1, 2, 3
            assert data.class_indices is None
            assert (len(data.classes), data.classes[2]) == (1000, descriptions()[2])
            assert same(data.images(slice(None)), arrays)


def test_imagenet_v2_variants_are_not_mistaken_for_each_other(tmp_path, rng):
    write_images(tmp_path / V2["imagenet-v2"], ["0"], 1, rng)
    for root in (tmp_path, tmp_path / V2["imagenet-v2"]):
        with pytest.raises(TTAError, match=r"imagenetv2-top-images\.tar\.gz \(SHA-256 85e4ace30f3f"):
            load_data("imagenet-v2-top-images", root)


@pytest.mark.parametrize("folder", ["sketch", "imagenet-sketch", "ImageNet-Sketch/sketch"])
def test_imagenet_sketch(tmp_path, rng, folder):
    write_images(tmp_path / folder, [wnids()[5], wnids()[6]], 1, rng, kind="jpeg")
    data = load_data("imagenet-sketch", tmp_path)
    assert data.labels.tolist() == [5, 6]
    assert len(data.classes) == 1000


def test_folders_named_by_wordnet_ids_are_classes_of_imagenet(tmp_path, rng):
    write_images(tmp_path / "imagenette" / "val", [wnids()[0], wnids()[217]], 1, rng)
    assert load_data("imagenette", tmp_path).class_indices == (0, 217)
    write_images(tmp_path / "pets" / "val", [wnids()[0], "dogs"], 1, rng)
    assert load_data("pets", tmp_path).class_indices is None
