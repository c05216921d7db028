"""What is said of a data set that is not there."""

import pytest

from tta.data.medmnist import CLASSES, MD5
from tta.data.published import IMAGENET_C, MEDMNIST_C, PUBLISHED, publication_of_corrupted
from tta.datasets import NAMES, load_data, stored_corruption
from tta.errors import TTAError

WANTED = {
    "cifar10": r"cifar-10-python\.tar\.gz \(MD5 c58f30108f718f92721af3b95e74349a\) from cs\.toronto\.edu",
    "cifar100": r"cifar-100-python\.tar\.gz \(MD5 eb9058c3a382ffc7106e4002c42a8d85\)",
    "imagenet": r"ILSVRC2012_img_val\.tar \(MD5 29b22e2961454d5413ddabcf34fc5622\) from image-net\.org.*per WordNet id",
    "imagenet-v2": r"imagenetv2-matched-frequency\.tar\.gz \(SHA-256 f0c37fdf9259",
    "imagenet-r": r"imagenet-r\.tar \(MD5 a61312130a589d0ca1a8fca1f2bd3337\)",
    "imagenet-a": r"imagenet-a\.tar \(MD5 c3e55429088dc681f30d81f4726b6595\)",
    "imagenet-sketch": r"ImageNet-Sketch\.zip \(SHA-256 4d3ce6b82a7c",
    "tiny-imagenet": r"tiny-imagenet-200\.zip \(MD5 90528d7ca1a48142e341f4ef8d21d0de\)",
    "bloodmnist": r"bloodmnist\.npz \(MD5 7053d0359d879ad8a5505303e11de1dc\) from medmnist\.com",
}


@pytest.mark.parametrize("name", WANTED)
def test_a_missing_data_set_says_where_it_looked_which_file_it_wants_and_what_to_do(tmp_path, name):
    with pytest.raises(TTAError, match=WANTED[name]) as error:
        load_data(name, tmp_path)
    message = str(error.value)
    assert f"{name} " in message
    assert str(tmp_path) in message
    assert "expected" in message
    assert "give root= or set TTA_DATA" in message
    assert "\n" not in message


def test_every_name_has_a_publication():
    for name in set(NAMES) - {"digits", "imagenet-v2"} - set(CLASSES):
        assert PUBLISHED[name].page
    assert set(MD5) == set(CLASSES)


def test_hashes_are_whole_and_differ():
    digests = [archive.digest for one in PUBLISHED.values() for archive in one.archives if archive.digest]
    digests += [digest for four in MD5.values() for digest in four] + list(MEDMNIST_C.values())
    digests += [archive.digest for archive in IMAGENET_C]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) in (32, 64) and int(digest, 16) for digest in digests)


@pytest.mark.parametrize(
    ("name", "archive", "command"),
    [
        ("cifar10", "cifar-10-python.tar.gz", "tar -xf {file} -C {root}"),
        ("imagenet-r", "imagenet-r.tar", "tar -xf {file} -C {root}"),
        ("tiny-imagenet", "tiny-imagenet-200.zip", "unzip {file} -d {root}"),
    ],
)
def test_an_archive_that_is_not_unpacked_is_told(tmp_path, name, archive, command):
    (tmp_path / archive).write_bytes(b"")
    with pytest.raises(TTAError, match="is there but not unpacked") as error:
        load_data(name, tmp_path)
    assert command.format(file=tmp_path / archive, root=tmp_path) in str(error.value)


# --- corrupted ---


class Like:
    """As much of a clean data set as a missing corruption is looked up by."""

    classes, folders = ("a", "b"), ()

    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize(
    ("data", "corruption", "expected"),
    [
        (
            "cifar10",
            "fog",
            r"CIFAR-10-C\.tar \(MD5 56bf5dcef84df0e2308c6dcbcbbd8499\) from zenodo\.org/records",
        ),
        ("cifar100", "fog", r"CIFAR-100-C\.tar \(MD5 11f0ed0f1191edbf9fa23466ae6021d3\)"),
        ("imagenet", "fog", r"weather\.tar \(MD5 33ffea4db4d93fe4a428c40a6ce0c25d\) from zenodo\.org/records/2235448"),
        ("imagenet", "caustic_refraction", r"imagenet_c_bar\.tar\.gz \(no published hash\)"),
        ("tiny-imagenet", "fog", r"Tiny-ImageNet-C\.tar \(MD5 f9c9a9dbdc11469f0b850190f7ad8be1\)"),
        ("bloodmnist", "bubble", r"bloodmnist\.zip \(MD5 daba10a010064a9e38f0d09b498bcf18\)"),
        ("digits", "fog", "leave the stored folder out, and the corruptions are computed"),
    ],
)
def test_a_missing_corruption_says_which_file_has_it(tmp_path, data, corruption, expected):
    with pytest.raises(TTAError, match=expected) as error:
        stored_corruption(tmp_path / "stored", corruption, 3, like=Like(data))
    assert f"{tmp_path / 'stored'} is not there; expected {corruption}.npy" in str(error.value)


def test_a_part_of_imagenet_c_that_is_not_unpacked_is_told(tmp_path):
    (tmp_path / "frost" / "1").mkdir(parents=True)
    (tmp_path / "blur.tar").write_bytes(b"")
    with pytest.raises(TTAError, match=r"has frost, but no zoom_blur; .*blur\.tar is there but not unpacked"):
        stored_corruption(tmp_path, "zoom_blur", 3, like=Like("imagenet"))
    with pytest.raises(TTAError, match=r"get noise\.tar"):
        stored_corruption(tmp_path, "shot_noise", 3, like=Like("imagenet"))


@pytest.mark.parametrize("data", ["imagenet", "cifar10"])
def test_a_misspelled_corruption_is_in_no_archive(tmp_path, data):
    (tmp_path / "frost" / "1").mkdir(parents=True)
    with pytest.raises(TTAError, match="did you mean 'frost'") as error:
        stored_corruption(tmp_path, "forst", 3, like=Like(data))
    assert "MD5" not in str(error.value)


def test_every_corruption_of_imagenet_c_is_in_one_part():
    from corruptions import suite

    named = [name for names in IMAGENET_C.values() for name in names]
    assert sorted(named) == sorted(suite("imagenet-c-19"))
    assert publication_of_corrupted("tissuemnist", "pixelate") is None
