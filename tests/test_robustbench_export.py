"""The files of RobustBench: its keys, its two lines of headings, and what is not claimed."""

import json

import pandas as pd
import pytest
from fakes import Oracle, Pictures, Worsening, domains

import corruptions
from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.registry import wrap
from tta.results import Results
from tta.streams import Domain, make_stream

#: Keys of an entry of RobustBench's leaderboard for corruptions.
KEYS = [
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture", "eps",
    "clean_acc", "reported", "corruptions_acc",
]  # fmt: skip


def complete(data="cifar10", right=8):
    """15 corruptions at 5 severities of ten pictures; of the contrast ones, `right` are answered rightly."""
    made = []
    for name in corruptions.suite("imagenet-c"):
        for severity in range(1, 6):
            one = Pictures(10, f"{data}/{name}-{severity}")
            if name == "contrast":
                one.labels = one.labels.clone()
                one.labels[right:] = (one.labels[right:] + 1) % 4
            made.append(Domain(name, severity, one))
    model = Oracle()
    model.name = "oracle"
    adapted = Worsening(model)
    adapted.good = len(made)
    parts = [evaluate(adapter, make_stream(made), probe=Pictures(4)) for adapter in (wrap(model, "source"), adapted)]
    return Results.merge(parts)


def test_entries_have_the_keys_of_the_leaderboard(tmp_path):
    *entries, _ = complete().to_robustbench(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in entries] == [
        "cifar10/corruptions/oracle_source.json",
        "cifar10/corruptions/oracle_worsening.json",
    ]
    source, adapted = (json.loads(file.read_text()) for file in entries)
    assert list(source) == [*KEYS, "footnote"]
    assert source["clean_acc"] == "100.00"
    assert source["corruptions_acc"] == f"{100 - 20 / 15:.2f}"
    assert (source["number_forward_passes"], source["architecture"], source["dataset"]) == (1, "oracle", "cifar10")
    assert source["footnote"] == "10 images each, 1 seed(s)."
    assert "the answers depend on the images that came before and in the same batch" in adapted["footnote"]


def test_accuracies_have_two_lines_of_headings(tmp_path):
    *_, file = complete().to_robustbench(tmp_path)
    table = pd.read_csv(file, header=[0, 1], index_col=0)  # as RobustBench reads it
    assert table.shape == (2, 75)
    assert list(table.index) == ["oracle_source", "oracle_worsening"]
    assert table.columns[0] == ("gaussian_noise", "1")
    assert (table.loc["oracle_source", "contrast"] == 0.8).all()
    assert table.loc["oracle_source"].mean() == pytest.approx(1 - 0.2 / 15)


def test_imagenet_has_its_mce(tmp_path):
    (entry, *_) = complete("imagenet").to_robustbench(tmp_path)
    info = json.loads(entry.read_text())
    assert info["corruptions_mce"] == f"{100 * 20 / 85.3204 / 15:.2f}"


def test_a_part_of_the_benchmark_has_no_mean(tmp_path):
    results = evaluate(wrap(Oracle(), "source"), make_stream([Domain("fog", 5, Pictures(6, "imagenet/fog-5"))]))
    entry, table = results.to_robustbench(tmp_path)
    info = json.loads(entry.read_text())
    assert (info["corruptions_acc"], info["corruptions_mce"], info["clean_acc"]) == (None, None, None)
    assert "1 pairs of corruption and severity instead of 15 x 5" in info["footnote"]
    assert table.read_text() == ",fog\n,5\nmodel_source,1.0\n"


def test_what_has_no_place_there(tmp_path):
    several = Results.merge([evaluate(wrap(Oracle(), "source"), make_stream(domains(5), batch_size=b)) for b in (2, 3)])
    with pytest.raises(TTAError, match="1 models, 1 data sets and 2 streams"):
        several.to_robustbench(tmp_path)
    clean = evaluate(wrap(Oracle(), "source"), make_stream([Domain("clean", 0, Pictures(5))]))
    with pytest.raises(TTAError, match="no errors of source under corruptions"):
        clean.to_robustbench(tmp_path)
