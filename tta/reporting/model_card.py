"""The report as a section of a Hugging Face model card: metadata for the hub, and a few lines to read."""

from __future__ import annotations

import json
from typing import Any

from tta.reporting.figures import label
from tta.reporting.markdown import inline, table
from tta.reporting.words import first_capital, number, short, terms, thousands, words


def render_model_card(content: dict[str, Any]) -> str:
    """A README.md with a `model-index` in its head; into an existing card go the head's entry and the section.

    Strings in the head are written as JSON, which YAML reads, so that no name can break out of its place.

    Args:
        content: Of the report.
    """
    model, data, told = content["model"], content["data"], content["robustness"]
    metric = "balanced error" if content["metric"] == "error_balanced" else "error"
    t = terms(content)
    suite = f"{data['name']}, {len(content['protocol']['corruptions'])} {t.shifts}"
    results = [
        (data["name"], f"{first_capital(t.clean)} {metric} (%)", told["clean"]["error"]),
        (suite, f"Mean {metric} {t.under} (%)", told["corrupted"]["error"]),
        (suite, "Expected calibration error (%)", content["confidence"]["shifted"]["ece"]),
    ]
    if content["mce"]["mce"] is not None:
        results.append((suite, f"mCE relative to {content['mce']['baseline']} (%)", content["mce"]["mce"]))
    head = ["---", "model-index:", f"- name: {_yaml(short(model['name']))}", "  results:"]
    for name, kind, value in results:
        head += [
            "  - task:", "      type: image-classification", "    dataset:", f"      name: {_yaml(name)}",
            f"      type: {_yaml(data['name'])}", "    metrics:", "    - type: error", f"      name: {_yaml(kind)}",
            f"      value: {round(value, 4)}",
        ]  # fmt: skip
    return "\n".join([*head, "---", "", *_section(content)]) + "\n"


def _yaml(text: object) -> str:
    return json.dumps(str(text))


def _section(content: dict[str, Any]) -> list[str]:
    told = content["robustness"]
    clean, shifted, name = told["clean"], told["corrupted"], terms(content).clean
    each = "domains" if terms(content).natural else "cells"
    rows = [
        (name, number(clean["error"]), f"{number(clean['low'])} to {number(clean['high'])}", thousands(clean["n"])),
        (
            f"mean over {shifted['cells']} {each}", number(shifted["error"]),
            f"{number(shifted['low'])} to {number(shifted['high'])}", thousands(shifted["n"]),
        ),
    ]  # fmt: skip
    rows += [
        (
            words(one["corruption"]),
            number(one["error"]),
            f"{number(one['low'])} to {number(one['high'])}",
            thousands(one["n"]),
        )
        for one in told["corruptions"]
    ]
    advice = [f"- {inline(one['text'])} ({inline(one['because'])})" for one in content["advice"]]
    return [
        "## Robustness",
        "",
        f"{label(content)} in % on {inline(content['data']['name'])}, measured with tta-harness"
        f" {content['provenance']['environments'][0]['tta']}, profile {content['protocol']['profile']}.",
        "",
        table(("images", label(content), "95 %", "n"), rows),
        "",
        *advice,
    ]
