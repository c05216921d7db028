"""What can intrude: the kinds of intruders by their names, such as "noise:0.2" or "poison_nhe:0.2"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from tta.errors import TTAError
from tta.intruders import NOISES, Intruders, noise_domain
from tta.numbered import Number, read
from tta.poison import Attack, Attacker, Poisoned
from tta.poison_objectives import OBJECTIVES
from tta.streams import Domain

if TYPE_CHECKING:
    from tta.streams import Data

#: Noise, other pictures, other users' images as they are, other users' poisoned images.
KINDS = (*NOISES, "ood", "benign", *(f"poison_{attack}" for attack in OBJECTIVES))
NUMBERS = {kind: Number("a share between 0 and 1", 0.2, lambda share: 0 < share < 1) for kind in KINDS}


def read_intruders(text: str) -> tuple[str, float] | None:
    """Kind and share from KIND:SHARE, or from KIND alone for a share of 0.2; None for "none".

    Raises:
        TTAError: No such kind, or a share that is none.

    >>> read_intruders("poison_nhe:0.5"), read_intruders("none")
    (('poison_nhe', 0.5), None)
    """
    if text == "none":
        return None
    kind, share = read(text, "kind of intruders", KINDS, NUMBERS)
    assert share is not None
    return kind, share


def make_intruders(
    text: str,
    domains: Sequence[Domain],
    *,
    own: Sequence[Domain] = (),
    other: Data | None = None,
    model: nn.Module | None = None,
    seed: int = 0,
) -> Intruders | None:
    """Intruders for a stream, by their name.

    Args:
        text: "none", or KIND:SHARE with one of `KINDS`.
        domains: Of the stream; noise takes the shape of its images.
        own: The images of the intruding users, labelled: one domain, or one for each of `domains`. For the kinds
            "benign" and "poison_...".
        other: Pictures of something else, in the size and channels of the stream's. For the kind "ood".
        model: The source model, for the kinds "poison_...".
        seed: Of noise and poison.

    Returns:
        What `make_stream` takes; None for "none".

    Raises:
        TTAError: No such kind or share, or what the kind needs is not given.
    """
    if (what := read_intruders(text)) is None:
        return None
    kind, share = what
    if kind in NOISES:
        channels, height, width = domains[0].data.images(torch.tensor([0])).shape[1:]
        return Intruders(kind, share, (noise_domain((channels, height, width), kind, seed),))
    if kind == "ood":
        if other is None:
            raise TTAError("intruders of the kind ood need other images; name a data set for them")
        return Intruders(kind, share, (Domain(kind, 0, other, scored=False),))
    if not own:
        raise TTAError(f"intruders of the kind {kind} need the images of the users that they come from")
    sources: list[Data] = [domain.data for domain in own]
    if kind != "benign":
        if model is None:
            raise TTAError(f"intruders of the kind {kind} need the source model")
        attacker = Attacker(model, Attack(kind.removeprefix("poison_")))
        sources = [Poisoned(data, attacker, seed) for data in sources]
    return Intruders(
        kind,
        share,
        tuple(
            Domain(f"{kind}/{domain.name}", domain.severity, data, scored=False)
            for domain, data in zip(own, sources, strict=True)
        ),
    )
