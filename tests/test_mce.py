"""Mean corruption errors: published values, denominators that cannot be divided by, and what is refused."""

import math

import pytest

from tta.errors import TTAError
from tta.mce import BASELINES, Baseline, clean_error, corruption_errors
from tta.results import Results, Row

#: Top-1 accuracy of torchvision's ResNet-50 (V1) on ImageNet-C and the corruption error, as published beside each
#: other for its weights (mCE 76.70, clean accuracy 76.13).
RESNET50 = {"brightness": (68.02, 56.64), "contrast": (39.06, 71.43), "defocus_blur": (38.75, 74.71)}


def table(errors, *, data="imagenet", severities=(1, 2, 3, 4, 5), metric="error", seeds=(0,), clean=None):
    """Results with these errors, the same at every severity."""
    rows = []
    for seed in seeds:
        place = ("tent", seed, "continual", 64, "never")
        visits = [(name, s) for name in errors for s in severities]
        rows += [Row(*place, i, name, s, 10, metric, errors[name] + 10 * seed) for i, (name, s) in enumerate(visits)]
        if clean is not None:
            rows.append(Row(*place, -1, "all", None, 10, "clean_error_before", clean))
    domains = [{"name": name, "data": f"{data}/{name}-{s}", "severity": s} for name in errors for s in severities]
    return Results(rows, {"protocols": {"x": {"domains": domains}}, "cells": []})


def test_the_baseline_has_an_mce_of_100():
    for name, baseline in BASELINES.items():
        results = table(baseline.errors, data=baseline.data, metric=baseline.metric)
        found = corruption_errors(results, "tent", name, clean=baseline.clean)
        assert found.mce == pytest.approx(100)
        assert found.relative_mce == pytest.approx(100)
        assert found.relative_pooled == pytest.approx(100)
        assert found.relative_as_published == pytest.approx(100)


@pytest.mark.parametrize("name", RESNET50)
def test_published_corruption_errors_of_resnet50(name):
    accuracy, ce = RESNET50[name]
    errors = {**BASELINES["alexnet"].errors, name: 100 - accuracy}
    assert corruption_errors(table(errors), "tent", "alexnet").ce[name] == pytest.approx(ce, abs=0.01)


def test_published_means_of_the_baselines():
    alexnet = BASELINES["alexnet"].errors
    assert len(alexnet) == 15
    assert 100 - sum(alexnet.values()) / 15 == pytest.approx(21.12, abs=0.05)  # of 5,000 images, in RobustBench
    # table of the MedMNIST-C baselines: clean error, mean error, corruptions
    for name, clean, mean, n in (
        ("bloodmnist", 1.8, 11.2, 11),
        ("dermamnist", 39.9, 61.5, 15),
        ("octmnist", 20.2, 36.9, 6),
    ):
        baseline = BASELINES[f"alexnet:{name}"]
        assert baseline.clean == pytest.approx(clean, abs=0.05)
        assert sum(baseline.errors.values()) / n == pytest.approx(mean, abs=0.05)
        assert len(baseline.errors) == n


def test_relative_errors_by_hand():
    baseline = Baseline("mine", "digits", "error", {"fog": 40.0, "snow": 20.0}, 10.0)
    found = corruption_errors(table({"fog": 20.0, "snow": 15.0}, data="digits", clean=5), "tent", baseline)
    assert found.ce == {"fog": 50, "snow": 75}
    assert found.mce == 62.5
    assert found.relative_ce == {"fog": 50, "snow": 100}  # 15 of 30, 10 of 10
    assert found.relative_mce == 75
    assert found.relative_pooled == 62.5  # 25 of 40
    assert found.left_out == {}


def test_denominators_that_are_negative_or_tiny_are_told_and_not_divided_by():
    errors = {"fog": 40.0, "contrast_up": 9.5, "gamma_up": 10.4, "still": 10.0}
    baseline = Baseline("mine", "digits", "error", errors, 10.0)
    own = {"fog": 25.0, "contrast_up": 30.0, "gamma_up": 30.0, "still": 10.0}
    found = corruption_errors(table(own, data="digits", clean=10), "tent", baseline)
    assert found.relative_ce == {"fog": 50}
    assert found.relative_mce == 50
    assert found.left_out == {"contrast_up": -0.5, "gamma_up": pytest.approx(0.4), "still": 0}
    assert found.relative_as_published == pytest.approx((50 - 4000 + 5000) / 3)  # what such a mean is worth
    assert found.relative_pooled == pytest.approx(100 * 55 / 29.9)


