"""Bootstrap intervals: known spreads, clusters, strata, and that nothing else matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta.intervals import bootstrap, percentiles, resampled_means


def test_the_spread_of_a_share_is_that_of_the_binomial():
    wrong = np.r_[np.ones(200), np.zeros(800)]
    means = resampled_means(wrong, np.arange(1000), resamples=4000)
    assert means.mean() == pytest.approx(0.2, abs=0.001)
    assert means.std() == pytest.approx((0.2 * 0.8 / 1000) ** 0.5, rel=0.05)
    low, high = bootstrap(wrong, np.arange(1000))
    assert (low, high) == pytest.approx((0.2 - 1.96 * 0.01265, 0.2 + 1.96 * 0.01265), abs=0.003)


def test_answers_to_one_image_stay_together():
    values = np.random.default_rng(0).normal(size=300)
    one = resampled_means(values, np.arange(300)).std()
    # ten answers to each of the 300 images, all alike: no more is known than from one
    ten = resampled_means(np.tile(values, 10), np.tile(np.arange(300), 10)).std()
    assert ten == pytest.approx(one, rel=0.05)
    alone = resampled_means(np.tile(values, 10), np.arange(3000)).std()
    assert alone == pytest.approx(one / 10**0.5, rel=0.05)


def test_strata_keep_their_numbers():
    label = np.repeat([0, 1], [50, 150])
    # what differs between classes but not within them cannot move
    means = resampled_means(np.where(label == 0, 80.0, 20.0), np.arange(200), strata=label)
    assert means == pytest.approx(35)
    assert resampled_means(np.where(label == 0, 80.0, 20.0), np.arange(200)).std() > 1


def test_weights():
    values, weights = np.array([10.0, 20, 30]), np.array([0.5, 0.5, 0])
    means = resampled_means(values, np.arange(3), weights, strata=np.arange(3))
    assert means == pytest.approx(15)


def test_intervals_cover_what_they_promise():
    random = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        low, high = percentiles(resampled_means(random.random(100) < 0.3, np.arange(100), resamples=400, seed=trial))
        covered += low <= 0.3 <= high
    assert 0.9 <= covered / 200 <= 0.99


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 20)), min_size=1, max_size=60), st.randoms())
def test_the_order_of_the_answers_does_not_matter(answers, random):
    again = random.sample(answers, len(answers))
    first, second = (
        resampled_means(np.array([v for v, _ in some]), np.array([i for _, i in some]), resamples=50)
        for some in (answers, again)
    )
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_counting_is_drawing(monkeypatch):
    wrong = np.arange(300) % 3 == 0
    counted = resampled_means(wrong, np.arange(300), resamples=4000)
    monkeypatch.setattr("tta.intervals.FEW", 0)
    drawn = resampled_means(wrong, np.arange(300), resamples=4000)
    assert counted.std() == pytest.approx(drawn.std(), rel=0.05)
    assert np.quantile(counted, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(drawn, [0.1, 0.5, 0.9]), abs=0.005)


def test_drawing_in_parts_is_drawing(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    monkeypatch.setattr("tta.intervals.FEW", 0)
    whole = resampled_means(values, np.arange(50), resamples=30)
    monkeypatch.setattr("tta.intervals.CHUNK", 200)
    np.testing.assert_allclose(resampled_means(values, np.arange(50), resamples=30), whole)
    assert not np.allclose(resampled_means(values, np.arange(50), resamples=30, seed=1), whole)
