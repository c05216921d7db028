"""Metrics from the records: known answers, naive loops, scikit-learn and torchmetrics as independent references."""

import warnings

import numpy as np
import pytest
import torch
from fakes import Oracle, Worsening, domains
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from tta.evaluation import evaluate
from tta.metrics import ECE
from tta.record_metrics import calibration_error, of_domains, stream_values
from tta.records import FIELDS, Records
from tta.registry import wrap
from tta.risk_coverage import coverage_at_risk, risk_coverage_area
from tta.streams import Batch, make_stream
from tta.tails import balanced_error, class_errors, window_means, worst_class, worst_window

answers = st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30)


def columns(answers):
    confidence, wrong, label = (np.array(column) for column in zip(*answers, strict=True))
    return confidence / 6, wrong, label


def records(logits, y, domain=None, position=0):
    n = len(y)
    domain = torch.zeros(n, dtype=torch.int64) if domain is None else domain
    kept = Records()
    for start in range(0, n, 64):
        part = slice(start, start + 64)
        kept.add(logits[part], Batch(None, y[part], torch.arange(n)[part], domain[part], position))
    return kept.arrays()


def sample(n=500, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    return logits, torch.randint(classes, (n,), generator=generator)


# risk and coverage


def test_area_of_a_small_case_by_hand():
    # the risks at coverage 1/4 ... 4/4 are 0, 1/2, 1/3, 2/4
    confidence, wrong = np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, True, False, True])
    assert risk_coverage_area(confidence, wrong) == pytest.approx(100 * (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert coverage_at_risk(confidence, wrong, 5) == 25
    assert coverage_at_risk(confidence, wrong, 100 / 3) == 75
    assert coverage_at_risk(confidence, wrong, 50) == 100


def test_extremes():
    n = np.arange(100)
    assert risk_coverage_area(n, np.zeros(100, bool)) == 0
    assert risk_coverage_area(n, np.ones(100, bool)) == 100
    assert coverage_at_risk(n, np.zeros(100, bool)) == 100
    assert coverage_at_risk(n, np.ones(100, bool)) == 0
    assert risk_coverage_area(np.ones(100), n < 30) == pytest.approx(30)  # a confidence that says nothing
    assert np.isnan(risk_coverage_area(np.empty(0), np.empty(0, bool)))
    assert np.isnan(coverage_at_risk(np.empty(0), np.empty(0, bool)))


def test_a_threshold_cannot_part_equal_confidences():
    confidence, wrong = np.array([0.9, 0.5, 0.5, 0.5]), np.array([False, False, False, True])
    assert coverage_at_risk(confidence, wrong, 5) == 25
    assert coverage_at_risk(confidence, wrong, 25) == 100


@settings(deadline=None)
@given(answers)
def test_area_is_the_mean_over_all_orders_of_tied_images(answers):
    confidence, wrong, _ = columns(answers)
    levels = sorted(set(confidence), reverse=True)
    total, answered, errors = 0.0, 0, 0.0
    for level in levels:
        group = wrong[confidence == level]
        for k in range(1, len(group) + 1):
            total += (errors + k * group.mean()) / (answered + k)
        answered, errors = answered + len(group), errors + group.sum()
    assert risk_coverage_area(confidence, wrong) == pytest.approx(100 * total / len(wrong), abs=1e-9)


@settings(deadline=None)
@given(answers, st.floats(0, 100))
def test_coverage_against_a_loop(answers, risk):
    confidence, wrong, _ = columns(answers)
    reached = [0.0]
    for threshold in set(confidence):
        chosen = confidence >= threshold
        if 100 * wrong[chosen].sum() <= risk * chosen.sum():
            reached.append(100 * chosen.mean())
    assert coverage_at_risk(confidence, wrong, risk) == pytest.approx(max(reached))


@settings(deadline=None)
@given(answers, st.randoms())
def test_the_order_of_the_images_does_not_matter(answers, random):
    first, second = columns(answers), columns(random.sample(answers, len(answers)))
    assert risk_coverage_area(*first[:2]) == pytest.approx(risk_coverage_area(*second[:2]), abs=1e-9)
    assert coverage_at_risk(*first[:2]) == coverage_at_risk(*second[:2])
    assert balanced_error(*first[1:]) == pytest.approx(balanced_error(*second[1:]))
    assert worst_class(*first[1:]) == worst_class(*second[1:])


# tails


@settings(deadline=None)
@given(answers)
def test_balanced_error_against_scikit_learn(answers):
    _, wrong, label = columns(answers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn: predictions of classes that no label has
        accuracy = balanced_accuracy_score(label, np.where(wrong, label + 10, label))
    assert balanced_error(wrong, label) == pytest.approx(100 * (1 - accuracy))


def test_the_worst_class_is_the_lowest_of_equals():
    wrong, label = np.array([1, 0, 1, 1, 0], bool), np.array([0, 0, 2, 5, 5])
    errors, counts = class_errors(wrong, label)
    np.testing.assert_array_equal(errors, [50, np.nan, 100, np.nan, np.nan, 50])
    assert counts.tolist() == [2, 0, 1, 0, 0, 2]
    assert worst_class(wrong, label) == (2, 100, 1)
    assert worst_class(~wrong & False, label) == (0, 0, 2)


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 40))
def test_windows_against_a_loop(values, size):
    width = min(size, len(values))
    each = [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
    assert window_means(np.array(values, float), size) == pytest.approx(each, abs=1e-9)


def test_the_worst_window_is_found_wherever_it_begins():
    wrong = np.zeros(5000, bool)
    wrong[1234:2234] = True
    wrong[4000:4500] = True
    assert worst_window(wrong) == (100, 1234, 1000)
    assert worst_window(wrong[:1300]) == (6.6, 300, 1000)
    assert worst_window(np.array([True, False])) == (50, 0, 2)  # shorter than a window: the whole stream


# the whole stream


def test_values_of_a_stream_against_other_libraries():
    logits, y = sample()
    found = stream_values(records(logits, y))
    probs, prediction = logits.softmax(1), logits.argmax(1)
    assert found["error"] == pytest.approx(100 * (prediction != y).double().mean().item())
    assert found["error_low"] < found["error"] < found["error_high"]
    assert found["error_balanced"] == pytest.approx(100 * (1 - balanced_accuracy_score(y, prediction)))
    assert found["nll"] == pytest.approx(log_loss(y, logits.double().softmax(1), labels=range(5)), rel=1e-5)
    ece = multiclass_calibration_error(probs, y, 5, n_bins=15, norm="l1").item()
    assert found["ece"] == pytest.approx(100 * ece, abs=1e-4)
    one_hot = torch.nn.functional.one_hot(y, 5)
    assert found["brier"] == pytest.approx((probs - one_hot).square().sum(1).mean().item(), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_calibration_bins_are_those_of_the_metric(seed):
    logits, y = sample(60, 3, seed)
    logits = (logits.softmax(1) * 15).round().clamp(min=1e-6).log()  # many confidences on the edge of a bin
    metric, kept = ECE(), records(logits, y)
    metric.update(logits, y)
    assert calibration_error(kept["confidence"], kept["prediction"] != kept["label"]) == pytest.approx(
        metric.compute().item(), abs=1e-6
    )


def test_images_without_a_label_count_nowhere():
    logits, y = sample()
    extra, _ = sample(seed=1)
    mixed = torch.cat([logits, extra]), torch.cat([y, torch.full_like(y, -1)])
    kept = records(*mixed)
    assert (kept["nll"][500:] == 0).all()
    found, alone = stream_values(kept), stream_values(records(logits, y))
    assert found == pytest.approx(alone)
    assert [n for _, n, _ in of_domains(kept)] == [500]
    assert stream_values(records(extra, torch.full_like(y, -1))) == {}


def test_every_domain_of_a_visit_is_told():
    logits, y = sample()
    domain = torch.arange(500) % 3
    told = {number: (n, values) for number, n, values in of_domains(records(logits, y, domain))}
    assert {number: n for number, (n, _) in told.items()} == {0: 167, 1: 167, 2: 166}
    for number, (_, values) in told.items():
        alone = stream_values(records(logits[domain == number], y[domain == number]))
        assert values == pytest.approx({name: alone[name] for name in ("error_balanced", "aurc")})


def test_records_hold_nll_and_brier_of_every_image():
    logits, y = sample(200)
    kept = records(logits, y)
    assert {field: array.dtype for field, array in kept.items()} == FIELDS
    np.testing.assert_allclose(kept["nll"], torch.nn.functional.cross_entropy(logits, y, reduction="none"), rtol=1e-6)
    distance = (logits.softmax(1) - torch.nn.functional.one_hot(y, 5)).square().sum(1)
    np.testing.assert_allclose(kept["brier"], distance, rtol=1e-5, atol=1e-6)


def test_the_rows_of_an_evaluation():
    results = evaluate(Worsening(Oracle()), make_stream(domains(10, 7), batch_size=4))
    whole = {r.metric: (r.value, r.n) for r in results.rows if r.position < 0}
    assert whole["error"] == (pytest.approx(100 * 9 / 17), 17)
    assert whole["worst_window"] == whole["error"]
    assert whole["worst_window_start"][0] == 0
    records = results.records["worsening-0"]
    number = whole["worst_class_number"][0]
    missed = (records["prediction"] != records["label"])[records["label"] == number]
    assert whole["worst_class"][0] == 100 * missed.mean() > whole["error_balanced"][0]
    assert whole["coverage_at_5_risk"][0] == 0  # the same confidence in all answers
    assert whole["aurc"][0] == pytest.approx(whole["error"][0])
    visits = {(r.position, r.metric): r.value for r in results.rows if r.position >= 0}
    assert visits[1, "error_balanced"] == visits[1, "aurc"] == 100
    certain = evaluate(wrap(Oracle(), "source"), make_stream(domains(1)))  # one image
    assert {r.metric: r.value for r in certain.rows}["worst_class"] == 0
