"""The source model as it is: what every method has to beat."""

from __future__ import annotations

from tta.adapter import Adapter
from tta.registry import register


@register("source")
class Source(Adapter):
    """The source model, not adapted.

    Updates: nothing. State: none. Cost: 1 forward. Needs: nothing.
    Memory: the model.
    """
