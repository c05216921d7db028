"""ImageNet-1k, its variants, and the places of their classes among the 1,000."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tta.data.arrays import ArrayImages
from tta.data.folders import FolderImages
from tta.data.image_files import is_image
from tta.data.images import ImageData
from tta.data.npz import read_npz
from tta.data.places import VALIDATED, Fit, array_file, folders, of_files, split_folder
from tta.data.published import PUBLISHED, not_there
from tta.errors import TTAError, unknown

#: The 200 classes of ImageNet-A (Hendrycks et al., "Natural adversarial examples", CVPR 2021).
IMAGENET_A = (
    6, 11, 13, 15, 17, 22, 23, 27, 30, 37, 39, 42, 47, 50, 57, 70, 71, 76, 79, 89, 90, 94, 96, 97, 99, 105, 107,
    108, 110, 113, 124, 125, 130, 132, 143, 144, 150, 151, 207, 234, 235, 254, 277, 283, 287, 291, 295, 298, 301,
    306, 307, 308, 309, 310, 311, 313, 314, 315, 317, 319, 323, 324, 326, 327, 330, 334, 335, 336, 347, 361, 363,
    372, 378, 386, 397, 400, 401, 402, 404, 407, 411, 416, 417, 420, 425, 428, 430, 437, 438, 445, 456, 457, 461,
    462, 470, 472, 483, 486, 488, 492, 496, 514, 516, 528, 530, 539, 542, 543, 549, 552, 557, 561, 562, 569, 572,
    573, 575, 579, 589, 606, 607, 609, 614, 626, 627, 640, 641, 642, 643, 658, 668, 677, 682, 684, 687, 701, 704,
    719, 736, 746, 749, 752, 758, 763, 765, 768, 773, 774, 776, 779, 780, 786, 792, 797, 802, 803, 804, 813, 815,
    820, 823, 831, 833, 835, 839, 845, 847, 850, 859, 862, 870, 879, 880, 888, 890, 897, 900, 907, 913, 924, 932,
    933, 934, 937, 943, 945, 947, 951, 954, 956, 957, 959, 971, 972, 980, 981, 984, 986, 987, 988,
)  # fmt: skip
#: The 200 classes of ImageNet-R (Hendrycks et al., "The many faces of robustness", ICCV 2021).
IMAGENET_R = (
    1, 2, 4, 6, 8, 9, 11, 13, 22, 23, 26, 29, 31, 39, 47, 63, 71, 76, 79, 84, 90, 94, 96, 97, 99, 100, 105, 107,
    113, 122, 125, 130, 132, 144, 145, 147, 148, 150, 151, 155, 160, 161, 162, 163, 171, 172, 178, 187, 195, 199,
    203, 207, 208, 219, 231, 232, 234, 235, 242, 245, 247, 250, 251, 254, 259, 260, 263, 265, 267, 269, 276, 277,
    281, 288, 289, 291, 292, 293, 296, 299, 301, 308, 309, 310, 311, 314, 315, 319, 323, 327, 330, 334, 335, 337,
    338, 340, 341, 344, 347, 353, 355, 361, 362, 365, 366, 367, 368, 372, 388, 390, 393, 397, 401, 407, 413, 414,
    425, 428, 430, 435, 437, 441, 447, 448, 457, 462, 463, 469, 470, 471, 472, 476, 483, 487, 515, 546, 555, 558,
    570, 579, 583, 587, 593, 594, 596, 609, 613, 617, 621, 629, 637, 657, 658, 701, 717, 724, 763, 768, 774, 776,
    779, 780, 787, 805, 812, 815, 820, 824, 833, 847, 852, 866, 875, 883, 889, 895, 907, 928, 931, 932, 933, 934,
    936, 937, 943, 945, 947, 948, 949, 951, 953, 954, 957, 963, 965, 967, 980, 981, 983, 988,
)  # fmt: skip
ALL = tuple(range(1000))
#: The folder that the archive of each variant unpacks to, and the places of its classes among the 1,000.
VARIANTS: dict[str, tuple[str, tuple[int, ...]]] = {
    "imagenet-v2": ("imagenetv2-matched-frequency-format-val", ALL),
    "imagenet-v2-matched-frequency": ("imagenetv2-matched-frequency-format-val", ALL),
    "imagenet-v2-threshold-0.7": ("imagenetv2-threshold0.7-format-val", ALL),
    "imagenet-v2-top-images": ("imagenetv2-top-images-format-val", ALL),
    "imagenet-r": ("imagenet-r", IMAGENET_R),
    "imagenet-a": ("imagenet-a", IMAGENET_A),
    "imagenet-sketch": ("sketch", ALL),
}


@cache
def wnids() -> tuple[str, ...]:
    """The 1,000 WordNet ids, which are the folder names."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


