"""MedMNIST and MedMNIST+: the 2D data sets with one label per image (Yang et al., Scientific Data 2023)."""

from __future__ import annotations

from pathlib import Path

from tta.data.arrays import ArrayImages
from tta.data.npz import read_npz
from tta.data.places import Fit
from tta.data.published import Archive, Publication, not_there
from tta.errors import TTAError

PAGE = "medmnist.com (zenodo.org/records/10519652)"
SIZES = (28, 64, 128, 224)
_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip

CLASSES: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
        "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}  # fmt: skip

#: MD5 of NAME.npz, NAME_64.npz, NAME_128.npz and NAME_224.npz, as MedMNIST 3.0.2 gives them.
MD5: dict[str, tuple[str, str, str, str]] = {
    "pathmnist": (
        "a8b06965200029087d5bd730944a56c1", "55aa9c1e0525abe5a6b9d8343a507616",
        "ac42d08fb904d92c244187169d1fd1d9", "2c51a510bcdc9cf8ddb2af93af1eadec",
    ),
    "dermamnist": (
        "0744692d530f8e62ec473284d019b0c7", "b70a2f5635c6199aeaa28c31d7202e1f",
        "2defd784463fa5243564e855ed717de1", "8974907d8e169bef5f5b96bc506ae45d",
    ),
    "octmnist": (
        "c68d92d5b585d8d81f7112f81e2d0842", "e229e9440236b774d9f0dfef9d07bdaf",
        "0a97e76651ace45c5d943ee3f65b63ae", "abc493b6d529d5de7569faaef2773ba3",
    ),
    "pneumoniamnist": (
        "28209eda62fecd6e6a2d98b1501bb15f", "8f4eceb4ccffa70c672198ea285246c6",
        "05b46931834c231683c68f40c47b2971", "d6a3c71de1b945ea11211b03746c1fe1",
    ),
    "retinamnist": (
        "bd4c0672f1bba3e3a89f0e4e876791e4", "afda852cc34dcda56f86ad2b2457dbcc",
        "e48e916a24454daf90583d4e6efb1a18", "eae7e3b6f3fcbda4ae613ebdcbe35348",
    ),
    "breastmnist": (
        "750601b1f35ba3300ea97c75c52ff8f6", "742edef2a1fd1524b2efff4bd7ba9364",
        "363e4b3f8d712e9b5de15470a2aaadf1", "b56378a6eefa9fed602bb16d192d4c8b",
    ),
    "bloodmnist": (
        "7053d0359d879ad8a5505303e11de1dc", "2b94928a2ae4916078ca51e05b6b800b",
        "adace1e0ed228fccda1f39692059dd4c", "b718ff6835fcbdb22ba9eacccd7b2601",
    ),
    "tissuemnist": (
        "ebe78ee8b05294063de985d821c1c34b", "123ece2eba09d0aa5d698fda57103344",
        "61b955355d7425a89687b06cca3ce0c2", "b077128c4a949f0a4eb01517f9037b9c",
    ),
    "organamnist": (
        "68e3f8846a6bd62f0c9bf841c0d9eacc", "2dcccc29b88e6da5a01161ef20cda288",
        "eeae80d0a227a8d099027e1b3cfd3b60", "50747347e05c87dd3aaf92c49f9f3170",
    ),
    "organcmnist": (
        "b9ceb9546e10131b32923c5bbeaea2b1", "3ce34a8724ea6f548e6db4744d03b6a9",
        "773c1f009daa3fe5d9a2a201b2a7ed94", "050f5e875dc056f6768abf94ec9995d1",
    ),
    "organsmnist": (
        "9ab87b696fb54e2a387ebe992d6ed5f1", "53a6d115339d874c25e309a994ff46d3",
        "ded0c5fa01a95dc4978b956f613e9b8e", "b354719e553fbbb2513d5533f52a4cb1",
    ),
}  # fmt: skip


def load(name: str, root: Path, split: str, fit: Fit) -> ArrayImages:
    """A data set from NAME.npz (28 pixels), or from NAME_64.npz, NAME_128.npz or NAME_224.npz for these sizes.

    Its published error is 100 % less the balanced accuracy (Di Salvo et al., MedMNIST-C, 2024).

    Raises:
        TTAError: Not there, or ChestMNIST, whose images have several labels each.
    """
    if name not in CLASSES:
        raise TTAError(
            "chestmnist marks up to 14 findings in each image, and streams and metrics here take one class per image; "
            f"choose one of {', '.join(CLASSES)}"
        )
    for place in (root / "medmnist", root / name, root):
        if (file := find_file(name, place, fit["size"])) is not None:
            images, labels = read_npz(file, split, fit["limit"])
            data = ArrayImages(name, images, labels, classes=CLASSES[name], note=f"{file}: {split}", **fit)
            data.balanced = True
            data.mirrors = not name.startswith("organ")  # the left kidney is another class than the right one
            return data
    size = fit["size"] if fit["size"] in SIZES else SIZES[0]
    publication = Publication(PAGE, (Archive(file_name(name, size), MD5[name][SIZES.index(size)]),))
    raise not_there(f"{name} ({split})", (root / "medmnist", root / name, root), file_name(name, size), publication)


def find_file(name: str, place: Path, size: int | None) -> Path | None:
    """The file of a data set in a folder: that of the size, or else the only one there.

    Raises:
        TTAError: Several could be meant, or the one that is there holds images of another published size.
    """
    if (exact := place / file_name(name, size)).is_file():
        return exact
    files = sorted(place.glob(f"{name}*.npz"))
    if len(files) > 1:
        raise TTAError(f"{place} holds {', '.join(f.name for f in files)}; give the path of one, or size=")
    if files and size in SIZES and files[0].name in [file_name(name, other) for other in SIZES]:
        md5 = MD5[name][SIZES.index(size)]
        raise TTAError(
            f"{exact} (MD5 {md5}) is not there, and {files[0].name} would have to be resized; get it from {PAGE}, or "
            "leave size= out"
        )
    return files[0] if files else None


def file_name(name: str, size: int | None) -> str:
    """The published name of the file of a size.

    >>> file_name("bloodmnist", 28), file_name("bloodmnist", 224)
    ('bloodmnist.npz', 'bloodmnist_224.npz')
    """
    return f"{name}_{size}.npz" if size in SIZES[1:] else f"{name}.npz"
