"""The forms of a report: schema, page, Markdown, model card, terminal."""

import copy
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from rich.console import Console
from small_report import EVIL, SCHEMA, problems

import tta
from tta.errors import TTAError
from tta.reporting import figures
from tta.reporting.answers import compare_reports
from tta.reporting.call import FORMS, Report, read_report
from tta.reporting.gather import finished, strict
from tta.reporting.html import _heat_style
from tta.reporting.terminal import summary


def test_json_keeps_its_schema(report):
    assert problems(json.loads(report.json())) == []
    assert SCHEMA["properties"]["schema"] == {"const": report.content["schema"]}


@pytest.mark.parametrize("change", ["missing", "extra", "type", "version"])
def test_the_schema_sees_what_is_wrong(content, change):
    broken = copy.deepcopy(content)
    if change == "missing":
        del broken["robustness"]["grid"][0]["ece"]
    elif change == "extra":
        broken["headline"]["new"] = 1.0
    elif change == "type":
        broken["headline"]["mean_error"] = "31 %"
    else:
        broken["schema"] = 3
    assert problems(broken)


class Page(HTMLParser):
    """What a parser finds: elements, and the text outside of scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.quiet = [], "", 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.quiet += tag in ("script", "style")

    def handle_endtag(self, tag):
        self.quiet -= tag in ("script", "style")

    def handle_data(self, data):
        self.text += "" if self.quiet else data


@pytest.fixture(scope="module")
def html(report):
    return report.html()


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_names_stay_text(html, page):
    assert EVIL in page.text
    assert "</svg>" in page.text
    assert EVIL not in html
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert html.count("</script>") == 1


def test_the_page_asks_nobody_for_anything(html, page):
    for _tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), attributes
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(html) < 3_000_000


def test_every_chart_is_there_and_says_its_n(page, content):
    charts = figures.pictures(content)
    assert list(charts) == ["corruptions", "reliability", "risk_coverage", "over_time", "pareto"]
    ids = {attributes.get("id") for _, attributes in page.elements}
    for name, chart in charts.items():
        assert f"figure-{name}" in ids
        assert re.search(r"n = \d", chart.caption)
        assert not re.search("#0000(a[0-9]|01|02)", chart.svg)  # the placeholders are colours of the page
    assert len([one for one in ids if one]) == len([a["id"] for _, a in page.elements if "id" in a])


def test_the_page_shows_the_numbers(page, content):
    told = content["robustness"]
    for one in (told["clean"], told["corrupted"], *told["corruptions"]):
        assert f"{one['error']:.1f}" in page.text
    heat = [a for t, a in page.elements if t == "td" and "data-example" in a]
    assert len(heat) == len(told["grid"])
    assert [float(a["data-value"]) for a in heat] == [cell["error"] for cell in told["grid"]]
    for advice in content["advice"]:
        assert page.text.count(advice["text"]) == 1 + (advice["level"] == "act"), "what to act on stands at the top too"


def test_where_there_is_nothing_to_act_on_the_page_says_so(report):
    calm = [one | {"level": "know"} for one in report.content["advice"]]
    text = Page(Report({**report.content, "advice": calm}, {"cells": []}, report.grid).html()).text
    assert "Nothing to act on" in text
    assert "To act on" not in text


def test_ink_is_legible_on_every_colour():
    for error in range(101):
        colour, ink = re.fullmatch(r"background:rgb\((.*)\);color:(.*)", _heat_style(error)).groups()
        channels = np.array([int(v) for v in colour.split(",")]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        light = linear @ [0.2126, 0.7152, 0.0722] + 0.05
        contrast = light / 0.05 if ink == "#000" else 1.05 / light
        assert contrast >= 4.5, error


def test_markdown_tables_keep_their_columns(report):
    text = report.markdown()
    assert EVIL not in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block
    for heading in ("How robust", "Where does it break", "confidence", "adaptation", "What should I do", "made"):
        assert re.search(rf"^## .*{heading}", text, re.MULTILINE)
    assert f"{report.content['robustness']['corrupted']['error']:.1f}" in text


def test_the_model_card_has_a_model_index(report):
    _, head, body = report.model_card().split("---\n", 2)
    (entry,) = yaml.safe_load(head)["model-index"]
    assert entry["name"] == EVIL
    values = [one["metrics"][0]["value"] for one in entry["results"]]
    told = report.content["robustness"]
    assert values[:2] == pytest.approx([told["clean"]["error"], told["corrupted"]["error"]], abs=1e-3)
    assert "## Robustness" in body
    assert EVIL not in body


def test_the_summary_fits_on_a_screen(content):
    shown = io.StringIO()
    Console(file=shown, width=100).print(summary(content))
    assert len(shown.getvalue().splitlines()) <= 40
    assert f"{content['headline']['mean_error']:.1f} %" in shown.getvalue()


def test_all_forms_are_written_and_read_back(report, tmp_path):
    written = report.write(tmp_path / "new", [*FORMS, "robustbench"])
    assert [path.name for path in written[:4]] == ["report.html", "report.md", "report.json", "model_card.md"]
    assert all(path.stat().st_size for path in written)
    assert read_report(tmp_path / "new") == report.content
    info = json.loads(next(path for path in written if path.parent.name == "corruptions").read_text())
    assert float(info["clean_acc"]) == pytest.approx(100 - report.content["headline"]["clean_error"], abs=0.01)
    (tmp_path / "other.json").write_text("{}")
    for path, message in (("other.json", "no report"), ("missing.json", "not there")):
        with pytest.raises(TTAError, match=message):
            read_report(tmp_path / path)


def test_without_the_extra_it_says_which(report, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TTAError, match=r"tta-harness\[report\]"):
        report.html()
    assert report.markdown()


def test_methods_that_refuse_are_told(content):
    changed = copy.deepcopy(content)
    for one in changed["adaptation"]["entries"]:
        if one["method"] == "bn":
            one.update(dict.fromkeys(("error", "difference", "low", "high", "ece", "seconds"), None), n=0)
            one.update(failed="bn needs batch norm <b>", refused=True)
    bn = next(one for one in changed["adaptation"]["methods"] if one["method"] == "bn")
    numbers = ("error", "difference", "worst", "harm_rate", "forward_equivalents", "milliseconds_per_image")
    bn.update(dict.fromkeys(numbers, None), ran=0, reason="bn needs batch norm")
    report = Report(strict(finished(changed)), {"cells": []}, tta.Results())
    assert problems(report.content) == []
    assert "bn needs batch norm &lt;b&gt;" in report.html()
    assert "bn needs batch norm" in report.markdown()
    Console(file=io.StringIO()).print(summary(report.content))


def test_other_models_stand_in_a_table(content, report):
    other = copy.deepcopy(content)
    other["model"]["name"] = "<i>other</i>"
    both = Report({**content, "comparisons": [strict(compare_reports(content, other))]}, report.pictures, report.grid)
    assert "&lt;i&gt;other&lt;/i&gt;" in both.html()
    assert "<i>other" not in both.markdown()
    assert problems(both.content) == []
