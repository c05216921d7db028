"""A report is resumed, called from Python, and asked for on the command line."""

import json

import pytest
import torch
from small_report import NAMES, small_report

import tta
from tta.cell_job import Watch
from tta.cli import main
from tta.data.arrays import ArrayImages
from tta.digits import digits
from tta.errors import TTAError
from tta.reporting.call import suite_for
from tta.reporting.profiles import PROFILES

TIMES = ("seconds", "milliseconds_per_image")


class Stops(Watch):
    """Interrupts after so many cells."""

    def __init__(self, after):
        self.after, self.stored, self.fresh = after, 0, 0

    def end(self, cell, results, *, stored):
        self.stored += stored
        self.fresh += not stored
        if self.fresh == self.after:
            raise KeyboardInterrupt


def untimed(value):
    """Without what was measured with a clock."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in TIMES and k != "provenance"}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def test_an_interrupted_report_resumes(tmp_path, content):
    with pytest.raises(KeyboardInterrupt):
        small_report(tmp_path, Stops(5))
    second = Stops(None)
    resumed = small_report(tmp_path, second)
    assert (second.stored, second.fresh) == (5, 7)  # 3 rows twice, 3 methods on 2 streams
    assert untimed(resumed.content | {"comparisons": []}) == untimed(content | {"comparisons": []})


def test_from_python_with_arrays_of_medical_kind():
    x, y = digits("test")
    data = ArrayImages("pneumoniamnist", x[:16].numpy(), (y[:16] > 2).long().numpy(), note="two classes")
    data.balanced = True
    model = tta.load_source("digits")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = tta.report(
        model, data, corruptions=suite_for("pneumoniamnist")[:2], methods=["lame"], streams=["continual"]
    )
    told = found.content
    assert told["metric"] == "error_balanced"
    assert all(name.startswith("medmnist-c/pneumoniamnist/") for name in told["protocol"]["corruptions"])
    assert "Balanced error" in found.markdown()
    assert told["mce"]["mce"] is None
    assert "severities" in told["mce"]["note"] or "corruptions" in told["mce"]["note"]
    assert found._repr_html_().startswith("<iframe srcdoc=")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_too_little(tmp_path):
    model, data = tta.load_source("digits"), tta.load_data("digits", limit=8)
    with pytest.raises(TTAError, match="at least 2"):
        tta.report(model, data, limit=1)
    with pytest.raises(TTAError, match="did you mean 'quick'"):
        tta.report(model, data, profile="quik")
    with pytest.raises(TTAError, match="source_data"):
        tta.report(model, data, streams=["continual+poison_nhe:0.2"])


def test_the_suite_of_the_data():
    assert suite_for("digits") == suite_for("cifar10")
    assert len(suite_for("digits")) == 15
    assert all("bloodmnist" in name for name in suite_for("bloodmnist"))


def test_profiles_grow():
    quick, standard, full = PROFILES.values()
    assert len(quick.methods) < len(standard.methods) < len(full.methods)
    assert len(quick.streams) < len(standard.streams) < len(full.streams)
    assert quick.limit < standard.limit


QUICK = ["report", "--domains", *NAMES, "--limit", "12", "--methods", "bn", "--streams", "continual"]


def test_the_command(tmp_path, capsys):
    out = tmp_path / "report"
    arguments = [*QUICK, "--out", str(out), "--format", "md", "json"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "digits on digits" in shown.out
    assert (out / "report.md").exists()
    assert not (out / "report.html").exists()
    told = json.loads((out / "report.json").read_text())
    assert told["data"]["n"] == 12
    assert told["protocol"]["profile"] == "quick"
    # the same again, from its cells: beside itself, and with conditions
    arguments += ["--compare", str(out), "--fail-if"]
    assert main([*arguments, "mean_error > 0", "clean_error > 99"]) == 3
    shown = capsys.readouterr()
    assert f"tta: --fail-if mean_error > 0: it is {told['headline']['mean_error']:.2f}" in shown.err
    assert "clean_error" not in shown.err
    assert json.loads((out / "report.json").read_text())["comparisons"][0]["paired"]
    assert main([*arguments, "mean_error > 99"]) == 0


def test_what_cannot_be_compared_is_refused_before_anything_is_measured(report, tmp_path, monkeypatch, capsys):
    report.write(tmp_path, ["json"])
    monkeypatch.setattr("tta.reporting.gather.gather", None)
    assert main([*QUICK, "--domains", "snow", "--compare", str(tmp_path)]) == 2
    assert "in common" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_says_what_is_kept(kept, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tta.reporting.gather.run_grid", interrupted)
    assert main([*QUICK, *(["--out", str(tmp_path)] if kept else [])]) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert ("the same command again runs the rest" in line) == kept
    assert ("nothing was kept" in line) != kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--profile fast", "unknown profile"),
        ("--format pdf", "unknown format"),
        ("--fail-if mean_eror>3", "did you mean 'mean_error'"),
        ("--compare {}/missing.json", "not there"),
        ("--methods cota", "did you mean 'cotta'"),
        ("--streams contnual", "did you mean 'continual'"),
        ("--suite imagenet-c --domains fog", "give one"),
        ("--suite imagenet-d", "unknown suite"),
        ("--limit 1", "at least 2"),
        ("digits --model digits", "given twice"),
        ("--dataset {}/domains", "natural domains"),
    ],
)
def test_wrong_input_is_one_line(arguments, message, tmp_path, capsys):
    from PIL import Image

    for domain in ("day", "night"):
        for name in ("cat", "dog"):
            (tmp_path / "domains" / domain / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "domains" / domain / name / "0.png")
    assert main(["report", *arguments.format(tmp_path).split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert message in line
