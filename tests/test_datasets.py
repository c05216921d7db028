"""Data sets by name or path."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import DATA, needs_data
from trees import noise

import corruptions
from tta.data.images import positions
from tta.datasets import Corrupted, Subset, load_data
from tta.digits import digits, table
from tta.errors import TTAError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- digits ---


def test_digits_split_is_stratified_and_complete():
    (x, y), (x_train, y_train) = digits("test"), digits("train")
    assert (x.dtype, x.shape, x_train.shape) == (torch.uint8, (1000, 3, 32, 32), (797, 3, 32, 32))
    assert y.bincount().tolist() == [100] * 10
    from sklearn.datasets import load_digits

    assert (torch.cat([y, y_train]).bincount() == torch.from_numpy(np.bincount(load_digits().target))).all()
    test, train = ({image.numpy().tobytes() for image in images} for images in (x, x_train))
    assert not test & train


def test_digits_are_those_that_scikit_learn_loads(monkeypatch):
    from sklearn.datasets import load_digits

    raw = load_digits()
    fast = table()
    monkeypatch.setattr("tta.digits.find_spec", lambda name: None)
    for rows in (fast, table()):
        assert np.array_equal(rows[:, :-1], raw.data)
        assert np.array_equal(rows[:, -1], raw.target)


def test_digits_images_are_the_same_everywhere():
    assert load_data("digits").fingerprint == "4bd48519d0f98003d7165605b80df9c02209c08f55538acf1867a1cbc088ce4e"


def test_digits_limit_keeps_keys_and_changes_the_fingerprint():
    whole, part = load_data("digits"), load_data("digits", limit=10)
    assert len(part) == 10
    assert torch.equal(part.images(slice(None)), whole.images(slice(10)))
    assert part.keys.tolist() == list(range(10))
    assert part.fingerprint != whole.fingerprint


# --- index ---


def test_index_takes_slices_and_repeated_positions():
    data = load_data("digits", limit=20)
    assert torch.equal(data.images(torch.tensor([3, 3, 1])), data.images(slice(4))[[3, 3, 1]])
    assert data.images(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(
    "index", [torch.tensor([20]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor(3), torch.ones(20).bool()]
)
def test_index_outside_or_of_another_kind_is_refused(index):
    with pytest.raises(TTAError, match="index"):
        positions(index, 20)


# --- splits ---


def test_folder_of_arrays_gives_the_file_of_the_split(tmp_path, rng):
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for name, count in (("test20", 20), ("train30", 30)):
        np.savez(folder / f"{name}.npz", x=noise(rng, count, 32, 32, 3), y=np.arange(count) % 10)
    assert len(load_data("cifar10", tmp_path)) == 20
    assert len(load_data("cifar10", tmp_path, split="train")) == 30
    assert len(load_data("cifar10", folder)) == 20
    np.savez(folder / "test_other.npz", x=noise(rng, 1, 32, 32, 3), y=[0])
    with pytest.raises(TTAError, match=r"test20\.npz, test_other\.npz"):
        load_data("cifar10", tmp_path)


def test_test_images_are_never_given_as_training_data(tmp_path, rng):
    np.savez(tmp_path / "set.npz", x=noise(rng, 4, 5, 5, 3), y=np.arange(4))
    with pytest.raises(TTAError, match="begins with train"):
        load_data("set.npz", tmp_path, split="train")


# --- names ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(name="cifra10"), "did you mean 'cifar10'"),
        (dict(name="digits", split="tset"), "did you mean 'test'"),
        (dict(name="digits", split="val"), "no split 'val'"),
        (dict(name="digits", limit=0), "limit is 0"),
        (dict(name="digits", channels=1), "3 channels"),
        (dict(name="no/such/folder"), "is not there"),
        (dict(name="cifar10"), "set TTA_DATA"),
        (dict(name="imagenet"), "WNID"),
        (dict(name="bloodmnist"), "medmnist.com"),
    ],
)
def test_wrong_names_say_what_to_do(tmp_path, arguments, message):
    with pytest.raises(TTAError, match=message):
        load_data(root=tmp_path, **arguments)


def test_root_comes_from_the_environment(tmp_path, rng, monkeypatch):
    np.savez(tmp_path / "set.npz", x=noise(rng, 2, 4, 4, 3), y=np.arange(2))
    monkeypatch.setenv("TTA_DATA", str(tmp_path))
    assert len(load_data("set.npz")) == 2


# --- corrupted ---


def test_corrupted_is_the_corruption_of_the_images_keyed_by_image():
    data = load_data("digits", limit=12)
    noisy = Corrupted(data, "gaussian_noise", 3, seed=5)
    x = noisy.images(slice(None))
    whole = corruptions.corrupt(data.images(slice(None)), "gaussian_noise", 3, seed=5)
    assert torch.equal(x, whole)
    assert torch.equal(noisy.images(torch.tensor([7, 2])), x[[7, 2]])
    assert torch.equal(noisy.labels, data.labels)
    assert not torch.equal(x, data.images(slice(None)))


def test_part_of_a_data_set_is_corrupted_as_the_whole():
    data = load_data("digits", limit=12)
    part = Subset(data, torch.tensor([9, 4]))
    whole = Corrupted(data, "gaussian_noise", 3).images(slice(None))
    assert torch.equal(Corrupted(part, "gaussian_noise", 3).images(slice(None)), whole[[9, 4]])


def test_corrupted_fingerprint_tells_name_severity_and_seed():
    data = load_data("digits", limit=2)
    cases = [("gaussian_noise", 3, 0), ("gaussian_noise", 3.5, 0), ("gaussian_noise", 3, 1), ("brightness", 3, 0)]
    assert len({Corrupted(data, *case).fingerprint for case in cases}) == 4
    assert Corrupted(data, "gaussian_noise", 3).fingerprint == Corrupted(data, "gaussian_noise", 3.0).fingerprint


def test_corrupted_refuses_unknown_names_and_severities():
    data = load_data("digits", limit=2)
    with pytest.raises(corruptions.CorruptionError, match="gaussian_noise"):
        Corrupted(data, "gausian_noise", 3)
    with pytest.raises(corruptions.CorruptionError, match="severity"):
        Corrupted(data, "gaussian_noise", 6)


def test_digits_are_bilinear_enlargements():
    from sklearn.datasets import load_digits

    from tta.digits import INK, PAPER, draw

    raw = load_digits().images[:20]
    large = F.interpolate(torch.from_numpy(raw)[:, None], scale_factor=2, mode="bilinear")[:, 0] / 16
    expected = PAPER + (INK - PAPER) * F.pad(large, (8, 8, 8, 8))
    assert (torch.from_numpy(draw(raw.astype(int))) - expected).abs().max() <= 0.5


# --- real ---


@pytest.mark.real
@needs_data
@pytest.mark.parametrize(
    ("name", "options", "shape", "count"),
    [
        ("cifar10", {}, (3, 32, 32), 1017),
        ("cifar10", {"split": "train"}, (3, 32, 32), 5085),
        ("imagenet", {}, (3, 224, 224), 256),
        ("pneumoniamnist", {}, (1, 28, 28), 624),
        ("pneumoniamnist", {"split": "val", "channels": 3}, (3, 28, 28), 524),
    ],
)
def test_real_data(name, options, shape, count):
    data = load_data(name, DATA, **options)
    assert (len(data), data.shape) == (count, shape)
    assert data.images(torch.tensor([0, count - 1])).shape == (2, *shape)
