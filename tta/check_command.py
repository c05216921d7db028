"""The command `tta check`: whether a method keeps the promises of all adapters."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from tta.commands import OK, complain
from tta.errors import TTAError
from tta.setup import Folder

if TYPE_CHECKING:
    from torch import nn

    from tta.adapter import Adapter
    from tta.contract import Outcome

CHECK = """Check that a method keeps the promises of all adapters: the source model is untouched, reset is exact, the
saved state is complete, batches of any size are answered ... One line for each promise on each of three small networks,
with batch, layer and group norm. A network that the method refuses when the adapter is made is passed over.

Exit code: 0 if all promises are kept, 1 if one is broken or every network is refused, 2 for input that cannot be used.

examples:
  tta check tent
  tta check my_method.py:MyMethod --settings steps=2
  tta check my_package:MyMethod --source-data cifar10 --data DIR"""
BROKEN = 1
#: As many source images as a method that needs some is given at most.
SOURCE_IMAGES = 100


@dataclass(frozen=True)
class Check:
    """Check that a method keeps the promises of all adapters."""

    method: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="METHOD")]
    """Name of a method, FILE.py:CLASS, or MODULE:CLASS of an installed package."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE ...")] = ()
    """Hyper-parameters to change, such as steps=2."""
    source_data: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Training images for a method that needs some, as --dataset of `tta bench`; random ones if not given."""
    data: Folder = None
    """Folder in which the data set lies; the environment variable TTA_DATA if not given."""

    def run(self) -> int:
        """Prints a line per promise and network; 1 if a promise is broken or every network is refused."""
        from tta.contract import check

        outcomes = []
        for outcome in check(self._build()):
            outcomes.append(outcome)
            sys.stdout.write(line(outcome) + "\n")
            sys.stdout.flush()
        return self._verdict(outcomes)

    def _verdict(self, outcomes: Sequence[Outcome]) -> int:
        """Says how it went in all."""
        broken = sum(outcome.verdict == "broken" for outcome in outcomes)
        kept = sum(outcome.verdict == "kept" for outcome in outcomes)
        if not broken and not kept:
            complain(f"{self.method} refuses every network, so nothing could be checked; the reasons are above")
            return BROKEN
        sys.stdout.write(f"{self.method}: {kept} promises kept, {broken} broken\n")
        return BROKEN if broken else OK

    def _build(self) -> Callable[[nn.Module], Adapter]:
        """Makes an adapter around a model."""
        from tta.registry import configuration, method, wrap

        settings = dict(map(setting, self.settings))
        configuration(self.method, **settings)  # mistakes in the settings are no refusal
        data = self._source_images() if method(self.method).requires.source_data else None
        return lambda model: wrap(model, self.method, seed=7, source_data=data, **settings)

    def _source_images(self) -> Any:
        """Random labelled images, or those of the data set that is named."""
        from tta.contract import source_images
        from tta.contract.nets import CLASSES
        from tta.datasets import load_data

        if self.source_data is None:
            return source_images()
        data = load_data(self.source_data, self.data, split="train", limit=SOURCE_IMAGES, size=32, channels=3)
        if len(data.classes) > CLASSES:
            raise TTAError(
                f"the networks have {CLASSES} classes and {self.source_data} has {len(data.classes)}: give another"
                " data set, or leave --source-data out"
            )
        return data


def setting(text: str) -> tuple[str, Any]:
    """A hyper-parameter as it is written on the command line; what is no Python literal is a word.

    >>> setting("steps=2"), setting("kind=cotta")
    (('steps', 2), ('kind', 'cotta'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise TTAError(f"--settings {text}: expected KEY=VALUE, such as steps=2")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def line(outcome: Outcome) -> str:
    """An outcome in one line."""
    verdict = {"kept": "ok", "refused": "refused", "broken": "BROKEN"}[outcome.verdict]
    reason = f": {' '.join(outcome.reason.split())}" if outcome.reason else ""
    return f"{outcome.network:<10}  {verdict:<7}  {outcome.promise}{reason}"
