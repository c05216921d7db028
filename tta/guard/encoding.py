"""Nested Python values and tensors as JSON and named tensors, and back: strict, and without running code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tta.errors import TTAError


def encode(value: Any, tensors: dict[str, Tensor], path: str = "state") -> Any:
    """A value as plain JSON; its tensors go into `tensors` under the path at which they were found.

    Args:
        value: None, bool, int, float, str, tensors, and lists, tuples and dictionaries of these; keys are strings or
            integers.
        tensors: Filled with contiguous copies on the CPU.
        path: Where the value is, for names and messages.

    Raises:
        TTAError: Anything else.

    >>> encode({"a": [1, (2.5, None)]}, {})
    {'d': [['a', {'l': [1, {'u': [2.5, None]}]}]]}
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"f": repr(value)}
    if isinstance(value, Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {"t": path}
    if isinstance(value, Mapping):
        if bad := [key for key in value if type(key) not in (str, int)]:
            raise TTAError(f"{path} has the key {bad[0]!r}; only strings and integers can be saved as keys")
        return {"d": [[key, encode(item, tensors, f"{path}.{key}")] for key, item in value.items()]}
    if type(value) in (list, tuple):
        items = [encode(item, tensors, f"{path}.{place}") for place, item in enumerate(value)]
        return {"l" if type(value) is list else "u": items}
    raise TTAError(
        f"{path} is a {type(value).__name__}, which cannot be saved: keep tensors, numbers, strings, lists, tuples and"
        " dictionaries of them"
    )


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `encode` was given.

    Raises:
        TTAError: Not something that `encode` has made, or a tensor that is missing.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        (kind, content), *_ = value.items()
        if kind == "t" and content in tensors:
            return tensors[content]
        if kind == "f" and content in ("nan", "inf", "-inf"):
            return float(content)
        if kind == "l" and isinstance(content, list):
            return [decode(item, tensors) for item in content]
        if kind == "u" and isinstance(content, list):
            return tuple(decode(item, tensors) for item in content)
        if kind == "d" and isinstance(content, list):
            return {key: decode(item, tensors) for key, item in content}
    raise TTAError(f"a saved state is damaged at {str(value)[:60]}; restore another version")
