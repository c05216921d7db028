"""A rehearsal that is short, for tests of other things."""

from tta.deployment import Guard
from tta.guard.rehearsal import Rehearsal

SHORT = Rehearsal(images=6, sizes=(6,), shifts=("speckle_noise", "gaussian_blur", "saturate", "lines"))


def usual():
    """The usual guard after a short rehearsal."""
    return Guard.usual(rehearsal=SHORT)
