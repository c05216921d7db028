"""Natural domains: the same classes as photographs, paintings, sketches (PACS, Office-Home, DomainNet-126)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tta.data.folders import FolderImages, class_folders
from tta.data.image_files import FileImages, check_there, image_files
from tta.data.images import ImageData
from tta.data.places import folders
from tta.errors import TTAError


def domain_folders(
    root: Path | str,
    *,
    names: Sequence[str] = (),
    lists: Path | str | None = None,
    split: str = "test",
    size: int | None = None,
    limit: int | None = None,
) -> dict[str, ImageData]:
    """The domains of a data set in folders root/DOMAIN/CLASS/IMAGE, or of lists of files; all with the same classes.

    Where there are files DOMAIN_list.txt (as DomainNet-126 is published) or DOMAIN_test.txt (as DomainNet is), they say
    which images belong to a domain: lines "path label", with paths below `root`. Else every folder of `root` is a
    domain, and its classes are the folders in it, or those in its only folder "images" (Office-31). The classes are
    those of all the chosen domains together; a domain may lack some.

    Args:
        root: Folder of the domains.
        names: The domains, in this order; all of them, sorted, if not given.
        lists: Where the lists are; `root` if not given.
        split: Of lists DOMAIN_test.txt and DOMAIN_train.txt.
        size: Resize and crop to this side.
        limit: At most so many images of each domain, evenly spread over its classes.

    Returns:
        From the name of a domain to its images.

    Raises:
        TTAError: No domains, one that is not there, or classes that do not agree.
    """
    root, lists = Path(root), Path(lists or root)
    if not root.is_dir():
        raise TTAError(f"{root} is not there; expected a folder with DOMAIN/CLASS/IMAGE")
    listed = list_files(lists, split)
    found = sorted(listed) if listed else sorted(folders(root))
    if missing := [name for name in names if name not in found]:
        raise TTAError(f"{root} has no domain {missing[0]!r}; it has {', '.join(found) or 'none'}")
    chosen = list(names or found)
    if not chosen:
        raise TTAError(f"{root} holds no domains; expected DOMAIN/CLASS/IMAGE, or DOMAIN_list.txt")
    if listed:
        return from_lists(root, {name: listed[name] for name in chosen}, size, limit)
    return from_folders(root, chosen, size, limit)


def from_folders(root: Path, names: Sequence[str], size: int | None, limit: int | None) -> dict[str, ImageData]:
    """Domains in folders, with the classes of all of them."""
    places = {name: class_root(root / name) for name in names}
    inside = {name: set(class_folders(place)) for name, place in places.items()}
    classes = agreed(root, inside)
    return {
        name: FolderImages(f"{root.name}/{name}", place, size=size, classes=classes, limit=limit)
        for name, place in places.items()
    }


def class_root(domain: Path) -> Path:
    """The folder of a domain's class folders: itself, or its only folder "images".

    Raises:
        TTAError: It holds images and no folders.
    """
    inside = folders(domain)
    if not inside and image_files(domain):
        raise TTAError(
            f"{domain} holds images where folders of classes are expected (DOMAIN/CLASS/IMAGE); if it is a class "
            "itself, the data have one domain: give the folder to load_data"
        )
    return domain / "images" if inside == {"images"} else domain


def agreed(root: Path, inside: Mapping[str, set[str]]) -> list[str]:
    """The classes of all domains, sorted.

    Raises:
        TTAError: A domain lacks more than half of them, or two names differ in case, blanks or hyphens alone.
    """
    classes = sorted(set().union(*inside.values()))
    spelled: dict[str, str] = {}
    for name in classes:
        plain = name.lower().replace("_", "").replace("-", "").replace(" ", "")
        if (other := spelled.setdefault(plain, name)) != name:
            a, b = (next(domain for domain, own in inside.items() if one in own) for one in (other, name))
            raise TTAError(f"{root}: class {other!r} of {a} and {name!r} of {b} seem to be one; name the folders alike")
    for domain, own in inside.items():
        if 2 * len(own) < len(classes):
            raise TTAError(
                f"{root}: {domain} has {len(own)} of the {len(classes)} classes of all domains, and lacks "
                f"{sorted(set(classes) - own)[0]!r}; domains must have the same classes: choose some with names="
            )
    return classes


def holds_domains(root: Path) -> bool:
    """Whether a folder looks like DOMAIN/CLASS/IMAGE: several folders without images, with mostly the same folders."""
    inside = [folders(root / name) for name in sorted(folders(root))]
    if len(inside) < 2 or not all(inside):
        return False
    common = set.intersection(*inside)
    return 2 * len(common) > len(set.union(*inside)) and len(common) > 1


def list_files(folder: Path, split: str) -> dict[str, Path]:
    """The lists in a folder by domain: DOMAIN_list.txt, or else DOMAIN_SPLIT.txt."""
    for end in ("_list.txt", f"_{split}.txt"):
        if found := {file.name.removesuffix(end): file for file in sorted(folder.glob(f"*{end}"))}:
            return found
    return {}


def from_lists(root: Path, lists: Mapping[str, Path], size: int | None, limit: int | None) -> dict[str, ImageData]:
    """Domains of lists; the classes are named by the folder that each file lies in."""
    read = {name: read_list(file) for name, file in lists.items()}
    named: dict[int, str] = {}
    for name, entries in read.items():
        for path, label in entries:
            folder = path.split("/")[-2] if "/" in path else str(label)
            if named.setdefault(label, folder) != folder:
                raise TTAError(
                    f"{lists[name]}: {path} has label {label}, which is {named[label]!r} elsewhere; labels must mean "
                    "the same class in all lists"
                )
    classes = [named.get(label, str(label)) for label in range(max(named) + 1)]
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise TTAError(f"the lists in {next(iter(lists.values())).parent} give {twice!r} several labels")
    domains: dict[str, ImageData] = {}
    for name, entries in read.items():
        files, labels = [path for path, _ in entries], [label for _, label in entries]
        check_there(root, files, lists[name])
        domains[name] = FileImages(
            f"{root.name}/{name}", root, files, labels, classes, size=size, limit=limit, where=f"of {lists[name].name}"
        )
    return domains


def read_list(file: Path) -> list[tuple[str, int]]:
    """The lines "path label" of a list, sorted by label and path.

    Raises:
        TTAError: A line of another kind, or none.
    """
    entries = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        path, _, label = line.strip().rpartition(" ")
        if not path or not label.isdigit():
            raise TTAError(f"{file}, line {number}: expected a path, a blank and a label from 0; got {line[:60]!r}")
        entries.append((path, int(label)))
    if not entries:
        raise TTAError(f"{file} names no images; expected lines of a path, a blank and a label")
    return sorted(entries, key=lambda entry: (entry[1], entry[0]))
