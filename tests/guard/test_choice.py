"""Who answers: beyond doubt the adapter, otherwise the source model."""

import pytest
import torch

import tta
from tta.guard.choice import Choice
from tta.guard.judge import Judge, Regression
from tta.source_data import SourceData

X = torch.rand(400, 3, 16, 16, generator=torch.Generator().manual_seed(0))
STREAM = X[:64]


class Says(Judge):
    """A judge that says what it is told to; it may expect 4 points too much."""

    def __init__(self, *gains):
        self.gains = list(gains)

    def doubt(self, size):
        return 4.0

    def gain(self, ours, theirs, appearance):
        return self.gains.pop(0) if len(self.gains) > 1 else self.gains[0]


def chosen(*gains, **settings):
    """A choice after one look."""
    choice = Choice(**settings)
    choice.begin(SourceData(X, torch.zeros(400).long()))
    assert not choice.by_adapter, "nothing is known yet"
    assert choice.estimate is None
    choice.judge = Says(*gains)
    look(choice)
    return choice


def look(choice, x=STREAM):
    assert choice.due(x)
    return choice.look(x, torch.zeros(len(x), 3), torch.zeros(len(x), 3))


def test_the_adapter_is_heard_beyond_doubt_only():
    assert chosen(4.1).by_adapter
    assert not chosen(3.9).by_adapter
    assert not chosen(-20.0).by_adapter
    assert chosen(3.9, margin=0.9).by_adapter
    assert chosen(10.0).estimate == (10.0, 4.0)


def test_it_goes_on_to_be_heard_while_it_gains_something():
    choice = chosen(10.0, 1.1, every=1, stay=0.25)
    for _ in range(20):
        choice.due(STREAM)
        choice.look(STREAM, STREAM, STREAM)
    assert choice.by_adapter
    assert choice.estimate.gain == pytest.approx(1.1, abs=0.1)
    choice.judge = Says(0.9)
    for _ in range(20):
        choice.due(STREAM)
        choice.look(STREAM, STREAM, STREAM)
    assert not choice.by_adapter
    choice.judge = Says(3.9)
    for _ in range(20):
        choice.due(STREAM)
        choice.look(STREAM, STREAM, STREAM)
    assert not choice.by_adapter, "once silent, it must be beyond doubt again"


def test_verdicts_count_half_after_the_images_that_memory_says():
    choice = chosen(8.0, 0.0, memory=64, every=10_000)
    look(choice, STREAM) if choice.due(STREAM[:0]) else choice.look(STREAM, STREAM, STREAM)
    # 64 images of 8 points count half beside 64 of none.
    assert choice.estimate.gain == pytest.approx(8 / 3)


def test_a_few_images_are_not_enough_and_a_look_takes_several_small_batches():
    choice = Choice()
    choice.begin(SourceData(X, torch.zeros(400).long()))
    choice.judge = Says(50.0)
    for number in range(6):
        assert not choice.by_adapter, number
        look(choice, X[:8])
    assert choice.by_adapter
    wanted = []
    for _ in range(80):
        wanted.append(choice.due(X[:8]))
        if wanted[-1]:
            choice.look(X[:8], X[:8], X[:8])
    assert choice.by_adapter
    assert wanted.index(True) == 31, "after 256 images"
    assert wanted[31:38] == [True] * 6 + [False], "six batches of eight"


def test_where_it_is_close_the_next_look_comes_sooner_and_a_change_of_style_asks_for_one():
    clear, close = chosen(60.0), chosen(3.0)
    assert [clear.due(STREAM) for _ in range(4)] == [False, False, False, True]
    assert [close.due(STREAM) for _ in range(2)] == [False, True]
    assert close.due(STREAM), "wanted until there is one"
    look(clear)
    assert not clear.due(STREAM)
    assert clear.due(STREAM * 0.2)


def test_after_a_reset_the_source_model_answers():
    choice = chosen(60.0)
    choice.restart()
    assert not choice.by_adapter
    assert choice.estimate is None
    assert choice.due(STREAM)


def test_it_is_restored_with_all_that_it_has_learned():
    from tta.guard.encoding import decode, encode

    choice = chosen(10.0)
    parts = {size: Regression(torch.zeros(2), torch.ones(2), torch.arange(3.0), size / 8) for size in (32, 8)}
    choice.judge = Judge(parts)
    tensors = {}
    state = encode(choice.state(), tensors)
    again = Choice()
    again.begin(SourceData(X, torch.zeros(400).long()))
    again.set_state(decode(state, tensors))
    assert again.by_adapter
    assert again.estimate == choice.estimate
    assert again.judge.doubt(32) == 4
    assert torch.equal(again.judge.parts[8].weights, parts[8].weights)


@pytest.mark.parametrize("bad", [{"every": 0}, {"memory": 0}, {"stay": 2.0}, {"stay": -1.0}])
def test_a_choice_is_checked(bad):
    with pytest.raises(tta.TTAError, match="choice"):
        Choice(**bad)
