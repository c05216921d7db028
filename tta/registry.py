"""The methods by name: those of this package, those of installed plug-ins, and those a user registers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from torch import nn

from tta import norms, plugins
from tta.acceleration import Acceleration
from tta.adapter import Adapter
from tta.errors import TTAError, unknown

if TYPE_CHECKING:
    from tta.wrappers.wrapper import Wrapper

#: Where the methods of this package are, so that listing one does not import all.
_BUILT_IN = {
    "source": "tta.methods.source",
    "bn": "tta.methods.bn",
    "tent": "tta.methods.tent",
    "eta": "tta.methods.eata",
    "eata": "tta.methods.eata",
    "rdumb": "tta.methods.rdumb",
    "rpl": "tta.methods.rpl",
    "sar": "tta.methods.sar",
    "deyo": "tta.methods.deyo",
    "roid": "tta.methods.roid",
    "cmf": "tta.methods.cmf",
    "conjugate": "tta.methods.conjugate",
    "shot": "tta.methods.shot",
    "cotta": "tta.methods.cotta",
    "ttaug": "tta.methods.ttaug",
    "rotta": "tta.methods.rotta",
    "rmt": "tta.methods.rmt",
    "santa": "tta.methods.santa",
    "adacontrast": "tta.methods.adacontrast",
    "gtta": "tta.methods.gtta",
    "sotta": "tta.methods.sotta",
    "note": "tta.methods.note",
    "petta": "tta.methods.petta",
    "lame": "tta.methods.lame",
    "t3a": "tta.methods.t3a",
    "neo": "tta.methods.neo",
    "memo": "tta.methods.memo",
    "ttaug_gated": "tta.methods.ttaug_gated",
    "ttaug_close": "tta.methods.ttaug_close",
    "foa": "tta.methods.foa",
    "crop_select": "tta.methods.crop_select",
}
#: Wrappers around any method: where they are.
_WRAPPERS = {
    "episodic": ("tta.wrappers.resets", "Episodic"),
    "recurring": ("tta.wrappers.resets", "Recurring"),
    "asr": ("tta.wrappers.asr", "ASR"),
    "wise": ("tta.wrappers.wise", "WiSE"),
    "smoothing": ("tta.wrappers.smoothing", "Smoothing"),
    "cascade": ("tta.wrappers.cascade", "Cascade"),
}
_registered: dict[str, type[Adapter]] = {}
A = TypeVar("A", bound=type[Adapter])


def register(name: str) -> Callable[[A], A]:
    """Registers an `Adapter` subclass under a name, so that `wrap`, the command line and the contract tests know it.

    Args:
        name: Letters, digits, and any of "_", "-" and "."; not that of a built-in method.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise TTAError(f"a method's name consists of letters, digits, _, - and ., got {name!r}")

    def decorate(cls: A) -> A:
        if _BUILT_IN.get(name, cls.__module__) != cls.__module__:
            raise TTAError(f"there is a built-in method {name!r}: register {cls.__name__} under another name")
        cls.name = name
        _registered[name] = cls
        return cls

    return decorate


def list_methods() -> list[str]:
    """Names of all methods: built in, from installed packages (entry-point group `tta.adapters`), and registered."""
    return list(dict.fromkeys((*_BUILT_IN, *plugins.installed_names(), *_registered)))


def list_wrappers() -> list[str]:
    """Names of the wrappers that go around any method: "tent+recurring" is tent, reset now and then."""
    return list(_WRAPPERS)


def wrapper(name: str) -> type[Wrapper]:
    """The class of a wrapper.

    Raises:
        TTAError: There is no wrapper of that name; the message suggests the nearest.
    """
    if name not in _WRAPPERS:
        raise unknown("wrapper", name, list_wrappers())
    module, cls = _WRAPPERS[name]
    return getattr(import_module(module), cls)


def method(name: str) -> type[Adapter]:
    """The class of a method; of a wrapped one, such as "tent+recurring", that of the method inside.

    Args:
        name: One of `list_methods()`, FILE.py:CLASS, or MODULE:CLASS of something installed.

    Raises:
        TTAError: There is no method, or no wrapper, of that name (the message suggests the nearest), or its code cannot
            be imported.
    """
    name, *wrappers = name.split("+")
    for each in wrappers:
        wrapper(each)
    if ":" in name:
        known, _, preset = name.partition(":")
        if known in list_methods():
            raise TTAError(f"{name!r} is a method with a preset; expected the method alone: {known}, preset={preset!r}")
        return plugins.named(name)
    if name not in _registered:
        if name in _BUILT_IN:
            import_module(_BUILT_IN[name])
        elif name in plugins.installed_names():
            register(name)(plugins.installed(name))
        else:
            raise unknown("method", name, list_methods())
    return _registered[name]