@cache
def descriptions() -> tuple[str, ...]:
    """The 1,000 classes in words."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_descriptions())


def indices_of(folders: Sequence[str]) -> tuple[int, ...] | None:
    """The places of folders named by WordNet id among the 1,000 classes; None where they are all or others are there.

    >>> indices_of(["n01440764", "n01484850"])
    (0, 2)
    >>> indices_of(["n01440764", "dogs"]) is None
    True
    """
    places = {wnid: place for place, wnid in enumerate(wnids())}
    known = tuple(places[folder] for folder in folders if folder in places)
    return known if len(known) == len(folders) < len(places) else None


def load(root: Path, split: str, fit: Fit, indices: Sequence[int] = ALL) -> ImageData:
    """ImageNet-1k: folders named by WordNet id, of all classes or of some, or an .npz file with labels 0 to 999.

    Args:
        root: Where to look.
        split: "test" and "val" are the validation images.
        fit: Size and number.
        indices: Only these classes, with labels in their order.

    Raises:
        TTAError: Not there, or with folders of other classes.
    """
    looked = (root / "imagenet", root / "ImageNet", root)
    for place in looked:
        if folder := split_folder(place, split, VALIDATED, wnids()):
            if not folders(folder) and any(is_image(file.name) for file in folder.iterdir()):
                raise TTAError(
                    f"{folder} holds images without folders, so that their classes are not known; sort them into one "
                    "folder per WordNet id, as torchvision.datasets.ImageNet does"
                )
            return class_images("imagenet", folder, fit, indices, wnids(), others=len(indices) < len(ALL))
        if len(indices) == len(ALL) and (file := array_file(place, split)):
            images, labels = read_npz(file, split, fit["limit"])
            data = ArrayImages("imagenet", images, labels, classes=descriptions(), note=str(file), **fit)
            data.folders = wnids()
            return data
    publication = PUBLISHED["imagenet-train" if split == "train" else "imagenet"]
    expected = f"{VALIDATED[split][0]}/WNID/*.JPEG, WNID/*.JPEG, or one .npz with x (uint8) and y"
    raise not_there(f"imagenet ({split})", (root / "imagenet", root), expected, publication)


def load_variant(name: str, root: Path, split: str, fit: Fit) -> ImageData:
    """ImageNet-V2 (folders 0 to 999), -R, -A or -Sketch (folders named by WordNet id): test sets for ImageNet models.

    Their training images are those of ImageNet, of the same classes.

    Raises:
        TTAError: Not there, with folders of other classes, or the split "val".
    """
    if name not in VARIANTS:
        raise unknown("variant of ImageNet", name, VARIANTS)
    unpacked, indices = VARIANTS[name]
    if split == "train":
        return load(root, split, fit, indices)
    if split == "val":
        raise TTAError(f"{name} is a test set and has no split 'val'; choose 'test', or 'train' for ImageNet's")
    numbered = unpacked.startswith("imagenetv2")
    named = tuple(map(str, ALL)) if numbered else wnids()
    family = "imagenet-v2" if numbered else name
    looked = [root / unpacked, root / name / unpacked, root / family / unpacked, root / "ImageNet-Sketch" / unpacked]
    looked += [root / name, root]
    strangers = {folder for folder, _ in VARIANTS.values()} - {unpacked}
    for place in looked:
        if place.name not in strangers and folders(place) & {named[i] for i in indices}:
            return class_images(name, place, fit, indices, named)
    key = "imagenet-v2-matched-frequency" if name == "imagenet-v2" else name
    expected = f"{unpacked}/{'0 ... 999' if numbered else 'WNID'}/IMAGE"
    raise not_there(name, (root / name, root), expected, PUBLISHED[key])


def class_images(
    name: str, folder: Path, fit: Fit, indices: Sequence[int], named: Sequence[str], others: bool = False
) -> FolderImages:
    """Images in folders of some of the 1,000 classes, whose folder names `named` gives."""
    classes, words = [named[i] for i in indices], [descriptions()[i] for i in indices]
    data = FolderImages(name, folder, classes=classes, class_names=words, others=others, **of_files(fit))
    data.class_indices = tuple(indices) if len(indices) < len(ALL) else None
    return data
