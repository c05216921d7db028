"""A report of natural domains: folders DOMAIN/CLASS/IMAGE, one of which is the reference."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_report import PROFILE, problems

import tta
from corruptions import corrupt
from tta.cli import main
from tta.digits import digits
from tta.errors import TTAError
from tta.reporting.answers import unpack
from tta.reporting.call import Report
from tta.reporting.gather import gather
from tta.reporting.grid import Grid, Part, classes
from tta.reporting.lab import ReportLab
from tta.setup import Setup


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Digits as they are, noisy ones, and faded ones of which the last class is missing."""
    root, (x, y) = tmp_path_factory.mktemp("natural") / "pacs", digits("test")
    classes = [(y == number).nonzero()[:, 0].tolist() for number in range(10)]
    chosen = {
        "photo": [i for one in classes for i in one[:3]],
        "<b>old": [i for one in classes for i in one[3:5]],
        "sketch": [i for one in classes[:9] for i in one[5:6]] + classes[0][6:9],
    }
    look = {"photo": x, "<b>old": corrupt(x, "gaussian_noise", 5), "sketch": corrupt(x, "contrast", 5)}
    for name, kept in chosen.items():
        for i in kept:
            folder = root / name / f"digit {int(y[i])}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(look[name][i].permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def lab(root):
    torch.set_num_threads(1)
    return ReportLab(Setup(dataset=str(root), model="digits", device="cpu"), reference="photo")


@pytest.fixture(scope="module")
def measured(lab):
    return gather(lab, lab.shifts, PROFILE)


def test_every_domain_has_its_images_and_no_severity(measured, lab):
    told = measured.content
    assert problems(json.loads(json.dumps(told))) == []
    assert told["protocol"]["reference"] == "photo"
    assert told["protocol"]["severities"] == [0.0]
    assert told["robustness"]["clean"]["n"] == 30
    assert {one["corruption"]: one["n"] for one in told["robustness"]["grid"]} == {"<b>old": 20, "sketch": 12}
    assert told["robustness"]["corrupted"]["n"] == 32
    errors = [one["error"] for one in told["robustness"]["grid"]]
    assert told["robustness"]["corrupted"]["error"] == pytest.approx(sum(errors) / 2)  # a domain counts as another
    assert told["data"]["n"] == 62
    assert told["mce"]["mce"] is None
    assert [one["family"] for one in told["robustness"]["families"]] == ["natural"]


def test_the_numbers_are_those_of_the_model(measured, lab):
    net = tta.load_source("digits")
    for cell in measured.content["robustness"]["grid"]:
        data = lab.natural[cell["corruption"]]
        with torch.no_grad():
            answers = net(data.images(torch.arange(len(data))).float() / 255).argmax(1)
        assert cell["error"] == pytest.approx(100 * (answers != data.labels).double().mean().item())


def test_no_image_comes_back_so_intervals_are_those_of_single_images(measured):
    """Under corruptions an image is resampled with all that happened to it; here each stands for itself."""
    answers = measured.content["answers"]
    keys = ["<b>old@0", "sketch@0"]
    images = unpack(answers, keys)
    assert len(np.unique(images.records["index"])) == 32
    assert images.records["domain"].tolist() == [0] * 20 + [1] * 12
    for key, cell in zip(keys, measured.content["robustness"]["grid"], strict=True):
        one = unpack(answers, [key])
        wrong = one.records["prediction"] != one.records["label"]
        assert cell["error"] == pytest.approx(100 * wrong.mean())
    assert answers["parts"] == {"clean@0": [0, 30], "<b>old@0": [30, 50], "sketch@0": [50, 62]}


def test_a_class_of_one_image_has_no_interval(measured):
    records = next(iter(measured.grid.records.values()))
    part = Part("fog", 5.0, {field: array[:1] for field, array in records.items()})
    (found,) = classes(Grid(part, (part,), "error"), ["a"] * 10)
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])
    page = Report.of(measured).html()
    assert "one image has no interval" in page


def test_streams_are_made_of_the_other_domains(measured):
    told = measured.content
    assert told["protocol"]["stream_corruptions"] == ["<b>old", "sketch"]
    assert [one["domain"] for one in told["adaptation"]["over_time"]["boundaries"]] == ["<b>old", "sketch"]
    assert {entry["n"] for entry in told["adaptation"]["entries"]} == {32}


def test_the_temperature_is_measured_on_half_of_the_reference_and_on_all_others(measured):
    told = measured.content["confidence"]["temperature"]
    assert (told["fitted_on"], told["clean"]["n"], told["shifted"]["n"]) == (15, 15, 32)


def test_an_image_of_every_domain_of_a_class_that_all_have(measured):
    shown = measured.pictures
    assert [one["corruption"] for one in shown["cells"]] == ["clean", "<b>old", "sketch"]
    assert shown["label"] != "digit 9"


def test_the_page_leaves_out_what_does_not_apply(measured):
    report = Report.of(measured)
    page, text = report.html(), report.markdown()
    for form in (page, text, report.model_card()):
        assert "corrupted" not in form
        assert "under corruptions" not in form
        assert "<b>old" not in form
    assert "there is no severity, and mCE does not apply" in page
    assert 'id="figure-corruptions"' in page
    assert "(n = 12)" in page
    assert "| sketch |" in text
    assert "severity" not in text


def test_two_models_are_paired_image_by_image(measured):
    beside = Report.of(measured, [measured.content]).content["comparisons"][0]
    assert beside["paired"]
    lines = {line["what"]: line for line in beside["lines"]}
    assert {name: line["n"] for name, line in lines.items()} == {
        "clean": 30, "corrupted": 32, "<b>old": 20, "sketch": 12,
    }  # fmt: skip
    assert all(line["difference"] == line["low"] == line["high"] == 0 for line in lines.values())


def test_the_lab_goes_to_workers(lab):
    assert pickle.loads(pickle.dumps(lab)).reference == "photo"


def test_the_command(root, tmp_path, capsys):
    arguments = ["report", "digits", "--dataset", str(root), "--reference", "sketch", "--domains", "photo", "--out"]
    arguments += [str(tmp_path), "--format", "json", "--methods", "bn", "--streams", "mixed"]
    assert main(arguments) == 0
    assert "Error, sketch" in capsys.readouterr().out
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["protocol"]["corruptions"] == ["photo"]
    assert told["classes"][0]["images"] >= 0
    nine = next(one for one in told["classes"] if one["name"] == "digit 9")
    assert nine["clean_error"] is None  # the reference has no such image


@pytest.mark.parametrize(
    ("settings", "reference", "message"),
    [
        ({}, None, "say which of them counts as clean"),
        ({}, "painting", "no domain 'painting'"),
        ({"domains": ("photo",)}, "photo", "the only domain"),
        ({"dataset": "digits"}, "photo", "leave --reference out"),
    ],
)
def test_domains_that_do_not_fit_are_refused(root, settings, reference, message):
    setup = replace(Setup(dataset=str(root), model="digits"), **settings)
    with pytest.raises(TTAError, match=message):
        _ = ReportLab(setup, reference=reference).natural