def split_preset(name: str) -> tuple[str, str | None]:
    """The method and the preset of a name as the command line takes it.

    >>> split_preset("cotta:imagenet"), split_preset("mine.py:Mine"), split_preset("mine.py:Mine:fast")
    (('cotta', 'imagenet'), ('mine.py:Mine', None), ('mine.py:Mine', 'fast'))
    """
    match = re.fullmatch(r"((?:.+\.py:)?[^:]*)(?::(.*))?", name, re.DOTALL)
    assert match is not None, "matches everything"
    return match[1], match[2] or None


def wrap(
    model: nn.Module,
    name: str,
    config: Any = None,
    *,
    preset: str | None = None,
    seed: int = 0,
    source_data: Any = None,
    precision: Literal["float32", "bf16"] = "float32",
    channels_last: bool = False,
    compile: bool | str = False,
    robust_statistics: bool = False,
    **overrides: Any,
) -> Adapter:
    """Wraps a model in an adaptation method; the model itself is copied and never touched.

    Args:
        model: Images (B, C, H, W) in [0, 1] to logits (B, K), preprocessing inside.
        name: One of `list_methods()`, and after it, each after a plus, any of `list_wrappers()`: "tent+recurring+wise"
            is tent, reset now and then, and mixed with the source.
        config: The method's `Config`; its defaults if not given.
        preset: Instead of a config, the name of a published setting of the method, such as "imagenet".
        seed: Seed of the adapter's own random generator.
        source_data: For methods that need it.
        precision: "bf16" runs the passes under autocast; weights, logits, losses and batch statistics stay in float32.
        channels_last: Put the channels last in the adapter's networks, which is faster on most machines.
        compile: Compile the networks with torch.compile; "cudagraphs" for its mode that replays CUDA graphs.
        robust_statistics: For methods that normalise with plain batch statistics: images that stand out have little
            weight in them, so that a few poisoned ones cannot move them (`tta.norms.RobustStatisticsNorm`). Costs some
            time, and a little of the gain where nobody is hostile.
        overrides: Single hyper-parameters to change in the config, or in that of a wrapper.

    Returns:
        The adapter: call it like the model.

    Raises:
        TTAError: Unknown name, preset or hyper-parameter, or a model on which the method cannot run, or not with these
            options.
    """
    cls = method(name)
    inner, around = configuration(name, config, preset=preset, **overrides)
    compiler = compile if isinstance(compile, str) else "default" if compile else "none"
    acceleration = Acceleration(precision, channels_last, compiler)
    model = acceleration.around(model) if isinstance(model, nn.Module) else model
    adapter = cls(model, inner, seed=seed, source_data=source_data)
    if robust_statistics:
        _make_robust(adapter)
    for each, its_config in zip(name.split("+")[1:], around, strict=True):
        adapter = wrapper(each)(adapter, model, its_config)
    adapter.acceleration, adapter.robust_statistics = acceleration, robust_statistics
    acceleration.lay_out(adapter.networks())
    return adapter


def _make_robust(adapter: Adapter) -> None:
    """Gives an adapter that was just made robust batch statistics.

    After its start, so that what it has learned of source data (EATA's Fisher information) rests on plain ones.
    """
    if not norms.use_robust_statistics(adapter):
        raise TTAError(
            f"{adapter.name} on this model normalises with no plain batch statistics that could be robust: leave"
            " robust_statistics out, or choose a method such as tent, eata, roid or cotta on a model with batch norm"
        )


def configuration(
    name: str, config: Any = None, *, preset: str | None = None, **overrides: Any
) -> tuple[Any, tuple[Any, ...]]:
    """The hyper-parameters with which `wrap` makes an adapter: the method's, and those of its wrappers.

    Arguments as in `wrap`.

    Raises:
        TTAError: Unknown name, preset or hyper-parameter.
    """
    cls = method(name)
    if config is None:
        if preset is not None and preset not in presets(cls):
            raise unknown(f"preset of {name}", preset, presets(cls) or ["none"])
        config = getattr(cls.Config, preset)() if preset else cls.Config()
    elif preset is not None:
        raise TTAError("give either a config or a preset, not both")
    around = [wrapper(each).Config() for each in name.split("+")[1:]]
    known = [_fields(config), *(_fields(each) - {"inner"} for each in around)]
    for key in overrides:
        if not any(key in fields for fields in known):
            raise unknown(f"hyper-parameter of {name}", key, sorted(set().union(*known)) or ["none"])
    chosen = [{key: value for key, value in overrides.items() if key in fields} for fields in known]
    changed = [dataclasses.replace(one, **its) for one, its in zip((config, *around), chosen, strict=True)]
    return changed[0], tuple(changed[1:])


def presets(cls: type[Adapter]) -> list[str]:
    """Names of the published settings of a method."""
    return [key for key, value in vars(cls.Config).items() if isinstance(value, classmethod)]


def _fields(config: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(config)}
