"""Bets and confidence sequences keep their promises in simulation."""

import math

import numpy as np
import pytest
import torch

import tta
from tta.guard.alarms import Concentration, EntropyShift, Flips, estimated_error
from tta.guard.audit import Audit, ConfidenceSequence
from tta.guard.check import Look, Reference
from tta.guard.evidence import Bets, ConformalBins


def test_capital_of_a_single_bet_is_known():
    bets = Bets([1.0], alpha=0.01, jump=0.0)
    assert not bets.bet([0.5, 0.5])
    assert sum(bets.capital) == pytest.approx(0.5 + 0.5 * 1.5**2)
    assert bets.bet([0.9] * 20)


def test_p_values_are_uniform_under_exchangeability_whatever_the_reference():
    random = np.random.default_rng(0)
    values = []
    for _ in range(40):  # small references: an estimated distribution function would be far off
        bins = ConformalBins.of(random.normal(size=40).tolist(), bins=8)
        values.append([bins.p_value(v, u) for v, u in zip(random.normal(size=100), random.random(100), strict=True)])
    values = np.array(values)
    histogram = np.histogram(values, 10, (0, 1))[0] / values.size
    assert abs(histogram - 0.1).max() < 0.02
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.05


def logits(n, scale, random, classes=5):
    return torch.tensor(random.normal(size=(n, classes)) * scale, dtype=torch.float32)


def test_entropy_alarm_is_rare_without_a_shift_and_sure_with_one():
    random, alarms = np.random.default_rng(1), 0
    for trial in range(60):
        check = EntropyShift(alpha=0.1, seed=trial)
        check.begin(Reference(torch.nn.Identity(), logits=logits(100, 3, random)))
        alarms += any(check.object(look(source=logits(50, 3, random))) for _ in range(10))
    assert alarms <= 6 + 3 * math.sqrt(60 * 0.1 * 0.9)
    check = EntropyShift(alpha=0.001)
    check.begin(Reference(torch.nn.Identity(), logits=logits(200, 3, random)))
    for _ in range(4):
        assert check.object(look(source=logits(50, 3, random))) is None
    assert sum(check.object(look(source=logits(50, 1, random))) is not None for _ in range(10)) == 1  # said once


def look(source, ours=None):
    return Look(None, source if ours is None else ours, source)


def one_hot(classes, k=4):
    return torch.nn.functional.one_hot(torch.as_tensor(classes), k).float()


def test_concentration_tells_collapse_from_label_shift():
    random = np.random.default_rng(2)
    skewed, collapsing = Concentration(), Concentration()
    said = None
    for _ in range(30):
        theirs = random.choice(4, 64, p=[0.85, 0.05, 0.05, 0.05])
        ours = np.where(random.random(64) < 0.1, random.integers(4, size=64), theirs)
        assert skewed.object(look(one_hot(theirs), one_hot(ours))) is None, "both see the skew"
        balanced = random.integers(4, size=64)
        mine = np.where(random.random(64) < 0.3, 2, balanced)
        said = said or collapsing.object(look(one_hot(balanced), one_hot(mine)))
    assert "class 2" in said
    collapsing.restart()
    assert sum(collapsing.memory["capital"]) == pytest.approx(1)


def test_flip_alarm_keeps_its_rate_at_the_tolerated_share():
    random, alarms = np.random.default_rng(3), 0
    for _ in range(100):
        check = Flips(tolerated=0.5, alpha=0.1)
        for _ in range(5):
            flips = random.random(64) < 0.5
            alarms += check.object(look(one_hot(np.zeros(64, int)), one_hot(flips.astype(int)))) is not None
            if sum(check.memory["capital"]) >= 10:
                break
    assert alarms <= 10 + 3 * math.sqrt(100 * 0.1 * 0.9)
    check = Flips(tolerated=0.5)
    assert any(check.object(look(one_hot([0] * 64), one_hot([1] * 64))) for _ in range(3))


def test_estimated_error_by_hand():
    answers = one_hot([0, 1, 2, 3]) * 50
    assert estimated_error(answers, answers[None].repeat(3, 1, 1)) == 0
    views = one_hot([[0, 1, 2, 3], [1, 0, 3, 2]]) * 50  # half of the answers change; the mean prediction is even
    assert estimated_error(answers, views) == pytest.approx(0.5)
    assert estimated_error(answers, one_hot([[0] * 4]) * 50) == pytest.approx(0.75)  # concentrated: at most 1 - 1/K


@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_confidence_sequence_covers_at_all_times(mean):
    random, missed = np.random.default_rng(4), 0
    for _ in range(80):
        sequence = ConfidenceSequence(alpha=0.1)
        p = np.array([0.2, 0.8 - 0.2 - mean, 0.2 + mean]) / 0.8
        p = np.array([0.1, 0.8 - mean, 0.1 + mean])
        for number, value in enumerate(random.choice([-1.0, 0.0, 1.0], 150, p=p)):
            sequence.add(float(value))
            if number % 10 == 9:
                interval = sequence.interval()
                if not interval.low <= mean <= interval.high:
                    missed += 1
                    break
    assert missed <= 8 + 3 * math.sqrt(80 * 0.1 * 0.9)


def test_confidence_sequence_covers_a_mean_that_changes():
    random, missed = np.random.default_rng(5), 0
    for _ in range(60):
        sequence, total = ConfidenceSequence(alpha=0.1), 0.0
        for number in range(150):
            mean = -0.3 if number < 70 else 0.4
            total += mean
            sequence.add(float(random.random() < abs(mean)) * (1 if mean > 0 else -1))
        interval = sequence.interval()
        missed += not interval.low <= total / 150 <= interval.high
    assert missed <= 6 + 3 * math.sqrt(60 * 0.1 * 0.9)


def test_confidence_sequence_gets_narrow_where_models_mostly_agree():
    few, many = ConfidenceSequence(), ConfidenceSequence()
    for number in range(1000):
        many.add(float(number % 50 == 0))
        if number < 100:
            few.add(float(number % 50 == 0))
    assert many.interval().high - many.interval().low < 0.06
    assert few.interval().high > many.interval().high
    with pytest.raises(tta.TTAError, match="between -1 and 1"):
        few.add(2.0)


def test_audit_counts_an_image_once_and_forgets_old_ones():
    audit = Audit(latest=3)
    ids = list(audit.number(5))
    audit.note(ids, [0, 0, 0, 0, 0], [1, 1, 1, 1, 1])
    assert audit.take([0, 1], [1, 1]).n == 0, "the two oldest of five were forgotten"
    assert audit.take([2, 2, 3], [1, 1, 0]).n == 2
    assert audit.interval().mean == 0
    again = Audit(latest=3)
    again.set_state(audit.state())
    assert again.take([4], [1]) == audit.take([4], [1])
