"""The commands that list what there is, and what all commands have in common.

A command is a dataclass of its options; nothing heavy is imported before one runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from tta.errors import TTAError

if TYPE_CHECKING:
    import torch

    from tta.adapter import Adapter

OK, BAD_INPUT, INTERRUPTED = 0, 2, 130


#: What every worker of a benchmark imports; the second is what the first optimiser that is made asks for.
HEAVY = ("tta.bench", "torch._dynamo")


def warm_up(workers: int, engine: str) -> None:
    """Lets the worker processes to come do their imports now, while this process is still at its own.

    On Linux they are forked from one process that has imported and done nothing else (`corruptions.engines`), so all of
    them together take the time of one import. A hint: without it each imports for itself.
    """
    if workers > 1 and engine == "processes" and sys.platform == "linux":
        from multiprocessing import forkserver, get_context

        get_context("forkserver").set_forkserver_preload([*HEAVY])
        forkserver.ensure_running()


@dataclass(frozen=True)
class Methods:
    """List the methods: name, cost in forwards (F) and backwards (B) per image, what they update and need."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="METHOD")] = None
    """Tell all of this one: what it does, where it differs from the published code, its settings and its presets."""

    def run(self) -> int:
        """Prints one line per method, or all of one."""
        from tta.registry import list_methods, list_wrappers, method, wrapper

        if self.name is not None:
            known = self.name.removeprefix("+")
            sys.stdout.write(described(wrapper(known) if known in list_wrappers() else method(known)))
            return OK
        rows = [("method", "cost", "updates", "needs", "")]
        for name in list_methods():
            try:
                cls = method(name)
            except TTAError as broken:  # an installed package; the others are listed all the same
                complain(str(broken))
                continue
            rows.append((name, cls.cost, cls.updates, str(cls.requires), first_line(cls)))
        for name in list_wrappers():  # around any method: "tent+recurring"
            cls = wrapper(name)
            rows.append((f"+{name}", cls.cost, cls.updates, str(cls.requires), first_line(cls)))
        print_columns(rows)
        return OK


@dataclass(frozen=True)
class Corruptions:
    """List the corruptions by suite: name, family, what they do."""

    suite: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Only those of this suite."""

    def run(self) -> int:
        """Prints one line per corruption, under the first suite that has it."""
        import corruptions
        from corruptions.suites import by_suite

        if self.suite is None:
            groups = by_suite(corruptions.names())
        else:
            groups = {self.suite: list(corruptions.suite(self.suite))}
        rows = [("corruption", "family", "")]
        for suite, names in groups.items():
            rows += [(f"{suite}:", "", "")]
            rows += [(f"  {name}", corruptions.get(name).family, corruptions.get(name).summary) for name in names]
        print_columns(rows)
        if self.suite is None:
            sys.stdout.write(f"suites: {', '.join(corruptions.suites())}\n")
        return OK


def described(cls: type[Adapter]) -> str:
    """All of a method: what its file and its class say, the settings, and what the presets change."""
    import dataclasses
    import inspect

    from tta.registry import presets

    default = cls.Config()
    settings = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    settings.pop("inner", None)  # of a wrapper
    about = first_line(inspect.getmodule(cls))
    lines = [*([about, ""] if about else []), inspect.getdoc(cls) or "", ""]
    lines += ["Settings:", *(f"    {name} = {value!r}" for name, value in settings.items()), ""] if settings else []
    found = presets(cls)
    lines += ["Presets:"] if found else []
    for name in found:
        preset = getattr(cls.Config, name)
        changed = {key: getattr(preset(), key) for key in settings if getattr(preset(), key) != settings[key]}
        changes = ", ".join(f"{key}={value!r}" for key, value in changed.items()) or "the defaults"
        lines += [f"    {cls.name}:{name}  {first_line(preset)}", f"        {changes}"]
    return "\n".join(lines).rstrip() + "\n"


def choose_device(name: str, threads: int | None) -> torch.device:
    """The device of that name, after setting the number of CPU threads.

    Raises:
        TTAError: There is no such device, or fewer than one thread.
    """
    import torch

    if threads is not None:
        if threads < 1:
            raise TTAError(f"--threads is {threads}; give at least 1")
        torch.set_num_threads(threads)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TTAError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); give auto or cpu"
        ) from error
    return device


def first_line(documented: object) -> str:
    """The first line of a docstring."""
    return (documented.__doc__ or "").strip().partition("\n")[0]


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Writes rows in aligned columns, one line each."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def complain(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"tta: {' '.join(message.split())}\n")
