"""A moment brings back everything, for every method."""

import pytest
import torch
from small import wrapped

import tta
from tta.contract import NETS, images
from tta.guard.moment import Moment, changing

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


@pytest.mark.parametrize("name", [*tta.list_methods(), *WRAPPED])
def test_what_changes_is_all_but_frozen_weights_and_anchors(name):
    one = adapter(name)
    frozen = {id(p) for p in one.model.parameters() if not p.requires_grad}
    expected = {
        name: tensor
        for name, tensor in (*one.named_parameters(), *one.named_buffers())
        if id(tensor) not in frozen and "anchor" not in name.split(".")
    }
    found = changing(one)
    assert found.keys() == expected.keys()
    assert all(found[name] is tensor for name, tensor in expected.items())


def test_what_an_optimiser_remembers_may_come_change_and_go():
    one = adapter("tent")
    undo = Moment(one)
    first = one.model.get_parameter(next(n for n, p in one.model.named_parameters() if p.requires_grad))
    for change in (
        lambda: one(images(1)),
        lambda: one(images(2)),
        lambda: one.optimiser.state[first].update(extra=torch.ones(3), count=5),
        lambda: one.optimiser.state[first].update(extra=torch.ones(2, dtype=torch.float64)),
        lambda: one.optimiser.state.pop(first),
        one.optimiser.state.clear,
        lambda: one(images(3)),
    ):
        change()
        before = copied(one.state_dict())
        undo.take(one)
        one(images(4))
        undo.restore(one)
        assert same(flat(one.state_dict()), before)


def test_copies_are_made_in_place():
    one = adapter("tent")
    one(images(0))
    undo = Moment(one)
    kept = [t.data_ptr() for t in (*undo._tensors.values(), *undo._remembered)]
    assert len(undo._remembered) == 3 * len(undo._tensors), "step and two moments of Adam"
    one(images(1))
    undo.take(one)
    assert [t.data_ptr() for t in (*undo._tensors.values(), *undo._remembered)] == kept
