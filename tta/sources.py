"""Where source models come from: one function per origin, each gives a network, its preprocessing and its classes."""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from torch import nn

from tta.checkpoints import load_into, read_checkpoint
from tta.errors import TTAError, unknown
from tta.preprocessing import Preprocessing
from tta.robustbench_nets import CONSTANTS, NETS


@dataclass
class Source:
    """A network with its weights, its preprocessing, and the names of its classes where they are known."""

    net: nn.Module
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    classes: tuple[str, ...] = ()


def embedded(weights: Path | None) -> Source:
    """The digits network."""
    from tta.digits import CLASSES, MEAN, STD, WEIGHTS, DigitsResNet

    net = DigitsResNet()
    path = weights or WEIGHTS
    load_into(net, read_checkpoint(path)[0], str(path))
    return Source(net, Preprocessing((MEAN,), (STD,)), CLASSES)


def in_timm(name: str) -> bool:
    """Whether timm has an architecture of that name."""
    import timm

    return bool(timm.is_model(name))


def in_torchvision(name: str) -> bool:
    """Whether torchvision has a classifier of that name."""
    import torchvision

    return name in torchvision.models.list_models(module=torchvision.models)


def known_names() -> list[str]:
    """All names of timm and torchvision."""
    import timm
    import torchvision

    return [*timm.list_models(), *torchvision.models.list_models(module=torchvision.models)]


def from_timm(name: str, weights: Path | None) -> Source:
    """A timm model with published weights, or with local ones; the preprocessing is that of the published weights."""
    import timm

    check_timm_name(name)
    if weights is not None:
        state, _ = read_checkpoint(weights)
        key = f"{timm.get_pretrained_cfg_value(name, 'classifier')}.weight"
        head = next((value for other, value in state.items() if other.endswith(key)), None)
        net = timm.create_model(name, pretrained=False)
        if head is not None and len(head) != net.num_classes:
            net = timm.create_model(name, pretrained=False, num_classes=len(head))
        load_into(net, state, str(weights))
    else:
        net = published_timm(name)
    config = timm.data.resolve_model_data_config(net)
    size = config["input_size"][-1]
    interpolation = "bicubic" if config["interpolation"] == "bicubic" else "bilinear"
    resize = int(size / config["crop_pct"])
    return Source(net, Preprocessing(tuple(config["mean"]), tuple(config["std"]), size, resize, interpolation))


def check_timm_name(name: str) -> None:
    """Raises TTAError for an architecture, or a tag of its weights, that timm does not have."""
    import timm

    if not in_timm(name):
        raise unknown("timm model", name, timm.list_models())
    tags = timm.list_pretrained(f"{name.split('.')[0]}.*")
    if "." in name and name not in tags:
        raise unknown("timm weights", name, tags)


def published_timm(name: str) -> nn.Module:
    """A timm model with its published weights, from the cache if they are there.

    Raises:
        TTAError: There are none, or they are not cached and cannot be downloaded.
    """
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(name)
    where = cfg.hf_hub_id or cfg.url if cfg else None
    if cfg is None or where is None:
        raise TTAError(f"timm has no pretrained weights for {name}; give weights= with a local checkpoint")
    places = [Path(constants.HF_HUB_CACHE), torch_cache()]
    cached = try_to_load_from_cache(cfg.hf_hub_id, "model.safetensors", cache_dir=places[0]) if cfg.hf_hub_id else None
    overlay = {"file": cached} if isinstance(cached, str) else None
    try:
        if not overlay and cfg.hf_hub_id and not getproxies():
            # without a network this fails at once, where the hub would try again for a minute
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # of the network, the hub or the file system
        raise offline(f"timm:{name}", str(where), places, error) from error


def from_torchvision(name: str, weights: Path | None) -> Source:
    """A torchvision classifier, NAME or NAME:WEIGHTS; the preprocessing is `weights.transforms()`."""
    import torchvision

    name, _, entry = name.partition(":")
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    published = torchvision.models.get_model_weights(name)
    names = [one.name for one in published]
    if entry and entry not in names:
        raise unknown(f"weights of torchvision:{name}", entry, names)
    chosen = published[entry] if entry else published.DEFAULT
    classes = tuple(chosen.meta["categories"])
    if weights is not None:
        state, _ = read_checkpoint(weights)
        net = torchvision.models.get_model(name, weights=None)
        bias = list(net.state_dict())[-1]  # of the classifier, in every torchvision model
        rows = next((len(value) for key, value in state.items() if key.endswith(bias)), len(classes))
        if rows != len(classes):
            net = torchvision.models.get_model(name, weights=None, num_classes=rows)
        load_into(net, state, str(weights))
        classes = classes if rows == len(classes) else ()
    else:
        try:
            net = torchvision.models.get_model(name, weights=chosen)
        except Exception as error:  # of the network or the file system
            raise offline(f"torchvision:{name}", chosen.url, [torch_cache()], error) from error
    t = chosen.transforms()
    size, resize = t.crop_size[0], t.resize_size[0]
    return Source(net, Preprocessing(tuple(t.mean), tuple(t.std), size, resize, t.interpolation.value), classes)


