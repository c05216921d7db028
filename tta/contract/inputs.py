"""Promises about inputs: batches of any size, precision and layout; and what is refused."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tta.contract.case import Case, ContractBroken, apart, hold, images
from tta.contract.nets import CLASSES
from tta.errors import TTAError


def any_batch_size(case: Case) -> None:
    """Batches of 6, 1, 5 and 1 images get finite logits without a gradient."""
    adapter = case.make()
    for size in (6, 1, 5, 1):
        logits = _asked(adapter, images(size, size), f"a batch of {size}")
        expected = (size, CLASSES)
        hold(tuple(logits.shape) == expected, f"a batch of {size} gets logits {tuple(logits.shape)}, not {expected}")
        hold(not logits.requires_grad, f"the logits of a batch of {size} carry a gradient: detach them")


def any_gradient_mode(case: Case) -> None:
    """Under inference_mode and no_grad the answers are the same bit for bit."""
    plain = case.make()
    expected = [plain(images(seed)) for seed in range(3)]
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            adapter = case.make()
            for seed, a in enumerate(expected):
                b = _asked(adapter, images(seed), f"a batch under {mode.__name__}")
                hold(
                    torch.equal(a, b),
                    f"under {mode.__name__} the adapter answers differently ({apart(a, b)}): let forward() of the base"
                    " class switch gradients on, and do not ask whether they are",
                )


def double_precision(case: Case) -> None:
    """A float64 model gets finite float64 logits."""
    _precision(case, torch.float64)


def half_precision(case: Case) -> None:
    """A bfloat16 model gets finite bfloat16 logits."""
    _precision(case, torch.bfloat16)


def _precision(case: Case, dtype: torch.dtype) -> None:
    adapter = case.make(dtype=dtype)
    for seed in range(2):
        logits = _asked(adapter, images(seed, dtype=dtype), f"a batch of {dtype}")
        hold(logits.dtype == dtype, f"a {dtype} model and batch get {logits.dtype} logits: make tensors .to(x)")


def autocast(case: Case) -> None:
    """Under autocast the logits are finite and the weights stay float32."""
    adapter = case.make()
    with torch.autocast("cpu", torch.bfloat16):
        for seed in range(2):
            _asked(adapter, images(seed), "a batch under autocast")
    kinds = {str(p.dtype) for p in adapter.parameters()}
    hold(kinds <= {"torch.float32"}, f"under autocast the weights became {', '.join(sorted(kinds))}: do not cast them")


def channels_last(case: Case) -> None:
    """A channels_last model and batch get the same answers, up to rounding."""
    last = case.make(case.network().to(memory_format=torch.channels_last))
    a, b = case.make()(images(0)), last(images(0).to(memory_format=torch.channels_last))
    hold(
        torch.allclose(a, b, rtol=1e-3, atol=1e-3),
        f"in channels_last the adapter answers differently ({apart(a, b)}): use reshape where you use view",
    )


def input_is_not_written(case: Case) -> None:
    """The batch that is passed in is not written to."""
    adapter, x = case.make(), images(0)
    for ask, name in ((adapter, "the adapter"), (adapter.predict, "predict()")):
        ask(x)
        hold(torch.equal(x, images(0)), f"{name} wrote into the batch ({apart(x, images(0))}): copy it first")


def global_generators_are_left_alone(case: Case) -> None:
    """The global random generators of torch, numpy and Python are left alone."""
    adapter = case.make()
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(8191), np.random.seed(8191), random.seed(8191)  # noqa: NPY002  (unlike a user's seed)
            before = _global_states()
            adapter(images(0))
            moved = [name for name, state in _global_states().items() if state != before[name]]
    finally:
        np.random.set_state(kept[0])  # noqa: NPY002
        random.setstate(kept[1])
    hold(
        not moved,
        f"a batch moved {' and '.join(moved)} global random generator on: draw with generator=self.generator (on the"
        " device) or self.host_generator",
    )


def _global_states() -> dict[str, object]:
    state: Any = np.random.get_state()  # noqa: NPY002
    return {
        "torch's": torch.get_rng_state().tolist(),
        "numpy's": (state[1].tolist(), state[2:]),
        "Python's": random.getstate(),
    }


def bad_input_is_refused(case: Case) -> None:
    """What is no batch of float images is refused with a TTAError."""
    adapter = case.make()
    bad = {
        "a batch without the dimension of images": torch.zeros(3, 32, 32),
        "a uint8 batch": torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        "an empty batch": torch.zeros(0, 3, 32, 32),
    }
    for what, x in bad.items():
        try:
            adapter(x)
        except TTAError:
            continue
        except Exception as error:
            raise ContractBroken(
                f"{what} raises {type(error).__name__}, not TTAError: implement step(), and leave forward() as it is"
            ) from error
        raise ContractBroken(f"{what} is answered: implement step(), and leave forward() as it is")


def model_without_logits_is_refused(case: Case) -> None:
    """A model that returns something other than logits is refused with a TTAError that says so."""
    try:
        adapter = case.make(_Labels(case.network()))
        adapter(images(0))
    except TTAError as error:
        hold("return logits" in str(error), f"a model that returns labels is refused, but not for that: {error}")
        return
    except Exception as error:
        raise ContractBroken(
            f"a model that returns labels raises {type(error).__name__}: implement step(), and leave forward() as it is"
        ) from error
    raise ContractBroken("a model that returns labels is answered: implement step(), and leave forward() as it is")


class _Labels(nn.Module):
    """A model that returns labels instead of logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).argmax(1)


def _asked(adapter: nn.Module, x: Tensor, what: str) -> Tensor:
    """The finite answer to a batch."""
    try:
        logits = adapter(x)
    except TTAError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise ContractBroken(
            f"{what} raises {type(error).__name__} ({reason}): handle it, or refuse the model with a TTAError when the"
            " adapter is made"
        ) from error
    hold(logits.isfinite().all(), f"{what} gets logits that are not finite: divide by no count that can be zero")
    return logits
