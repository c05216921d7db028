"""A moment brings back everything, for every method."""

import pytest
import torch
from small import wrapped
from torch.utils._python_dispatch import TorchDispatchMode

import tta
from tta.contract import NETS, images
from tta.guard.moment import Moment

WRAPPED = ("tent+recurring", "cotta+asr", "tent+wise")


def adapter(name):
    try:
        return wrapped(name, NETS["batch_norm"]())
    except tta.TTAError:
        pytest.skip("the method does not run on this network")


def flat(state):
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [("key", k) for k in state] + [leaf for v in state.values() for leaf in flat(v)]
    return [leaf for v in state for leaf in flat(v)] if isinstance(state, list | tuple) else [state]


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True)
    )


def copied(state):
    return [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in flat(state)]


@pytest.mark.parametrize("name", [n for n in (*tta.list_methods(), *WRAPPED) if n not in ("foa",)])
def test_a_step_leaves_no_trace(name):
    one = adapter(name)
    one(images(0))
    undo = Moment(one)
    before = copied(one.state_dict())
    answer = one(images(1))
    for seed in (2, 3):
        one(images(seed))
    undo.restore(one)
    assert same(flat(one.state_dict()), before)
    assert torch.equal(one(images(1)), answer)


def test_the_first_step_leaves_no_trace_either():
    one = adapter("tent")
    undo = Moment(one)
    answer = one(images(1))
    undo.restore(one)
    assert not one.optimiser.state
    assert torch.equal(one(images(1)), answer)


def test_it_can_be_handed_to_an_adapter_made_alike():
    one, two = adapter("rotta"), adapter("rotta")
    for seed in range(3):
        one(images(seed))
    Moment(one).restore(two)
    assert torch.equal(one(images(5)), two(images(5)))
    two(images(6))  # the two share nothing
    one(images(7))
    assert not torch.equal(one.predict(images(8)), two.predict(images(8)))


def test_it_holds_no_frozen_weights():
    one = adapter("tent")
    kept = sum(t.numel() for t in Moment(one)._tensors.values())
    assert kept == sum(p.numel() for p in one.parameters() if p.requires_grad)


def test_what_an_optimiser_remembers_is_kept_in_the_same_memory_and_comes_back():
    one = adapter("tent")
    undo = Moment(one)
    one(images(0))
    undo.take(one)
    remembered, kept = undo._remembered, copied(one.state_dict())
    one(images(1))
    undo.restore(one)
    assert same(copied(one.state_dict()), kept)
    one(images(1))
    undo.take(one)
    assert all(a is b for a, b in zip(undo._remembered, remembered, strict=True)), "no new copies"
    after = copied(one.state_dict())
    one.reset()  # the optimiser forgets
    undo.restore(one)
    assert same(copied(one.state_dict()), after)
    one.reset()
    undo.take(one)
    assert undo._remembered == []
    one(images(2))
    undo.restore(one)
    assert not one.optimiser.state


def test_a_batch_makes_few_operations_beside_the_step():
    class Operations(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, call, types, args=(), kwargs=None):
            self.count += 1
            return call(*args, **(kwargs or {}))

    one = adapter("tent")
    one(images(0))
    undo = Moment(one)
    with Operations() as operations:
        undo.take(one)
    assert operations.count <= 20
