"""The judge tells who is right where confidence tells it, and says how far off it may be."""

import math

import pytest
import torch

from tta.guard.contradictions import OF_BATCH, OF_IMAGE, contradictions, describe
from tta.guard.judge import LEAST_DOUBT, Judge, Kind, Record

LOOK = torch.zeros(4)
SHIFTS = 8
LARGE, SMALL = Kind(32, False), Kind(8, False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def answers(n, right, seed, honest=True):
    """Logits of 4 classes for images of class 0: right on a share of them, and surer of itself where it is right."""
    random = generator(seed)
    hit = torch.rand(n, generator=random) < right
    given = torch.where(hit, 0, torch.randint(1, 4, (n,), generator=random))
    sure = torch.where(hit, 3.0, 1.0) if honest else torch.full((n,), 2.0)
    sure = sure + 0.3 * torch.randn(n, generator=random)
    return torch.nn.functional.one_hot(given, 4) * sure[:, None] + 0.1 * torch.rand(n, 4, generator=random)


def records(honest=True, streams=2):
    """Batches under eight shifts, in each of which the adapter is right more or less often than the source model."""
    found = []
    for stream in range(streams):
        for shift in range(SHIFTS):
            for number in range(4):
                seed = 1000 * stream + 10 * shift + number
                ours, theirs = (
                    answers(32, share, seed + k, honest) for k, share in ((0, 0.2 + 0.1 * shift), (500, 0.55))
                )
                where = torch.full((32,), shift)
                found.append(Record.of(ours, theirs, torch.zeros(32).long(), LOOK, where, SHIFTS, stream, LARGE))
    return found


def truth(ours, theirs):
    return 100 * float((ours.argmax(1) == 0).float().mean() - (theirs.argmax(1) == 0).float().mean())


def test_descriptions_by_hand():
    ours, theirs = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]])
    look = torch.tensor([0.1, 0.2, 0.3, 0.4])
    seen = describe(ours, theirs, look)
    assert seen.shape == (2, OF_IMAGE + OF_BATCH)
    # Log-odds of two classes are differences of logits.
    assert seen[0, :4].tolist() == pytest.approx([2, -2, -1, 1], abs=1e-4)
    assert seen[1, :4].tolist() == pytest.approx([1, 1, 3, 3], abs=1e-4)
    p = 1 / (1 + math.exp(-2))
    assert float(seen[0, 4]) == pytest.approx(-(p * math.log(p) + (1 - p) * math.log(1 - p)) / math.log(2), abs=1e-4)
    assert seen[0, OF_IMAGE:].equal(seen[1, OF_IMAGE:]), "of the batch"
    assert float(seen[0, OF_IMAGE]) == 0.5, "one contradiction in two"
    assert seen[0, -5:].tolist() == pytest.approx([*look.tolist(), 1.0])
    assert contradictions(ours, theirs).tolist() == [True, False]


def test_a_record_holds_contradictions_only():
    ours, theirs = (torch.eye(3)[[0, 1, 2, 0]], torch.eye(3)[[0, 0, 1, 2]])
    record = Record.of(ours, theirs, torch.tensor([0, 1, 1, 1]), LOOK, torch.tensor([0, 0, 1, 1]), 2, 0, Kind(4, False))
    assert record.won.tolist() == [1, -1, 0], "ours is right, theirs is, neither is"
    assert record.shift.tolist() == [0, 1, 1]
    assert record.counts.tolist() == [2, 2]


def test_gain_and_harm_are_told_apart_on_new_images():
    judge = Judge.learn(records())
    for seed, share in enumerate((0.2, 0.35, 0.75, 0.9)):
        ours, theirs = answers(512, share, 9000 + seed), answers(512, 0.55, 9500 + seed)
        assert judge.gain(ours, theirs, LOOK, ordered=False) == pytest.approx(truth(ours, theirs), abs=6)
    assert judge.doubt(32, ordered=False) < 8


def test_where_nothing_tells_who_is_right_the_doubt_is_large():
    honest, silent = Judge.learn(records()), Judge.learn(records(honest=False))
    assert silent.doubt(32, ordered=False) > 2 * honest.doubt(32, ordered=False)


def test_models_that_agree_gain_nothing():
    judge, same = Judge.learn(records()), answers(32, 0.5, 1)
    assert judge.gain(same, same, LOOK, ordered=False) == 0
    agreed = Record.of(same, same, torch.zeros(32).long(), LOOK, torch.arange(32) % SHIFTS, SHIFTS, 0, LARGE)
    never = Judge.learn([agreed])
    assert never.doubt(32, ordered=False) == LEAST_DOUBT
    assert never.gain(same, answers(32, 0.5, 2), LOOK, ordered=False) == 0


def test_one_image_and_logits_that_are_not_finite_are_judged_too():
    judge = Judge.learn(records())
    one, broken = answers(1, 1.0, 3), torch.full((2, 4), math.nan)
    assert -100 <= judge.gain(one, one.roll(1, 1), LOOK, ordered=False) <= 100
    assert math.isfinite(judge.gain(broken, answers(2, 1.0, 4), LOOK, ordered=False))


def test_doubt_is_that_of_the_nearest_size():
    part = Judge.learn(records()).parts[LARGE]
    judge = Judge({SMALL: part._replace(doubt=10.0), LARGE: part._replace(doubt=5.0)})
    assert [judge.doubt(size, ordered=False) for size in (1, 8, 15, 17, 64, 500)] == [10, 10, 10, 5, 5, 5]


def test_a_judge_is_restored_from_its_state():
    judge = Judge.learn(records())
    again = Judge.of_state(judge.state())
    ours, theirs = answers(64, 0.4, 5), answers(64, 0.6, 6)
    assert again.gain(ours, theirs, LOOK, ordered=False) == judge.gain(ours, theirs, LOOK, ordered=False)
    assert again.doubt(32, ordered=False) == judge.doubt(32, ordered=False)


def test_each_size_of_batches_has_a_regression_of_its_own():
    large, small = records(streams=1), [r._replace(kind=SMALL, won=-r.won) for r in records(streams=1)]
    judge = Judge.learn(large + small)
    ours, theirs = answers(512, 0.9, 1), answers(512, 0.55, 2)
    assert judge.gain(ours, theirs, LOOK, ordered=False) > 20
    assert judge.gain(ours[:8], theirs[:8], LOOK, ordered=False) <= 0, "of the small ones the opposite was learned"


def test_what_was_learned_where_classes_come_together_is_asked_there():
    apart, together = records(streams=1), [r._replace(kind=Kind(8, True), won=-r.won) for r in records(streams=1)]
    judge = Judge.learn(apart + together)
    ours, theirs = answers(512, 0.9, 1), answers(512, 0.55, 2)
    assert judge.gain(ours, theirs, LOOK, ordered=False) > 20
    assert judge.gain(ours, theirs, LOOK, ordered=True) < -20, "whatever the size"
