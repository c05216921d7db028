"""Comparing runs: paired where the images are the same and never otherwise, with intervals that say what they cover."""

import json

import numpy as np
import pytest
import tyro
from fakes import Oracle, Pictures, Worsening, domains

from tta import files
from tta.compare import compare
from tta.compare_command import Compare, caption, render
from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.output import read_output
from tta.pairing import Images, paired
from tta.records import save_records
from tta.registry import wrap
from tta.results import Results
from tta.streams import Domain, make_stream


def run(methods=("source", "worsening"), *, seeds=(0,), good=2, sizes=(30, 20), made=None, reset="never", **options):
    """A run of two methods; `worsening` is right for `good` batches."""
    parts = []
    for seed in seeds:
        stream = make_stream(made or domains(*sizes), seed=seed, **{"batch_size": 4, **options})
        for method in methods:
            adapter = wrap(Oracle(), "source") if method == "source" else Worsening(Oracle())
            adapter.good = good
            name = f"{method}-{seed}"
            parts.append(evaluate(adapter, stream, reset=reset, method=method, name=name, seed=seed))
    return Results.merge(parts)


def store(results, folder):
    """Results as `tta bench --out` keeps them: the table, and a file per cell with its records."""
    files.folder(folder / "cells", "cells")
    results.to_json(folder / "results.json")
    for entry in results.provenance["cells"]:
        about = {**results.provenance, "cells": [entry]}
        Results([], about).to_json(folder / "cells" / f"{entry['cell']}-0123.json")
        save_records(folder / "cells" / f"{entry['cell']}-0123.npz", results.records[entry["cell"]])
    return folder


def test_differences_of_the_same_images():
    source, worsening, overall = compare(run(), run(good=6))
    assert (source.first, source.difference, source.low, source.high) == ("source", 0, 0, 0)
    assert worsening.a == pytest.approx((100 * 22 / 30 + 100) / 2)
    assert worsening.b == pytest.approx((100 * 6 / 30 + 100) / 2)
    assert worsening.difference == pytest.approx(worsening.b - worsening.a)
    assert worsening.low < worsening.difference < worsening.high < 0
    assert (worsening.n, worsening.seeds, worsening.paired, worsening.note) == (50, (0,), True, "")
    assert np.isnan(worsening.spread)
    assert worsening.domains == {"d0@5": pytest.approx(-100 * 16 / 30), "d1@5": 0}
    assert overall.difference == pytest.approx(worsening.difference / 2)
    assert overall.low == pytest.approx(worsening.low / 2, rel=0.15)


def test_values_are_those_of_the_tables():
    first, second = run(seeds=(0, 1)), run(seeds=(0, 1), good=6)
    for metric in ("error", "error_balanced", "nll", "brier", "ece", "aurc"):
        line = compare(first, second, metric, [("worsening", "worsening")])[0]
        (mean,) = [s.mean for s in first.summary(metric) if s.method == "worsening"]
        assert line.a == pytest.approx(mean.mean)
        assert np.isnan(line.low) == (metric in ("ece", "aurc"))
        if not np.isnan(line.low):
            assert line.low <= line.difference <= line.high
        else:
            assert "no value per image" in line.note


def test_seeds_have_their_spread():
    (line,) = compare(run(["worsening"], seeds=(0, 1, 2)), run(["worsening"], seeds=(1, 2, 3), good=6))
    assert line.seeds == (1, 2)
    assert line.n == 100
    assert line.spread == 0
    assert line.note == "only the seeds that both have"


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ({"batch_size": 10}, "batch size 4 in A, 10 in B"),
        ({"reset": "domain"}, "reset never in A, domain in B"),
        ({"order": "mixed"}, "stream continual in A, mixed in B"),
        ({"arrangement": "sorted"}, "stream continual in A, continual+sorted in B"),
    ],
)
def test_the_same_images_are_paired_whatever_else_differs(other, note):
    (line,) = compare(run(["worsening"]), run(["worsening"], **other))
    assert line.paired
    assert line.note == note


def test_pairing_finds_every_image_again():
    first, second = run(["source"], order="recurring:2"), run(["source"], order="mixed", seeds=(0,))
    images = [Images.of(r.records["source-0"], *r.provenance["protocols"].values()) for r in (first, second)]
    assert paired(*images) is None  # twice as many
    shuffled = run(["source"], order="recurring:2", seeds=(7,))
    again = Images.of(shuffled.records["source-7"], *shuffled.provenance["protocols"].values())
    found = paired(images[0], again)
    for field in ("index", "label", "domain"):
        np.testing.assert_array_equal(found.records[field], images[0].records[field])


@pytest.mark.parametrize("other", [{"sizes": (30, 21)}, {"made": [Domain("d0", 5, Pictures(50, "others"))]}])
def test_other_images_are_not_paired(other):
    (line,) = compare(run(["worsening"]), run(["worsening"], **other))
    assert not line.paired
    assert line.note == "not on the same images: taken as two independent samples"
    assert line.low < line.difference < line.high


