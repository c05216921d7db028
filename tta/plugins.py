"""Methods from outside this package: those of installed packages, and a class named by its file or its module."""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from tta.adapter import Adapter
from tta.errors import TTAError, unknown

#: The entry-point group in which a package announces its methods: `name = "my_package:MyAdapter"`.
GROUP = "tta.adapters"
#: Modules of files, by path, time and size, so that a file is run once and again when it has changed.
_modules: dict[tuple[Path, int, int], ModuleType] = {}


def installed_names() -> list[str]:
    """Names of the methods that installed packages announce."""
    return [entry.name for entry in entry_points(group=GROUP)]


def installed(name: str) -> type[Adapter]:
    """The class of a method that an installed package announces; the first, if several announce the name.

    Raises:
        TTAError: It cannot be loaded, or is no adapter; the message names the package.
    """
    entry = next(iter(entry_points(group=GROUP, name=name)))
    package = entry.dist.name if entry.dist is not None else "an unknown package"
    try:
        found = entry.load()
    except Exception as error:  # of the package
        raise TTAError(
            f"method {name} of the package {package} cannot be loaded from {entry.value}"
            f" ({_reason(error)}): mend or uninstall {package}"
        ) from error
    return _adapter(found, f"{entry.value} of the package {package}")


def named(spec: str) -> type[Adapter]:
    """The adapter class that a user names: FILE.py:CLASS, or MODULE:CLASS of something installed.

    Raises:
        TTAError: There is no such file, module or class, it raises, or the class is no adapter.
    """
    place, _, name = spec.rpartition(":")
    module = _of_file(Path(place)) if place.endswith(".py") else _of_name(place)
    if not hasattr(module, name):
        classes = [key for key, value in vars(module).items() if _is_adapter(value)]
        raise unknown(f"class in {place}", name, classes or ["none: it has no class derived from tta.Adapter"])
    cls = _adapter(getattr(module, name), spec)
    if "name" not in vars(cls):  # not decorated with @tta.register
        cls.name = name
    return cls


def source_hash(cls: type[Adapter]) -> str | None:
    """SHA-256 of the file that a class from outside this package is in; None for one of this package's."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if cls.__module__.partition(".")[0] == __name__.partition(".")[0] or file is None:
        return None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _of_file(path: Path) -> ModuleType:
    from tta.sources import import_file

    if not path.is_file():
        raise TTAError(f"{path} is not there; expected a Python file with a class derived from tta.Adapter")
    path = path.resolve()
    key = path, path.stat().st_mtime_ns, path.stat().st_size
    if key not in _modules:
        _modules[key] = import_file(path)
    return _modules[key]


def _of_name(name: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:  # of the user's code
        raise TTAError(
            f"the module {name!r} cannot be imported ({_reason(error)}): install its package, or name the file,"
            " FILE.py:CLASS"
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _is_adapter(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Adapter) and value is not Adapter


def _adapter(value: Any, what: str) -> type[Adapter]:
    if not _is_adapter(value):
        raise TTAError(f"{what} is {value!r}; expected a class derived from tta.Adapter")
    return value
