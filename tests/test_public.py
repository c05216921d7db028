"""The public names: what they are, and that they stay what they are."""

import importlib
import inspect
import pkgutil

import pytest

import tta


@pytest.mark.parametrize("name", tta.__all__)
def test_a_public_name_is_the_same_thing_each_time(name):
    """Also once every module has been imported: a module of the same name would take its place."""
    first = getattr(tta, name)
    for module in pkgutil.iter_modules(tta.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"tta.{module.name}")
    assert getattr(tta, name) is first
    assert not inspect.ismodule(first)
    assert callable(first)