def test_the_five_denominators_of_medmnist_c_that_are_left_out():
    left_out = {}
    for name, baseline in BASELINES.items():
        results = table(baseline.errors, data=baseline.data, metric=baseline.metric)
        left_out[name] = set(corruption_errors(results, "tent", name, clean=0).left_out)
    assert {name: names for name, names in left_out.items() if names} == {
        "alexnet:chestmnist": {"contrast_up", "gamma_corr_up", "gamma_corr_down"},
        "alexnet:pneumoniamnist": {"contrast_up", "gamma_corr_up"},
    }


def test_a_baseline_without_errors_is_not_divided_by():
    baseline = Baseline("perfect", "", "error", {"fog": 0.0}, 0.0)
    found = corruption_errors(table({"fog": 5.0}, clean=0), "tent", baseline)
    assert math.isnan(found.mce)
    assert math.isnan(found.relative_mce)
    assert math.isnan(found.relative_pooled)
    assert math.isnan(found.relative_as_published)


def test_a_perfect_clean_model_is_no_problem():
    baseline = Baseline("mine", "", "error", {"fog": 40.0}, 10.0)
    assert corruption_errors(table({"fog": 30.0}, clean=0), "tent", baseline).relative_mce == 100
    assert math.isnan(corruption_errors(table({"fog": 30.0}), "tent", baseline).relative_mce)


def test_errors_are_averaged_over_seeds():
    baseline = Baseline("mine", "", "error", {"fog": 50.0}, 10.0)
    assert corruption_errors(table({"fog": 20.0}, seeds=(0, 1)), "tent", baseline).mce == 50


def test_a_clean_domain_comes_before_the_probe():
    results = table({"fog": 20.0}, clean=9)
    assert clean_error(results, "tent") == 9
    results.rows.append(Row("tent", 0, "continual", 64, "never", 9, "clean", 0.0, 10, "error", 7.0))
    assert clean_error(results, "tent") == 7
    assert math.isnan(clean_error(results, "tent", "error_balanced"))


def test_ones_own_baseline():
    mine = Baseline.of_results(table({"fog": 40.0, "snow": 20.0}, data="digits", clean=10), "tent")
    assert mine == Baseline("tent on digits", "digits", "error", {"fog": 40, "snow": 20}, 10)
    found = corruption_errors(table({"fog": 20.0, "snow": 20.0}, data="digits"), "tent", mine)
    assert (found.baseline, found.mce) == ("tent on digits", 75)
    few = table({"fog": 40.0}, severities=(3, 5))
    assert Baseline.of_results(few, "tent").severities == (3, 5)
    few.rows += table({"snow": 1.0}).rows
    with pytest.raises(TTAError, match="different severities"):
        Baseline.of_results(few, "tent")


def test_names_of_medmnist_c_corruptions_may_be_written_out():
    baseline = BASELINES["alexnet:octmnist"]
    long = {f"medmnist-c/octmnist/{name}": error for name, error in baseline.errors.items()}
    results = table(long, data="octmnist", metric="error_balanced")
    assert corruption_errors(results, "tent", "alexnet:octmnist").mce == pytest.approx(100)


@pytest.mark.parametrize(
    ("results", "baseline", "message"),
    [
        (table(BASELINES["alexnet"].errors), None, "relative to a baseline: name one"),
        (table(BASELINES["alexnet"].errors), "alexnt", "did you mean 'alexnet'"),
        (table({"fog": 1.0}), "alexnet", "has 15 corruptions; the results lack brightness, contrast"),
        (table({**BASELINES["alexnet"].errors, "spatter": 1.0}), "alexnet", "also have spatter"),
        (
            table(BASELINES["alexnet"].errors, severities=(5,)),
            "alexnet",
            "severities 1, 2, 3, 4, 5; the results of .* 5",
        ),
        (table(BASELINES["alexnet"].errors, data="cifar10"), "alexnet", "is of imagenet, the results are of cifar10"),
        (table(BASELINES["alexnet"].errors, data="CIFAR-10-C"), "alexnet", "the results are of CIFAR-10-C"),
        (table(BASELINES["alexnet:octmnist"].errors, data="octmnist"), "alexnet:octmnist", "no error_balanced of tent"),
    ],
)
def test_what_is_refused(results, baseline, message):
    with pytest.raises(TTAError, match=message):
        corruption_errors(results, "tent", baseline)


def test_folders_of_ones_own_are_not_judged_by_their_names():
    for name in ("ImageNet-C", "my-photos"):
        assert corruption_errors(table(BASELINES["alexnet"].errors, data=name), "tent", "alexnet").mce == pytest.approx(
            100
        )
    with pytest.raises(TTAError, match="unknown method 'tnt': did you mean 'tent'"):
        corruption_errors(table({"fog": 1.0}), "tnt", "alexnet")
