"""The stress matrix: differences from the source model on the same images, and what failed."""

import csv
import json
import math

import pytest
import torch
from fakes import Worsening, domains
from test_bench import network

import tta
from tta.bench import grid, run_cells
from tta.cli import main
from tta.registry import _registered
from tta.scenarios import Scenario
from tta.streams import make_stream
from tta.stress import Entry, caption, harm_rate, matrix, render, write_matrix


class Lab:
    """Two domains, whatever the scenario's size and arrangement."""

    probe = source_data = None

    def __init__(self):
        self.model = network()

    def stream(self, scenario, seed):
        return make_stream(domains(12, 8), scenario.order, scenario.batch_size, seed, arrangement=scenario.arrangement)


@pytest.fixture
def _breaking():
    class Breaking(Worsening):
        """Raises at its third batch."""

        def step(self, x):
            if self.memory["seen"] == 2:
                raise RuntimeError("no more")
            return super().step(x)

    tta.register("breaking")(Breaking)
    yield
    del _registered["breaking"]


@pytest.mark.usefixtures("_breaking")
def test_the_matrix_is_each_method_beside_the_source_on_the_same_images(tmp_path):
    scenarios = [Scenario.read(text, size) for text in ("continual", "mixed+sorted") for size in (4, 20)]
    cells = grid(["source", "bn", "breaking", "note"], scenarios, (0, 1))
    lab = Lab()
    torch.nn.init.normal_(lab.model[4].weight, generator=torch.Generator().manual_seed(3))
    results = run_cells(cells, lab, refused="record", out=tmp_path)
    entries = matrix(cells, results)
    assert len(entries) == 4 * 4
    for entry in entries:
        rows = [
            row for row in results.rows
            if (row.method, row.order, row.batch_size, row.metric, row.position)
            == (entry.method, entry.stream, entry.batch_size, "error", -1)
        ]  # fmt: skip
        if entry.method == "breaking" and entry.batch_size == 4:
            assert "no more" in entry.failed
            continue
        assert len(rows) == entry.seeds == 2
        assert entry.error == pytest.approx(sum(row.value for row in rows) / 2)
        assert entry.difference == pytest.approx(entry.error - entry.source_error)
        assert entry.n == 20
    assert all(entry.difference == 0 for entry in entries if entry.method == "source")
    write_matrix(entries, tmp_path)
    stored = json.loads((tmp_path / "stress.json").read_text())
    assert len(stored["entries"]) == 16
    with open(tmp_path / "stress.csv") as file:
        assert [row["method"] for row in csv.DictReader(file)] == [entry.method for entry in entries]
    assert (tmp_path / "stress.svg").read_text().startswith("<svg")
    assert "@font-face" not in (tmp_path / "stress.svg").read_text()
    assert "no more" in caption(entries)
    assert render(entries).row_count > 4


def test_harm_rate_counts_harm_and_failures():
    one = [Entry("tent", "a", 1, difference=d) for d in (-3.0, 0.5, 1.5, 30.0)]
    assert harm_rate(one) == 50
    assert harm_rate([*one, Entry("tent", "b", 1, failed="diverged")]) == 60
    assert harm_rate([Entry("tent", "b", 1, failed="diverged")]) == 100
    assert math.isnan(harm_rate([Entry("bn", "a", 1, failed="no batch norm", refused=True)]))


def test_the_command(tmp_path, capsys):
    arguments = ["stress", "--methods", "tent", "foa", "--streams", "continual", "continual+noise:0.2", "--batch-sizes",
                 "16", "--limit", "32", "--domains", "fog", "--out", str(tmp_path)]  # fmt: skip
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "noise:0.2" in shown
    assert "tent" in shown
    assert "harm rate" in shown
    assert "x foa puts prompts into a timm vision transformer" in shown
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert main(arguments) == 0
    assert capsys.readouterr().out == shown
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == kept
