"""Results: the long table, its summary, its files."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
from fakes import Oracle, Pictures, domains

from tta import files
from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.records import FIELDS, load_records, save_records
from tta.registry import wrap
from tta.results import Results, Row
from tta.streams import make_stream


def row(method, seed, position, domain, value, metric="error", severity=5.0):
    whole = position < 0
    return Row(
        method, seed, "continual", 64, "never", position, "all" if whole else domain, severity, 100, metric, value
    )


def table():
    rows = [row("tent", s, p, d, 10.0 * p + s) for s in (0, 1, 2) for p, d in enumerate(("fog", "snow"))]
    rows += [row("tent", s, -1, "", 2.0 * s, "forgetting") for s in (0, 1, 2)]
    return Results([*rows, row("source", 0, 0, "fog", 30.0), row("source", 0, 1, "snow", 50.0)])


def test_summary_averages_over_domains_then_over_seeds():
    tent, source = table().summary()
    assert tent.mean == (6.0, 1.0, 7.0, 3)  # seeds: 5, 6, 7
    assert tent.domains == {"fog": 1.0, "snow": 11.0}
    assert tent.whole["forgetting"] == (2.0, 2.0, 4.0, 3)
    assert tent.n == 200
    assert source.mean.mean == 40
    assert math.isnan(source.mean.std)


def test_severities_of_one_domain_are_told_apart():
    results = Results([row("tent", 0, p, "fog", 1.0 * p, severity=1.0 + p % 2) for p in range(4)])
    assert results.summary()[0].domains == {"fog@1": 1.0, "fog@2": 2.0}


def test_summary_of_an_unknown_metric_names_the_known():
    with pytest.raises(TTAError, match="they have error"):
        table().summary("ece")


def test_compare():
    better = Results([r._replace(value=r.value - 1) for r in table().rows if r.method == "tent"])
    differences = table().compare(better)
    assert [(d.method, d.domain, d.difference) for d in differences] == [
        ("tent", "fog", -1.0),
        ("tent", "snow", -1.0),
        ("tent", "mean", -1.0),
    ]


def test_json_round_trip(tmp_path):
    results = evaluate(wrap(Oracle(), "source"), make_stream(domains(5, 4)), probe=Pictures(4))
    results.rows.append(row("source", 0, -1, "", math.nan, "peak_memory_mb", severity=None))
    results.to_json(tmp_path / "results.json")
    again = Results.from_json(tmp_path / "results.json")
    assert again.rows[:-1] == results.rows[:-1]
    assert math.isnan(again.rows[-1].value)
    assert again.provenance == results.provenance
    assert again.same_protocol(results)
    assert not again.same_protocol(evaluate(wrap(Oracle(), "source"), make_stream(domains(5, 4))))
    json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)  # strict: no NaN


def test_csv_and_data_frame_hold_the_rows(tmp_path):
    table().to_csv(tmp_path / "results.csv")
    with open(tmp_path / "results.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(table().rows)
    assert (read[0]["method"], float(read[1]["value"])) == ("tent", 10.0)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "results.csv"), table().to_frame(), check_dtype=False, check_exact=True
    )


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 99, "columns": [], "rows": [], "provenance": {}}', "{}"]
)
def test_a_file_without_results_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(TTAError, match=r"x\.json has layout 99|holds no results"):
        Results.from_json(tmp_path / "x.json")


def test_merge_keeps_every_part():
    stream = make_stream(domains(5))
    parts = [evaluate(wrap(Oracle(), "source", seed=seed), stream, name=f"c{seed}") for seed in (0, 1)]
    merged = Results.merge(parts)
    assert len(merged.rows) == sum(len(part.rows) for part in parts)
    assert [cell["cell"] for cell in merged.provenance["cells"]] == ["c0", "c1"]
    assert len(merged.provenance["protocols"]) == 1
    assert set(merged.records) == {"c0", "c1"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    files.write(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_records_round_trip_and_broken_records(tmp_path):
    arrays = {field: np.arange(5, dtype=dtype) for field, dtype in FIELDS.items()}
    save_records(tmp_path / "a.npz", arrays)
    again = load_records(tmp_path / "a.npz")
    assert all((again[field] == arrays[field]).all() and again[field].dtype == FIELDS[field] for field in FIELDS)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    np.savez(tmp_path / "c.npz", other=np.zeros(3))
    for name in ("b", "c"):
        with pytest.raises(TTAError, match="no per-image records"):
            load_records(tmp_path / f"{name}.npz")