def from_robustbench(name: str, weights: Path | None) -> Source:
    """A RobustBench model, DATASET/THREAT/NAME; its preprocessing is inside.

    The networks of `tta.robustbench_nets` are read from their file without that package, which is needed for others.
    """
    parts = name.split("/")
    if len(parts) != 3:
        raise TTAError(f"robustbench:{name}: expected DATASET/THREAT/NAME, such as cifar10/corruptions/Standard")
    dataset, threat, model = parts
    expected = robustbench_file(name)
    folder = expected.parents[2]
    if name in NETS and (weights is not None or expected.is_file()):
        net, preprocessing = NETS[name][0](), NETS[name][1]
        state, _ = read_checkpoint(weights or expected)
        state = {key: value for key, value in state.items() if key.rpartition(".")[2] not in CONSTANTS}
        load_into(net, state, str(weights or expected))
        return Source(net, preprocessing)
    if weights is not None:
        raise TTAError(f"robustbench:{name} takes no weights= (only {', '.join(NETS)} do); put the file at {expected}")
    load_model = import_robustbench()
    try:
        net = load_model(model_name=model, model_dir=str(folder), dataset=dataset, threat_model=threat)
    except Exception as error:  # of the network, the file system or its own look-up
        raise offline(f"robustbench:{name}", str(expected), [folder], error) from error
    return Source(net)


def robustbench_file(name: str) -> Path:
    """Where the checkpoint of a RobustBench model DATASET/THREAT/NAME is kept."""
    return torch_cache().parent / "robustbench" / f"{name}.pt"


def import_robustbench() -> Any:
    """RobustBench's `load_model`.

    Raises:
        TTAError: It is not installed, or cannot be imported.
    """
    try:
        missing = "autoattack" not in sys.modules and importlib.util.find_spec("autoattack") is None
        if missing and importlib.util.find_spec("pyautoattack") is not None:
            # robustbench 1.1.1 imports `autoattack`, but what it depends on calls the module `pyautoattack`
            sys.modules["autoattack"] = importlib.import_module("pyautoattack")
            if importlib.util.find_spec("pyautoattack.state") is not None:
                sys.modules["autoattack.state"] = importlib.import_module("pyautoattack.state")
        return importlib.import_module("robustbench.utils").load_model
    except (ImportError, AttributeError) as error:
        raise TTAError(
            f"RobustBench cannot be imported ({error}); install it: pip install 'tta-harness[robustbench]'"
        ) from error


def from_file(spec: str, weights: Path | None) -> Source:
    """The network that a function in a Python file gives: FILE.py:FUNCTION or FILE.py:FUNCTION(literals)."""
    match = re.fullmatch(r"(.+\.py):(\w+)(\(.*\))?", spec.strip(), re.DOTALL)
    if match is None:
        raise TTAError(f'{spec}: expected FILE.py:FUNCTION, or with arguments FILE.py:FUNCTION("name", 3)')
    path, function, call = Path(match[1]), match[2], match[3] or "()"
    arguments, keywords = literals(call, spec)
    module = import_file(path)
    build = getattr(module, function, None)
    if not callable(build):
        functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise unknown(f"function in {path}", function, functions)
    try:
        net = build(*arguments, **keywords)
    except TTAError:
        raise
    except Exception as error:  # of the user's code
        raise TTAError(f"{function}{call} in {path} raised {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise TTAError(f"{function}{call} in {path} returns {type(net).__name__}; expected a torch.nn.Module")
    if weights is not None:
        load_into(net, read_checkpoint(weights)[0], str(weights))
    return Source(net, Preprocessing.of(getattr(net, "preprocessing", None)))


def literals(call: str, spec: str) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a call that are literals; nothing is evaluated.

    Raises:
        TTAError: Not a call with literals alone.

    >>> literals('("cifar10/resnet56", depth=56)', "")
    (['cifar10/resnet56'], {'depth': 56})
    """
    try:
        node = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("not one call")
        if any(keyword.arg is None for keyword in node.keywords):
            raise ValueError("** is not a literal")
        return [ast.literal_eval(value) for value in node.args], {
            str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords
        }
    except (SyntaxError, ValueError) as error:
        raise TTAError(f'{spec}: arguments must be literals such as "name", 3 or (1, 2): {error}') from error


def import_file(path: Path) -> ModuleType:
    """Imports a Python file that the user names; the folder it lies in can be imported from meanwhile.

    Raises:
        TTAError: It is not there, or raises.
    """
    if not path.is_file():
        raise TTAError(f"{path} is not there; expected a Python file with a function that gives a torch.nn.Module")
    folder = str(path.resolve().parent)
    module_spec = importlib.util.spec_from_file_location(
        f"tta_user_{path.stem}_{zlib.crc32(folder.encode()):08x}", path
    )
    if module_spec is None or module_spec.loader is None:
        raise TTAError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module.__name__] = module
    sys.path.insert(0, folder)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # of the user's code
        del sys.modules[module.__name__]
        raise TTAError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module


def torch_cache() -> Path:
    """Where torch keeps downloaded weights."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def offline(spec: str, file: str, places: list[Path], error: Exception) -> TTAError:
    """The error for weights that are neither cached nor could be downloaded."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return TTAError(
        f"{spec}: the weights {file} are not in {' or '.join(map(str, places))} and could not be downloaded "
        f"({reason}); without a network, give a local file: weights=PATH"
    )
