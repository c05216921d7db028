"""Where the data sets are published, in which files, and the hashes that are published with them.

Nothing is downloaded: a data set that is not there says what to get, and how to tell that it is the right file. The
hashes are those that the libraries which download these files check them by: torchvision, TensorFlow Datasets, MedMNIST
3.0.2 and others, which take them from the Zenodo records where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tta.errors import TTAError


@dataclass(frozen=True)
class Archive:
    """A published file.

    Attributes:
        name: Of the file.
        digest: Its hash: an MD5 of 32 or a SHA-256 of 64 hexadecimal digits; empty where none is published.
    """

    name: str
    digest: str = ""

    def __str__(self) -> str:
        kind = {0: "no published hash", 32: f"MD5 {self.digest}", 64: f"SHA-256 {self.digest}"}
        return f"{self.name} ({kind[len(self.digest)]})"


@dataclass(frozen=True)
class Publication:
    """Where a data set is published.

    Attributes:
        page: Address of its page.
        archives: Its files.
        then: What else has to be done with them.
        bare: Whether they hold no folder of their own.
    """

    page: str
    archives: tuple[Archive, ...]
    then: str = ""
    bare: bool = False


def _one(page: str, name: str, digest: str = "", then: str = "") -> Publication:
    return Publication(page, (Archive(name, digest),), then)


#: The archive of the validation images holds no folders.
_SORT = ", and sort the images into one folder per WordNet id, as torchvision.datasets.ImageNet does"


PUBLISHED: dict[str, Publication] = {
    "cifar10": _one("cs.toronto.edu/~kriz/cifar.html", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": _one("cs.toronto.edu/~kriz/cifar.html", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    "cifar10-c": _one("zenodo.org/records/2535967", "CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"),
    "cifar100-c": _one("zenodo.org/records/3555552", "CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"),
    "imagenet": _one("image-net.org", "ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", _SORT),
    "imagenet-train": _one("image-net.org", "ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", _SORT),
    "imagenet-c-bar": _one("github.com/facebookresearch/augmentation-corruption", "imagenet_c_bar.tar.gz"),
    "imagenet-v2-matched-frequency": _one(
        "github.com/modestyachts/ImageNetV2", "imagenetv2-matched-frequency.tar.gz",
        "f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
    ),
    "imagenet-v2-threshold-0.7": _one(
        "github.com/modestyachts/ImageNetV2", "imagenetv2-threshold0.7.tar.gz",
        "32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2",
    ),
    "imagenet-v2-top-images": _one(
        "github.com/modestyachts/ImageNetV2", "imagenetv2-top-images.tar.gz",
        "85e4ace30f3f0d660152062254b8759dda66267b27f7ec0fd8d5768f1073a04b",
    ),
    "imagenet-r": _one("github.com/hendrycks/imagenet-r", "imagenet-r.tar", "a61312130a589d0ca1a8fca1f2bd3337"),
    "imagenet-a": _one(
        "github.com/hendrycks/natural-adv-examples", "imagenet-a.tar", "c3e55429088dc681f30d81f4726b6595"
    ),
    "imagenet-sketch": _one(
        "github.com/HaohanWang/ImageNet-Sketch", "ImageNet-Sketch.zip",
        "4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed",
    ),
    "tiny-imagenet": _one(
        "cs231n.stanford.edu/tiny-imagenet-200.zip", "tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
    ),
    "tiny-imagenet-c": _one("zenodo.org/records/2536630", "Tiny-ImageNet-C.tar", "f9c9a9dbdc11469f0b850190f7ad8be1"),
}  # fmt: skip


#: The parts of ImageNet-C (zenodo.org/records/2235448), and the corruptions in each.
IMAGENET_C: dict[Archive, tuple[str, ...]] = {
    Archive("noise.tar", "e80562d7f6c3f8834afb1ecf27252745"): ("gaussian_noise", "shot_noise", "impulse_noise"),
    Archive("blur.tar", "2d8e81fdd8e07fef67b9334fa635e45c"): (
        "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    ),
    Archive("weather.tar", "33ffea4db4d93fe4a428c40a6ce0c25d"): ("frost", "snow", "fog", "brightness"),
    Archive("digital.tar", "89157860d7b10d5797849337ca2e5c03"): (
        "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    ),
    Archive("extra.tar", "d492dfba5fc162d8ec2c3cd8ee672984"): (
        "speckle_noise", "spatter", "gaussian_blur", "saturate",
    ),
}  # fmt: skip
#: MD5 of NAME.zip of MedMNIST-C (zenodo.org/records/11471504); TissueMNIST-C is not published, it has to be computed.
MEDMNIST_C = {
    "pathmnist": "bf62498906ec0383c3ec5ff12ac70c00",
    "bloodmnist": "daba10a010064a9e38f0d09b498bcf18",
    "dermamnist": "19c88c74c104655d5f668e158e56451d",
    "retinamnist": "80a2fa4c9b7fa2176606be825dfdef6e",
    "octmnist": "40389bc54256edecd09ee4bd028c7e6a",
    "breastmnist": "c755e51825c074706524ea6b2c77a10b",
    "pneumoniamnist": "c499a47a64a000b579b23920bf80a95a",
    "organamnist": "ff4ad0f53934ddf6a2330065d581990c",
    "organcmnist": "2a649c94473ab9126130af8205d6c89b",
    "organsmnist": "1dbf4d814725adc307ba9ffe5edf061a",
}


def publication_of_corrupted(data: str, corruption: str) -> Publication | None:
    """Where the corrupted version of a data set is published; None where none is known.

    Args:
        data: Name of the clean data set.
        corruption: One of its corruptions, which tells the part of ImageNet-C.
    """
    if data in MEDMNIST_C:
        return _one("zenodo.org/records/11471504", f"{data}.zip", MEDMNIST_C[data])
    if data == "imagenet":
        parts = tuple(part for part, names in IMAGENET_C.items() if corruption in names)
        return Publication("zenodo.org/records/2235448", parts, bare=True) if parts else PUBLISHED["imagenet-c-bar"]
    return PUBLISHED.get(f"{data}-c")


def not_there(what: str, looked: Sequence[Path], expected: str, publication: Publication | None = None) -> TTAError:
    """The error for a data set that is not there: where it was looked for, which file is wanted, and what to do.

    Args:
        what: The data set, and the split.
        looked: The folders, the one to put it into last.
        expected: What would have been recognised there.
        publication: Where it is published; None for what the user alone knows.
    """
    places = " or ".join(str(place) for place in dict.fromkeys(looked))
    advice = what_to_do(looked, publication, "give root= or set TTA_DATA")
    return TTAError(f"{what} is not in {places}; expected {expected}; {advice}")


def what_to_do(looked: Sequence[Path], publication: Publication | None, otherwise: str) -> str:
    """Unpack what lies in one of the places already, or get it, or do something else."""
    if publication is None:
        return f"put it there, or {otherwise}"
    target = looked[-1]
    for archive in publication.archives:
        for place in dict.fromkeys((*looked, *(place.parent for place in looked))):
            file = place / archive.name
            if file.is_file() and file.suffix != ".npz":
                return f"{file} is there but not unpacked: {unpack(file, target)}{publication.then}"
    wanted = ", ".join(str(archive) for archive in publication.archives)
    put = "put it into" if ".npz" in wanted else "unpack it in"
    return f"get {wanted} from {publication.page}, {put} {target}{publication.then}; or {otherwise}"


def unpack(file: Path, target: Path) -> str:
    """The command that unpacks an archive."""
    return f"unzip {file} -d {target}" if file.suffix == ".zip" else f"tar -xf {file} -C {target}"