def test_runs_without_a_seed_in_common_are_not_paired():
    (line,) = compare(run(["worsening"], seeds=(0, 1)), run(["worsening"], seeds=(2,)))
    assert (line.paired, line.seeds, line.n) == (False, (0, 1, 2), 150)
    assert "no seed in common" in line.note


def test_the_interval_of_other_images_is_wider():
    first, second = run(["worsening"], good=3), run(["worsening"], good=5)
    same = compare(first, second)[0]
    second.provenance["protocols"] = {
        key: {**protocol, "domains": [{**one, "fingerprint": "other"} for one in protocol["domains"]]}
        for key, protocol in second.provenance["protocols"].items()
    }
    other = compare(first, second)[0]
    assert (same.paired, other.paired) == (True, False)
    assert other.high - other.low > 1.1 * (same.high - same.low)
    assert other.difference == same.difference


def test_other_labels_of_the_same_images_are_refused():
    first, second = run(["source"]), run(["source"])
    second.records["source-0"]["label"] = second.records["source-0"]["label"] + 1
    with pytest.raises(TTAError, match="same images with other labels"):
        compare(first, second)


def test_images_without_a_label_are_left_out():
    options = {"made": [Domain("fog", 5, Pictures(30)), Domain("odd", 0, Pictures(9), scored=False)], "order": "mixed"}
    (line,) = compare(run(["worsening"], **options), run(["worsening"], good=4, **options))
    assert (line.n, line.paired) == (30, True)


def test_methods_are_paired_by_name():
    first = run()
    (line,) = compare(first, first, methods=[("source", "worsening")])
    assert (line.first, line.second, line.a) == ("source", "worsening", 0)
    with pytest.raises(TTAError, match="unknown method in the second run 'tent'"):
        compare(first, first, methods=[("source", "tent")])
    with pytest.raises(TTAError, match="no method in common"):
        compare(run(["source"]), run(["worsening"]))
    with pytest.raises(TTAError, match="no metric 'eror'"):
        compare(first, first, "eror")


def test_several_settings_are_compared_one_by_one():
    both = Results.merge([run(["worsening"]), run(["worsening"], reset="domain")])
    lines = compare(both, both)
    assert [line.place.rpartition(" ")[2] for line in lines] == ["never", "domain", ""]
    with pytest.raises(TTAError, match="were not run on streams of one name"):
        compare(both, run(["worsening"], reset="batch"))


def test_a_table_alone_gives_means_and_says_so():
    first, second = run(), run(good=6)
    second.records = {}
    line = compare(first, second)[1]
    assert np.isnan(line.low)
    assert not line.paired
    assert "no records" in line.note
    assert line.difference == compare(first, run(good=6))[1].difference


def test_output_folders_are_read_with_the_records_that_belong_to_them(tmp_path):
    results = run()
    store(results, tmp_path)
    old = Results([], {"cells": [{**results.provenance["cells"][0], "date": "1999"}], "protocols": {}})
    old.to_json(tmp_path / "cells" / "source-0-9999.json")  # an earlier cell of the same name
    save_records(tmp_path / "cells" / "source-0-9999.npz", run(sizes=(5,)).records["source-0"])
    for path in (tmp_path, tmp_path / "results.json"):
        again = read_output(path)
        assert again.rows == results.rows
        assert {name: len(one["label"]) for name, one in again.records.items()} == {"source-0": 50, "worsening-0": 50}
    with pytest.raises(TTAError, match="give the output folder of `tta bench --out`"):
        read_output(tmp_path / "nothing")


def command(*args):
    return tyro.cli(Compare, args=[str(arg) for arg in args])


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    a, b = store(run(seeds=(0, 1)), tmp_path / "a"), store(run(seeds=(0, 1), good=6), tmp_path / "b")
    assert command(a, b, "--out", tmp_path / "d.json").run() == 0
    out = capsys.readouterr().out
    assert all(len(line) <= 120 for line in out.splitlines() if "─" in line or "worsening" in line)
    assert "the same" in out
    assert "2,000 resamples of the images" in out
    content = json.loads((tmp_path / "d.json").read_text(), parse_constant=pytest.fail)
    assert [line["first"] for line in content["lines"]] == ["source", "worsening", "overall"]
    assert content["lines"][2]["spread"] is None
    assert command(a, a, "--methods", "source=worsening", "--metric", "ece").run() == 0
    out = capsys.readouterr().out
    assert "source = worsening" in out
    assert "resamples" not in out


@pytest.mark.parametrize(
    ("options", "message"), [(["--methods", "a="], "a pair like tent=cotta"), (["--resamples", "5"], "at least 100")]
)
def test_what_the_command_refuses(tmp_path, options, message):
    store(run(), tmp_path)
    with pytest.raises(TTAError, match=message):
        command(tmp_path, tmp_path, *options).run()


def test_remarks_are_made_once():
    lines = compare(run(), run(batch_size=10))
    told = caption(lines, "error", 2000).splitlines()
    assert told[1:] == ["source, worsening: batch size 4 in A, 10 in B."]
    assert render(lines, "error").row_count == 3
