"""Metrics: known answers, torchmetrics as the reference, sums that add up."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from tta.errors import TTAError
from tta.metrics import ECE, METRICS, NLL, Brier, Error


def sample(n=500, classes=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    return logits, torch.randint(classes, (n,), generator=generator)


def value(metric, logits, y):
    one = metric()
    one.update(logits, y)
    return one.compute().item()


def test_known_answers():
    probs = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    y = torch.tensor([1, 1])
    assert value(Error, probs.log(), y) == 50
    assert value(NLL, probs.log(), y) == pytest.approx(-(math.log(0.3) + math.log(0.8)) / 2)
    # (0.25 + 0.49 + 0.04) and (0.01 + 0.04 + 0.01)
    assert value(Brier, probs.log(), y) == pytest.approx((0.78 + 0.06) / 2)
    # two bins: |0 - 0.5| / 2 + |1 - 0.8| / 2
    assert value(ECE, probs.log(), y) == pytest.approx(100 * (0.5 + 0.2) / 2)


def test_a_certain_and_right_model_has_no_error_of_any_kind():
    logits = 1000.0 * torch.eye(4)
    assert [value(metric, logits, torch.arange(4)) for metric in METRICS] == [0, 0, 0, 0]


def test_ece_bins_are_open_below_and_closed_above():
    # 2 / 3 = 10 / 15 lies in bin 10 with 0.65, not with 0.70: apart, their gaps would not cancel
    probs = torch.tensor([[2 / 3, 1 / 3], [0.65, 0.35]], dtype=torch.float64)
    assert value(ECE, probs.log(), torch.tensor([0, 1])) == pytest.approx(100 * abs(2 / 3 + 0.65 - 1) / 2, abs=1e-4)


@pytest.mark.parametrize("classes", [2, 7, 100])
def test_against_torchmetrics(classes):
    logits, y = sample(classes=classes)
    probs = logits.softmax(1)
    accuracy = multiclass_accuracy(probs, y, classes, average="micro").item()
    ece = multiclass_calibration_error(probs, y, classes, n_bins=15, norm="l1").item()
    assert value(Error, logits, y) == pytest.approx(100 * (1 - accuracy))
    assert value(ECE, logits, y) == pytest.approx(100 * ece, abs=1e-4)
    assert value(NLL, logits, y) == pytest.approx(torch.nn.functional.nll_loss(probs.log(), y).item(), rel=1e-5)
    one_hot = torch.nn.functional.one_hot(y, classes)
    assert value(Brier, logits, y) == pytest.approx((probs - one_hot).square().sum(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_batches_groups_and_merged_parts_add_up(metric):
    logits, y = sample()
    group = torch.arange(len(y)) % 3
    whole, first, second = metric(4), metric(4), metric(4)
    whole.update(logits, y, group)
    for start in range(0, 500, 33):
        part = slice(start, start + 33)
        (first if start < 200 else second).update(logits[part], y[part], group[part])
    first.merge(second)
    torch.testing.assert_close(first.compute(), whole.compute(), equal_nan=True)
    for g in range(3):
        assert whole.compute()[g].item() == pytest.approx(value(metric, logits[group == g], y[group == g]))
    assert whole.compute()[3].isnan()
    assert whole.n.tolist() == [167, 167, 166, 0]


@pytest.mark.parametrize("metric", METRICS)
def test_images_without_a_label_count_nowhere(metric):
    logits, y = sample()
    one = metric(2)
    one.update(torch.cat([logits, 1e4 * logits]), torch.cat([y, torch.full_like(y, -1)]), torch.arange(1000) % 2)
    assert one.n.tolist() == [250, 250]
    for g in range(2):
        assert one.compute()[g].item() == pytest.approx(value(metric, logits[g::2], y[g::2]))


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 40), st.sampled_from(METRICS))
def test_order_and_parts_do_not_matter(data, n, metric):
    logits, y = sample(n, seed=n)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=4))})
    parts = []
    for start, stop in pairwise(cuts):
        parts.append(metric())
        parts[-1].update(logits[order[start:stop]], y[order[start:stop]])
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].compute().item() == pytest.approx(value(metric, logits, y), abs=1e-5)


def test_merging_what_does_not_belong_together_is_refused():
    with pytest.raises(TTAError, match="cannot merge Error"):
        Brier().merge(Error())
    with pytest.raises(TTAError, match="same groups"):
        Error(2).merge(Error(3))


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_logits_are_measured_in_single_precision(metric):
    logits, y = sample()
    half = logits.bfloat16()
    assert value(metric, half, y) == pytest.approx(value(metric, half.float(), y))
