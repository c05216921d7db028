"""Harm: flips and windows against the source model, with known answers, and the rows of a benchmark."""

import numpy as np
import pytest
from fakes import Oracle, Pictures, Worsening, domains
from hypothesis import given, settings
from hypothesis import strategies as st

from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.harm import METRICS, add_harm, against_source
from tta.registry import wrap
from tta.results import Results
from tta.streams import Domain, make_stream


def records(wrong, **fields):
    n = len(wrong)
    found = {"prediction": np.array(wrong, int), "label": np.zeros(n, int), "index": np.arange(n)}
    return {**found, "domain": np.zeros(n, int), "confidence": np.ones(n), **fields}


def test_flips_are_counted_in_both_directions():
    found = against_source(records([0, 1, 1, 0, 1]), records([0, 0, 1, 1, 0]))
    assert (found.negative_flips, found.positive_flips) == (40, 20)  # images 1 and 4, image 3
    assert (found.harm, found.n) == (20, 5)


def test_windows_begin_at_every_image():
    # differences in points: 0 100 100 0 -100; in windows of two: 50 100 50 -50
    found = against_source(records([0, 1, 1, 1, 0]), records([0, 0, 0, 1, 1]), window=2, margin=60)
    assert (found.harm, found.start) == (100, 1)
    assert found.harm_mean == 50
    assert found.harm_rate == 25


def test_the_margin_is_to_be_exceeded():
    ours, theirs = records([1, 0, 0, 0]), records([0, 0, 0, 0])
    assert against_source(ours, theirs, margin=25).harm_rate == 0
    assert against_source(ours, theirs, margin=24.9).harm_rate == 100


def test_one_window_of_a_thousand_among_good_ones_is_found():
    wrong, source = np.zeros(10_000, int), np.ones(10_000, int)
    wrong[3000:4000], source[3000:4000] = 1, 0
    found = against_source(records(wrong), records(source))
    assert (found.harm, found.start) == (100, 3000)
    assert found.positive_flips - found.negative_flips == 80
    # windows of a thousand that are worse by more than a point: those that overlap by more than 505 images
    assert found.harm_rate == pytest.approx(100 * 989 / 9001)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.integers(1, 50))
def test_against_a_loop(answers, window):
    wrong, source = (np.array(column, int) for column in zip(*answers, strict=True))
    found = against_source(records(wrong), records(source), window=window, margin=10)
    size = min(window, len(wrong))
    each = [100 * (wrong[i : i + size].mean() - source[i : i + size].mean()) for i in range(len(wrong) - size + 1)]
    assert found.harm == pytest.approx(max(each), abs=1e-9)
    assert found.harm_mean == pytest.approx(sum(max(0, one) for one in each) / len(each), abs=1e-9)
    assert found.harm_rate == pytest.approx(100 * sum(one > 10 + 1e-9 for one in each) / len(each), abs=1e-6)
    assert found.positive_flips - found.negative_flips == pytest.approx(100 * (source.mean() - wrong.mean()))


def test_images_without_a_label_count_nowhere():
    ours = records([0, 1, 1], label=np.array([0, -1, 0]))
    found = against_source(ours, records([0, 0, 0], label=np.array([0, -1, 0])))
    assert (found.n, found.negative_flips) == (2, 50)
    with pytest.raises(TTAError, match="none of the images has a label"):
        against_source(records([0], label=np.array([-1])), records([0], label=np.array([-1])))


@pytest.mark.parametrize("field", ["index", "domain", "label"])
def test_other_images_are_refused(field):
    with pytest.raises(TTAError, match="not the same in the same order"):
        against_source(records([0, 0]), records([0, 0], **{field: np.array([1, 0])}))


def cells(*, seeds=(0,), sources=True, reset="never"):
    parts = []
    for seed in seeds:
        stream = make_stream(domains(10, 7), batch_size=4, seed=seed)
        makers = [lambda seed: wrap(Oracle(), "source", seed=seed)] if sources else []
        for make in (*makers, lambda seed: Worsening(Oracle(), seed=seed)):
            parts.append(evaluate(make(seed), stream, reset=reset, seed=seed))
    return Results.merge(parts)


def test_every_cell_gets_its_harm_once():
    results = add_harm(cells(seeds=(0, 1)))
    found = {(r.method, r.seed, r.metric): r.value for r in results.rows if r.metric in METRICS}
    assert set(found) == {("worsening", seed, metric) for seed in (0, 1) for metric in METRICS}
    assert found["worsening", 0, "negative_flips"] == pytest.approx(100 * 9 / 17)
    assert found["worsening", 0, "harm"] == pytest.approx(100 * 9 / 17)  # shorter than a window: the whole stream
    places = {r[:-2] for r in results.rows if r.position < 0 and r.metric == "error"}
    assert {r[:-2] for r in results.rows if r.metric in METRICS} <= places
    assert add_harm(results).rows == results.rows
    (worsening, *_) = [s for s in results.summary() if s.method == "worsening"]
    assert worsening.whole["harm"].seeds == 2


def test_without_the_source_cell_there_is_no_harm():
    assert not {r.metric for r in add_harm(cells(sources=False)).rows} & set(METRICS)


def test_the_source_cell_is_one_of_the_same_setting():
    mixed = Results.merge([cells(sources=False), cells(reset="domain")])
    found = [r for r in add_harm(mixed).rows if r.metric == "harm"]
    assert [r.reset for r in found] == ["domain"]


def test_rows_of_results_that_were_read_without_records_stay():
    results = add_harm(cells())
    assert add_harm(Results(results.rows, results.provenance)).rows == results.rows


def test_unscored_images_are_left_out_of_a_benchmark():
    stream = make_stream([Domain("fog", 5, Pictures(10)), Domain("odd", 0, Pictures(8), scored=False)], "mixed", 4)
    parts = [evaluate(adapter, stream) for adapter in (wrap(Oracle(), "source"), Worsening(Oracle()))]
    assert {r.n for r in add_harm(Results.merge(parts)).rows if r.metric == "harm"} == {10}
