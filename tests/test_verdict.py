"""The logic of verdicts, and the file that keeps them."""

import csv
import json
from dataclasses import replace

import pytest

from tta.errors import TTAError
from tta.ledger import read_ledger
from tta.verdict import Verdict, judge, keep

LEDGER = read_ledger()


def entry(name):
    (found,) = LEDGER.select([name])
    return found


@pytest.mark.parametrize(
    ("name", "measured", "expected"),
    [
        ("cifar10-c/bn", 20.4, "match"),
        ("cifar10-c/bn", 20.94, "match"),  # 20.9, as a paper would print it
        ("cifar10-c/bn", 20.95001, "deviation"),  # 21.0
        ("cifar10-c/bn", 19.9, "match"),
        ("cifar10-c/bn", 19.8, "deviation"),
        ("cifar10-c/bn", 90.0, "deviation"),
        ("cifar10-c/tent", 20.7, "match"),  # sources that agree within 2 points widen the tolerance to 0.7
        ("cifar10-c/tent", 20.8, "disputed"),  # 20.7 is another source's
        ("cifar10-c/tent", 21.3, "deviation"),
        ("cifar100-c/tent", 61.0, "match"),
        ("cifar100-c/tent", 33.0, "disputed"),  # 32.8 is another source's
        ("cifar100-c/tent", 47.0, "deviation"),  # between sources is nowhere
    ],
)
def test_verdicts(name, measured, expected):
    assert judge(entry(name), measured)[0] == expected


def test_sources_that_disagree_are_told_with_every_verdict():
    for measured in (62.2, 33.0, 47.0):
        remarks = judge(entry("cifar100-c/tent"), measured)[1]
        assert "29.4 points: 62.2 (BM), 60.9 (COT), 61.4 (RES), 32.8 (SUR)" in remarks[0]
    assert judge(entry("cifar100-c/tent"), 33.0)[1][1] == "agrees with 32.8 (SUR)"
    assert judge(entry("cifar10-c/tent"), 20.0) == ("match", [])


@pytest.mark.parametrize("measured", [20.4, 21.5])
def test_what_was_not_run_as_published_never_matches(measured):
    unlike = ["10 images per visit instead of 10,000", "the model is another"]
    assert judge(entry("cifar10-c/bn"), measured, unlike) == ("not the published protocol", unlike)


def measured(name, kind, value):
    return Verdict.of(
        entry(name), kind, ["a remark"], measured=value, difference=value - 20, spread=None, n=8, seeds=(1, 2),
        checkpoint="c" * 64, commit="abc", versions={"torch": "2.6"}, date="2026-01-01",
    )  # fmt: skip


def test_verdicts_are_kept_one_per_entry(tmp_path):
    out = tmp_path / "new" / "folder"
    keep([measured("cifar10-c/bn", "deviation", 25.0), measured("cifar10-c/eata", "match", 17.9)], out)
    keep([measured("cifar10-c/bn", "match", 20.4)], out)
    keep([Verdict.of(entry("cifar10-c/eata"), "missing", ["all"]), Verdict.of(entry("cifar10-c/sar"), "missing")], out)
    rows = json.loads((out / "reproduction.json").read_text())["verdicts"]
    assert [(row["id"], row["verdict"], row["measured"]) for row in rows] == [
        ("cifar10-c/bn", "match", 20.4), ("cifar10-c/eata", "match", 17.9), ("cifar10-c/sar", "missing", None),
    ]  # fmt: skip
    assert rows[1]["remarks"] == ["a remark", entry("cifar10-c/eata").note]
    assert rows[0].keys() >= {"published", "difference", "n", "seeds", "checkpoint", "commit", "versions", "date"}
    with (out / "reproduction.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["id"], row["seeds"], row["versions"]) for row in table][:1] == [("cifar10-c/bn", "1; 2", "torch 2.6")]


def test_another_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "reproduction.json").write_text('{"schema": 1, "verdicts": [{"id": "mine"}]}')
    with pytest.raises(TTAError, match=r"reproduction\.json holds no verdicts"):
        keep([replace(measured("cifar10-c/bn", "match", 20.4))], tmp_path)
    assert "mine" in (tmp_path / "reproduction.json").read_text()
