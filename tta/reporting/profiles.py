"""How much is measured for a report: quick for a first look, standard for a decision, full for the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tta.errors import unknown
from tta.stress import STREAMS


@dataclass(frozen=True)
class Profile:
    """The extent of a report.

    Attributes:
        severities: Of every corruption, in the grid of the source model.
        methods: Adaptation methods beside the source model.
        streams: Of the stress matrix, see `tta.scenarios`.
        batch_sizes: Images that arrive together. The first stream in batches of the first size is the one that is shown
            over time, and on which a method must gain for sure to be recommended.
        seeds: Of streams, corruptions and methods.
        limit: Images per domain where nobody says how many; None for all.
        stream_domains: So many of the corruptions make the streams, evenly spread over the list; None for all.
        shift_images: Images that are shifted by a pixel, at most.
    """

    severities: tuple[float, ...]
    methods: tuple[str, ...]
    streams: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    limit: int | None
    stream_domains: int | None
    shift_images: int

    def for_streams(self, corruptions: Sequence[str]) -> tuple[str, ...]:
        """The corruptions that make the streams.

        >>> PROFILES["quick"].for_streams([str(i) for i in range(15)])
        ('0', '3', '6', '8', '11', '14')
        """
        count = self.stream_domains
        if count is None or count >= len(corruptions):
            return tuple(corruptions)
        last = len(corruptions) - 1
        return tuple(corruptions[round(i * last / max(1, count - 1))] for i in range(count))


#: The streams of the stress matrix without malicious users, whose images are made of training images.
HONEST = tuple(stream for stream in STREAMS if "poison" not in stream)
#: From the name of a profile to what it measures.
PROFILES = {
    "quick": Profile(
        (1.0, 3.0, 5.0), ("source", "bn", "tent", "rotta", "roid", "lame"),
        ("continual", "continual+dirichlet:0.1", "mixed"), (64,), (0,), 192, 6, 192,
    ),
    "standard": Profile(
        (1.0, 2.0, 3.0, 4.0, 5.0), ("source", "bn", "tent", "eata", "sar", "rotta", "roid", "lame"),
        ("continual", "continual+dirichlet:0.1", "mixed", "mixed+dirichlet:0.1", "continual+noise:0.2"), (64, 10), (0,),
        1000, None, 1000,
    ),
    "full": Profile(
        (1.0, 2.0, 3.0, 4.0, 5.0), ("source", "bn", "tent", "eata", "sar", "cotta", "rotta", "roid", "lame"), HONEST,
        (64, 200, 10, 1), (0, 1, 2), None, None, 10_000,
    ),
}  # fmt: skip


def profile_of(name: str) -> Profile:
    """The profile of a name.

    Raises:
        TTAError: There is no such profile.
    """
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]
