"""Who answers: beyond doubt the adapter, otherwise the source model."""

import pytest
import torch

import tta
from tta.guard.choice import Choice
from tta.guard.judge import Judge, Kind, Regression
from tta.source_data import SourceData

X = torch.rand(400, 3, 16, 16, generator=torch.Generator().manual_seed(0))
STREAM, LOGITS, EVENLY = X[:64], torch.zeros(64, 3), torch.eye(3)[[0, 1] * 32]


class Says(Judge):
    """A judge that says what it is told to; it may expect 4 points too much."""

    def __init__(self, *gains):
        self.gains = list(gains)

    def doubt(self, size, ordered):
        return 4.0

    def gain(self, ours, theirs, appearance, ordered):
        self.ordered = ordered
        return self.gains.pop(0) if len(self.gains) > 1 else self.gains[0]


def begun(shuffled=True, **settings):
    """A choice that knows, or does not, that classes come at random."""
    choice = Choice(**settings)
    choice.begin(SourceData(X, torch.zeros(400).long()))
    if shuffled:
        choice.order.memory["weight"] = 2.0
    return choice


def chosen(*gains, shuffled=True, theirs=LOGITS, **settings):
    """A choice after one look."""
    choice = begun(shuffled, **settings)
    assert not choice.by_adapter, "nothing is known yet"
    assert choice.estimate is None
    choice.judge = Says(*gains)
    look(choice, theirs=theirs)
    return choice


def look(choice, x=STREAM, theirs=LOGITS):
    assert choice.due(x)
    return choice.look(x, LOGITS[: len(x)], theirs[: len(x)])


def test_the_adapter_is_heard_beyond_doubt_only():
    assert chosen(4.1).by_adapter
    assert not chosen(3.9).by_adapter
    assert not chosen(-20.0).by_adapter
    assert chosen(3.9, margin=0.9).by_adapter
    assert chosen(10.0).estimate == (10.0, 4.0, False)


def test_it_goes_on_to_be_heard_while_it_gains_something():
    choice = chosen(10.0, 10.0, 1.1, every=1, stay=0.25, theirs=EVENLY)
    for _ in range(20):
        choice.due(STREAM)
        choice.look(STREAM, LOGITS, EVENLY)
    assert choice.by_adapter
    assert choice.estimate.gain == pytest.approx(1.1, abs=0.1)
    choice.judge = Says(0.9)
    for _ in range(20):
        choice.due(STREAM)
        choice.look(STREAM, LOGITS, EVENLY)
    assert not choice.by_adapter
    choice.judge = Says(3.9)
    for _ in range(20):
        choice.due(STREAM)
        choice.look(STREAM, LOGITS, EVENLY)
    assert not choice.by_adapter, "once silent, it must be beyond doubt again"


def test_verdicts_count_half_after_the_images_that_memory_says():
    choice = chosen(8.0, 0.0, memory=64, every=10_000)
    look(choice, STREAM) if choice.due(STREAM[:0]) else choice.look(STREAM, LOGITS, LOGITS)
    # 64 images of 8 points count half beside 64 of none.
    assert choice.estimate.gain == pytest.approx(8 / 3)


def test_what_was_known_under_another_style_counts_a_quarter():
    choice = chosen(8.0, 0.0)
    look(choice, STREAM * 0.2)
    kept = 64 * 0.5 ** (64 / 256) / 4
    assert choice.estimate.gain == pytest.approx(8 * kept / (kept + 64))


def test_a_few_images_are_not_enough_and_a_look_takes_several_small_batches():
    choice = begun()
    choice.judge = Says(50.0)
    for number in range(6):
        assert not choice.by_adapter, number
        look(choice, X[:8])
    assert choice.by_adapter
    wanted = []
    for _ in range(80):
        wanted.append(choice.due(X[:8]))
        if wanted[-1]:
            choice.look(X[:8], LOGITS[:8], LOGITS[:8])
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


def test_streams_in_which_classes_come_together_are_judged_by_what_was_learned_on_such_ones():
    choice = chosen(4.1, shuffled=False, theirs=EVENLY)
    judge = choice.judge
    assert judge.ordered, "nothing is known yet"
    assert not choice.by_adapter, "more images are needed there"
    choice.look(STREAM, LOGITS, EVENLY)
    assert judge.ordered, "the same classes once more may be chance"
    choice.look(STREAM, LOGITS, EVENLY)
    assert judge.ordered is False
    assert choice.by_adapter
    choice.look(STREAM, LOGITS, torch.eye(3)[[2] * 64])
    assert judge.ordered
    assert not choice.by_adapter


def test_where_classes_come_together_it_takes_more_images_and_the_gain_must_stay_beyond_doubt():
    choice, doubted = chosen(5.1, shuffled=False), chosen(4.9, shuffled=False)
    for number in range(1, 5):
        assert choice.by_adapter == (64 * number >= 256)
        assert not doubted.by_adapter
        for each in (choice, doubted):
            look(each) if each.due(STREAM[:0]) else each.look(STREAM, LOGITS, LOGITS)
    choice.judge.gains = [4.1]
    for _ in range(2):
        choice.look(STREAM, LOGITS, LOGITS)
    assert not choice.by_adapter
    assert choice.estimate.gain > 4.5, "the memory is longer there"


def test_what_was_expected_of_another_kind_of_stream_is_forgotten():
    choice = chosen(4.1, 4.1, -9.0, shuffled=False, theirs=EVENLY)
    for _ in range(2):
        choice.look(STREAM, LOGITS, EVENLY)
    assert choice.estimate == (-9.0, 4.0, False)


def test_after_a_reset_the_source_model_answers():
    choice = chosen(60.0)
    choice.restart()
    assert not choice.by_adapter
    assert choice.estimate is None
    assert choice.due(STREAM)


def test_it_is_restored_with_all_that_it_has_learned():
    from tta.guard.encoding import decode, encode

    choice = chosen(10.0)
    kinds = (Kind(32, False), Kind(8, True))
    parts = {kind: Regression(torch.zeros(2), torch.ones(2), torch.arange(3.0), kind.size / 8) for kind in kinds}
    choice.judge = Judge(parts)
    tensors = {}
    state = encode(choice.state(), tensors)
    again = Choice()
    again.begin(SourceData(X, torch.zeros(400).long()))
    again.set_state(decode(state, tensors))
    assert again.by_adapter
    assert again.estimate == choice.estimate
    assert again.judge.doubt(32, ordered=False) == 4
    assert torch.equal(again.judge.parts[kinds[1]].weights, parts[kinds[1]].weights)
    assert torch.equal(again.order.memory["pool"], choice.order.memory["pool"])


@pytest.mark.parametrize("bad", [{"every": 0}, {"memory": 0}, {"stay": 2.0}, {"stay": -1.0}])
def test_a_choice_is_checked(bad):
    with pytest.raises(tta.TTAError, match="choice"):
        Choice(**bad)
