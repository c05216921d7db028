"""The numbers of a report: known answers, and independent ways to them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tta.errors import TTAError
from tta.record_metrics import calibration_error
from tta.reporting import answers
from tta.reporting.adaptation import _boundaries
from tta.reporting.confidence import bins, confidence, curve
from tta.reporting.gate import NAMES, Condition
from tta.reporting.grid import Grid, Part, classes, robustness
from tta.reporting.temperature import HIGHEST, LOWEST, Tempered, fit_temperature, halves


def part(corruption, severity, label, prediction):
    label = np.array(label, np.int32)
    n = len(label)
    return Part(
        corruption, severity,
        {
            "label": label, "prediction": np.array(prediction, np.int32), "index": np.arange(n, dtype=np.int32),
            "confidence": np.linspace(0.5, 1, n, dtype=np.float32), "domain": np.zeros(n, np.int16),
            "position": np.zeros(n, np.int32), "nll": np.ones(n, np.float32), "brier": np.ones(n, np.float32),
        },
    )  # fmt: skip


LABEL = [0, 0, 0, 1]
CLEAN = part("clean", 0.0, LABEL, LABEL)
FOG = part("fog", 3.0, LABEL, [0, 1, 1, 1])
SNOW = part("snow", 3.0, LABEL, [0, 0, 1, 0])
NOISE = part("gaussian_noise", 3.0, LABEL, [0, 0, 0, 1])


def test_errors_by_cell_corruption_and_family():
    told = robustness(Grid(CLEAN, (FOG, SNOW, NOISE), "error"))
    assert told["clean"]["error"] == 0
    assert [cell["error"] for cell in told["grid"]] == [50, 50, 0]
    assert told["corrupted"]["error"] == pytest.approx(100 / 3)
    assert {one["family"]: one["error"] for one in told["families"]} == {"weather": 50, "noise": 0}
    assert (told["corrupted"]["n"], told["corrupted"]["cells"]) == (12, 3)
    assert told["corrupted"]["low"] <= told["corrupted"]["error"] <= told["corrupted"]["high"]


def test_balanced_errors_count_every_class_the_same():
    told = robustness(Grid(CLEAN, (FOG, SNOW), "error_balanced"))
    # fog: 2/3 of class 0, none of class 1; snow: 1/3 of class 0, all of class 1
    assert [cell["error"] for cell in told["grid"]] == pytest.approx([100 / 3, 200 / 3])
    assert told["corrupted"]["error"] == pytest.approx(50)


def test_worst_class_first_with_what_it_is_taken_for():
    first, second = classes(Grid(CLEAN, (FOG, SNOW), "error"), ("zero",))
    assert (first["name"], first["error"], first["taken_for"], first["images"]) == ("zero", 50, "1", 3)
    assert (second["name"], second["error"], second["taken_for"], second["taken_share"]) == ("1", 50, "zero", 50)
    (calm, *_) = classes(Grid(CLEAN, (NOISE,), "error"), ())
    assert (calm["error"], calm["taken_for"], calm["taken_share"]) == (0, None, 0)


def test_bins_hold_the_calibration_error_and_the_curve_ends_at_the_error():
    random = np.random.default_rng(0)
    sure, wrong = random.uniform(0.2, 1, 500).astype(np.float32), random.uniform(size=500) < 0.3
    found = bins(sure, wrong)
    whole = sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in found) / 500
    assert whole == pytest.approx(calibration_error(sure, wrong))
    assert sum(one["n"] for one in found) == 500
    points = curve(sure, wrong)
    assert points[-1] == pytest.approx([100, 100 * wrong.mean()])
    order = np.argsort(-sure)
    coverage, risk = points[len(points) // 2]
    assert risk == pytest.approx(100 * wrong[order][: round(coverage * 5)].mean())
    assert curve(np.ones(4), np.array([True, False, False, False])) == [[100, 25]]


def test_the_temperature_is_found():
    torch.manual_seed(0)
    logits = 3 * torch.randn(4000, 6)
    labels = torch.distributions.Categorical(logits=logits).sample()
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.1)
    assert fit_temperature(2.5 * logits, labels) == pytest.approx(2.5 * fit_temperature(logits, labels), rel=2e-3)
    found = fit_temperature(2.5 * logits, labels)
    losses = [F.cross_entropy(2.5 * logits / t, labels) for t in (0.98 * found, found, 1.02 * found)]
    assert losses[1] < min(losses[0], losses[2])


def test_a_temperature_without_mistakes_stays_in_bounds():
    logits = F.one_hot(torch.arange(5)).float()
    assert fit_temperature(logits, torch.arange(5)) == pytest.approx(LOWEST, rel=0.01)
    assert fit_temperature(logits, (torch.arange(5) + 1) % 5) == pytest.approx(HIGHEST, rel=0.01)


def test_a_tempered_model_gives_the_same_answers_and_is_another_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    x = torch.rand(7, 3, 2, 2)
    tempered = Tempered(model, 2.0)
    assert torch.equal(tempered(x), model(x) / 2)
    assert tempered.sha256 != Tempered(model, 3.0).sha256
    one, other = halves(11)
    assert sorted([*one, *other]) == list(range(11))


def test_answers_survive_packing():
    grid = Grid(CLEAN, (FOG, SNOW), "error")
    packed = answers.pack(grid, "f", 0, False)
    images = answers.unpack(packed, ["fog@3", "snow@3"])
    assert (images.records["prediction"] != images.records["label"]).tolist() == [
        False, True, True, False, False, False, True, True,
    ]  # fmt: skip
    assert images.records["label"].tolist() == LABEL * 2


def test_a_report_beside_itself_is_the_same(content):
    (other,) = content["comparisons"]
    assert other["paired"]
    assert [line["what"] for line in other["lines"]] == ["clean", "corrupted", "gaussian_noise", "fog"]
    assert {(line["difference"], line["low"], line["high"]) for line in other["lines"]} == {(0, 0, 0)}


def test_differences_are_paired_only_on_the_same_images(measured):
    ours, theirs = measured.content, copy.deepcopy(measured.content)
    theirs["answers"]["wrong"]["fog@5"] = theirs["answers"]["wrong"]["clean@0"]
    worse = next(cell for cell in ours["robustness"]["grid"] if (cell["corruption"], cell["severity"]) == ("fog", 5))
    told = {line["what"]: line for line in answers.compare_reports(ours, theirs)["lines"]}
    expected = (ours["robustness"]["clean"]["error"] - worse["error"]) / 4
    assert told["corrupted"]["difference"] == pytest.approx(expected)
    assert told["corrupted"]["low"] <= expected <= told["corrupted"]["high"] <= 0
    theirs["answers"]["fingerprint"] = "other"
    apart = answers.compare_reports(ours, theirs)
    assert (apart["paired"], apart["note"]) == (False, "Not paired, so no intervals: other images")
    assert apart["lines"][1]["difference"] == pytest.approx(expected)
    assert np.isnan(apart["lines"][1]["low"])
    theirs["answers"]["wrong"] = {"snow@5": ""}
    with pytest.raises(TTAError, match="in common"):
        answers.compare_reports(ours, theirs)
    theirs["data"]["classes"] = 1000
    with pytest.raises(TTAError, match="give one on the same data"):
        answers.compare_reports(ours, theirs)


@pytest.mark.parametrize(
    ("text", "holds"),
    [("mean_error > 30", True), ("mean_error>=31", True), ("mean_error < 31", False), (" mean_error <= 31 % ", True)],
)
def test_conditions(text, holds):
    reason = Condition.read(text).reason({"mean_error": 31.0})
    assert (reason is not None) == holds
    assert reason is None or "it is 31.00" in reason


@pytest.mark.parametrize("text", ["", "mean_error", "mean_error > x", "mean_error > 1; import os", "30 < mean_error"])
def test_a_condition_that_cannot_be_read(text):
    with pytest.raises(TTAError, match="cannot be read"):
        Condition.read(text)


def test_a_condition_on_what_is_not_there(content):
    assert set(content["headline"]) == set(NAMES)
    with pytest.raises(TTAError, match="did you mean 'mean_error'"):
        Condition.read("mean_eror > 3")
    with pytest.raises(TTAError, match="no mce"):
        Condition.read("mce > 100").reason(content["headline"])


def test_numbers_agree_with_each_other(content):
    told, headline = content["robustness"], content["headline"]
    mean = np.mean([cell["error"] for cell in told["grid"]])
    assert told["corrupted"]["error"] == pytest.approx(mean)
    assert headline["mean_error"] == told["corrupted"]["error"]
    assert content["confidence"]["shifted"]["error"] == pytest.approx(mean)
    assert content["confidence"]["clean"]["error"] == told["clean"]["error"]
    by_class = sum(one["error"] * one["n"] for one in content["classes"]) / sum(one["n"] for one in content["classes"])
    assert by_class == pytest.approx(mean)
    entries = {(one["method"], one["stream"]): one for one in content["adaptation"]["entries"]}
    for stream in ("continual", "mixed"):
        source, bn = entries["source", stream], entries["bn", stream]
        assert bn["difference"] == pytest.approx(bn["error"] - source["error"])
        assert bn["difference"] == pytest.approx(bn["negative_flips"] - bn["positive_flips"])
        assert bn["low"] <= bn["difference"] <= bn["high"]
        assert source["error"] == pytest.approx(np.mean([c["error"] for c in told["grid"] if c["severity"] == 5]))


def test_the_line_over_time_is_the_error_of_its_windows(content):
    told = content["adaptation"]["over_time"]
    assert [line["method"] for line in told["lines"]] == ["source", "bn", "lame"]
    assert [one["domain"] for one in told["boundaries"]] == ["gaussian_noise", "fog"]
    assert [one["start"] for one in told["boundaries"]] == [0, 36]
    assert told["lines"][0]["points"][-1][0] == told["n"] == 72
    mixed = {"position": np.zeros(3, int), "domain": np.array([0, 1, 0])}
    assert _boundaries(mixed, ["a", "b"]) == [{"start": 0, "domain": ""}]


def test_confidence_of_perfect_answers():
    told = confidence(CLEAN.records)
    assert (told["error"], told["aurc"], told["n"]) == (0, 0, 4)
    assert told["confidence"] == pytest.approx(75)
