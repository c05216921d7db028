"""The passes of every method are the analytic ones of its definition, counted by hooks."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

import tta
from tta.contract import NETS, images
from tta.cost import PassCounter

BATCH = 8
#: Images forward and backward in a step, from the size of the batch and the number of images that taught the model.
Passes = Callable[[int, int], tuple[int, int]]


def fixed(forwards: int, backwards: int) -> Passes:
    """So many passes of every image."""
    return lambda size, used: (forwards * size, backwards * size)


def of_memory(forwards: int, backwards: int) -> Passes:
    """One pass of every image, and so many of the images in memory."""
    return lambda size, used: (size + forwards * used, backwards * used)


ALL = {"entropy_margin": 10.0}  # every image is sure enough
OTHER = {**ALL, "similarity_margin": 2.0}  # and different enough from the others
FULL = {"capacity": BATCH, "frequency": BATCH}
COSTS: dict[str, tuple[dict, Passes]] = {
    "source": ({}, fixed(1, 0)),
    "bn": ({}, fixed(1, 0)),
    "tent": ({}, fixed(1, 1)),
    "eta": (OTHER, fixed(1, 1)),
    "eata": (OTHER, fixed(1, 1)),
    "rdumb": (OTHER, fixed(1, 1)),
    "rpl": ({}, fixed(1, 1)),
    "sar": (ALL, fixed(2, 2)),
    "deyo": ({**ALL, "plpd": -1.0}, fixed(2, 1)),
    "roid": ({}, lambda size, used: (size + used, size + used)),
    "cmf": ({}, lambda size, used: (size + used, size + used)),
    "conjugate": ({}, fixed(2, 1)),
    "shot": ({}, fixed(1, 1)),
    "cotta": ({"gate": 1.0, "views": 4}, fixed(1 + 1 + 4, 1)),  # student, anchor, views: the gate opens
    "ttaug": ({"views": 4}, fixed(1 + 4, 0)),
    "rotta": (FULL, of_memory(2, 1)),
    "rmt": ({}, fixed(4, 3)),
    "santa": ({}, fixed(3, 2)),
    "adacontrast": ({"queue": 16, "warm_up": 8}, fixed(5, 1)),
    "gtta": ({}, fixed(4, 2)),
    "sotta": ({**FULL, "threshold": 0.0}, of_memory(2, 2)),
    "note": (FULL, of_memory(1, 1)),
    "petta": ({"capacity": BATCH}, of_memory(4, 2)),
    "lame": ({}, fixed(1, 0)),
    "t3a": ({}, fixed(1, 0)),
    "neo": ({}, fixed(1, 0)),
    "memo": ({"views": 4}, fixed(4 + 1, 4)),
    "ttaug_gated": ({"views": 4, "step": 4, "budget": 0.5}, lambda size, used: (size + 4 * used, 0)),
    "ttaug_close": ({"views": 4}, fixed(1 + 4, 0)),
    "foa": ({"population": 5}, fixed(5 + 1, 0)),
    "crop_select": ({"crops": 2}, fixed(4 * 2, 0)),
}


def counted(name: str, kind: str, settings: dict) -> list[tuple[tuple[int, int], int]]:
    """The passes of each of four steps, and the number of images that taught the model."""
    adapter = tta.wrap(NETS[kind](), name, source_data=(images(9, 20), torch.arange(20) % 10), seed=3, **settings)
    steps = []
    for seed in range(4):
        with PassCounter(adapter.networks()) as counter:
            adapter(images(seed, BATCH))
        steps.append((tuple(counter.passes), int(adapter.info.used)))
    return steps


@pytest.mark.parametrize("name", tta.list_methods())
def test_the_passes_are_those_of_the_definition(name):
    settings, passes = COSTS[name]
    steps = counted(name, "layer_norm" if name == "foa" else "batch_norm", settings)
    assert [step for step, _ in steps] == [passes(BATCH, used) for _, used in steps]
    assert not settings or steps[-1][0][0] > 0


@pytest.mark.parametrize(("gate", "passes"), [(0.0, (2, 1)), (1e-9, (3, 1)), (2.0, (1 + 4, 1))])
def test_the_gate_of_cotta_decides_before_the_views_are_computed(gate, passes):
    steps = counted("cotta", "batch_norm", {"gate": gate, "views": 4})
    assert [step for step, _ in steps] == [(BATCH * passes[0], BATCH * passes[1])] * 4


def margin() -> float:
    """A share of the largest entropy that three in ten of the images are below."""
    with torch.no_grad():
        probs = torch.cat([NETS["group_norm"]()(images(seed, BATCH)) for seed in range(4)]).softmax(1)
    unsure = -(probs * probs.log()).sum(1) / math.log(10)
    return float(unsure.quantile(0.3))


# With group norm images are independent. The first batch goes through with a gradient, as nobody knows yet how many of
# its images are selected; later ones do where at least half of the batch before was.


@pytest.mark.parametrize("name", ["eta", "eata", "rdumb"])
def test_images_that_are_filtered_out_are_not_in_the_backward_pass(name):
    steps = counted(name, "group_norm", {"entropy_margin": margin(), "similarity_margin": 2.0})
    assert any(0 < used < BATCH / 2 for _, used in steps)
    for (_, before), (passes, used) in pairwise(steps):
        assert passes == ((BATCH + used, used) if before < BATCH / 2 else (BATCH, BATCH if used else 0))


def test_neither_pass_of_sar_goes_backward_through_images_that_are_filtered_out():
    adapter = tta.wrap(NETS["group_norm"](), "sar", entropy_margin=margin(), recover=0.0)
    shares = []
    for seed in range(5):
        before = adapter.memory["share"]
        with PassCounter(adapter.networks()) as counter:
            adapter(images(seed, BATCH))
        chosen = round(BATCH * adapter.memory["share"])
        again = (BATCH + 2 * chosen, 2 * chosen)  # all once, the reliable ones twice more, with a gradient
        once = (BATCH + chosen, BATCH + chosen if chosen else 0)
        assert tuple(counter.passes) == (again if before < 0.5 else once)
        shares.append(chosen / BATCH)
    assert 0 < min(shares[:-1]) < 0.5
