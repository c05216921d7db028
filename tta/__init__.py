"""Test-time adaptation: benchmark it, deploy it, report on it.

>>> import torch, tta
>>> model = tta.load_source("digits")
>>> adapter = tta.wrap(model, "tent")
>>> adapter(torch.rand(8, 3, 32, 32)).shape
torch.Size([8, 10])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tta.adapter import Adapter, Requirements, StepInfo
    from tta.datasets import load_data
    from tta.deployment import deploy
    from tta.errors import TTAError
    from tta.evaluation import evaluate
    from tta.models import load_source
    from tta.registry import list_methods, register, wrap
    from tta.reporting.call import report
    from tta.results import Results
    from tta.streams import Batch, Domain, make_stream

__version__ = "0.1.0"

#: Where each public name lives; imported on first use, so that `import tta` is immediate.
_PUBLIC = {
    "Adapter": "adapter",
    "Requirements": "adapter",
    "StepInfo": "adapter",
    "TTAError": "errors",
    "load_data": "datasets",
    "load_source": "models",
    "register": "registry",
    "list_methods": "registry",
    "wrap": "registry",
    "report": "reporting.call",
    "deploy": "deployment",
    "evaluate": "evaluation",
    "Results": "results",
    "Batch": "streams",
    "Domain": "streams",
    "make_stream": "streams",
}

__all__ = [  # noqa: RUF022  (in the order of use)
    "wrap", "deploy", "list_methods", "load_source", "load_data", "Domain", "Batch", "make_stream", "evaluate",
    "Results", "report", "Adapter", "Requirements", "StepInfo", "register", "TTAError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tta' has no attribute {name!r}")
    return getattr(import_module(f"tta.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
