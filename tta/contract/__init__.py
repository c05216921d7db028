"""The contract: what every adapter promises, one function each, and a check of all of them on three small networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

from torch import nn

from tta.adapter import Adapter
from tta.contract import inputs, state
from tta.contract.case import Case, ContractBroken, Refused, images, source_images
from tta.contract.nets import NETS

__all__ = ["NETS", "PROMISES", "Case", "ContractBroken", "Outcome", "Refused", "check", "images", "source_images"]

#: Every promise: a function that takes a `Case` and raises `ContractBroken`; its docstring says what is promised.
PROMISES: tuple[Callable[[Case], None], ...] = (
    state.source_is_untouched,
    state.reset_is_exact,
    state.seeds_decide,
    state.saved_state_is_complete,
    state.predict_changes_nothing,
    state.modes_are_alike,
    state.export_is_plain,
    state.memory_does_not_grow,
    inputs.any_batch_size,
    inputs.any_gradient_mode,
    inputs.double_precision,
    inputs.half_precision,
    inputs.autocast,
    inputs.channels_last,
    inputs.input_is_not_written,
    inputs.global_generators_are_left_alone,
    inputs.bad_input_is_refused,
    inputs.model_without_logits_is_refused,
)


class Outcome(NamedTuple):
    """How one promise fared on one network.

    Attributes:
        network: Kind of the network, a key of `NETS`.
        promise: What is promised, in words.
        verdict: "kept"; "refused" if the method does not run there and said so; or "broken".
        reason: Why it was refused or broken.
    """

    network: str
    promise: str
    verdict: Literal["kept", "refused", "broken"]
    reason: str = ""


def check(
    build: Callable[[nn.Module], Adapter], networks: Mapping[str, Callable[[], nn.Module]] = NETS
) -> Iterator[Outcome]:
    """Checks every promise on every network; on a network that the method refuses, one outcome says so.

    Args:
        build: Makes an adapter around a source model, with the same seed and settings each time.
        networks: Functions that make a source model: images (B, 3, 32, 32) to 10 classes.

    Yields:
        One outcome per promise and network, as soon as it is known.

    >>> import tta
    >>> {outcome.verdict for outcome in check(lambda model: tta.wrap(model, "source"))}
    {'kept'}
    """
    for kind, network in networks.items():
        case = Case(build, network)
        first = _fared(kind, _can_be_made, case)
        if first.verdict != "kept":
            yield first
            continue
        for promise in PROMISES:
            yield _fared(kind, promise, case)


def _can_be_made(case: Case) -> None:
    """An adapter can be made, or the model is refused with a TTAError that says why and what to do."""
    case.make()


def _fared(kind: str, promise: Callable[[Case], None], case: Case) -> Outcome:
    words = (promise.__doc__ or promise.__name__).partition("\n")[0].rstrip(".")
    try:
        promise(case)
    except Refused as refusal:
        return Outcome(kind, words, "refused", str(refusal))
    except ContractBroken as broken:
        return Outcome(kind, words, "broken", str(broken))
    except Exception as error:  # of the user's code
        message = " ".join(str(error).split()) or "no message"
        return Outcome(kind, words, "broken", f"raised {type(error).__name__}: {message}")
    return Outcome(kind, words, "kept")
