"""Benchmarks: cells are kept, reused and never mixed up; the table says what it shows."""

import io
import json
import signal

import pytest
import torch
from fakes import Oracle, domains
from rich.console import Console
from torch import nn

import tta
from tta import bench, cell_job
from tta.bench import benchmark, check_model
from tta.cells import Cell, weights_hash
from tta.errors import TTAError
from tta.evaluation import evaluate
from tta.results import Results
from tta.streams import make_stream
from tta.table import LiveTable, abbreviate, caption, render

TIMED = {"seconds_p50", "seconds_p95", "seconds_total", "seconds_images", "peak_memory_mb"}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def stream(seed):
    return make_stream(domains(10, 7), batch_size=4, seed=seed)


def measured(results):
    return [row for row in results.rows if row.metric not in TIMED]


class Counted:
    """`evaluate`, counting its calls and stopping with Ctrl-C at one of them."""

    def __init__(self, monkeypatch, interrupt_at=None):
        self.calls, self.interrupt_at = [], interrupt_at
        monkeypatch.setattr(cell_job, "evaluate", self)

    def __call__(self, *args, **kwargs):
        self.calls.append(kwargs["name"])
        if len(self.calls) == self.interrupt_at:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)


def test_cells_are_methods_times_seeds():
    results = benchmark(["source", "tent"], stream, network(), seeds=(0, 1))
    assert [(c["method"], c["seed"]) for c in results.provenance["cells"]] == [
        ("source", 0),
        ("tent", 0),
        ("source", 1),
        ("tent", 1),
    ]
    assert len(results.provenance["protocols"]) == 2  # a stream per seed
    assert [s.mean.seeds for s in results.summary()] == [2, 2]


def test_an_interrupted_run_continues_and_gives_the_same_numbers(tmp_path, monkeypatch):
    whole = benchmark(["source", "bn", "tent"], stream, network(), seeds=(0, 1))
    stopped = Counted(monkeypatch, interrupt_at=4)
    with pytest.raises(KeyboardInterrupt):
        benchmark(["source", "bn", "tent"], stream, network(), seeds=(0, 1), out=tmp_path)
    assert len(stopped.calls) == 4
    assert len(Results.from_json(tmp_path / "results.json").provenance["cells"]) == 3
    again = Counted(monkeypatch)
    resumed = benchmark(["source", "bn", "tent"], stream, network(), seeds=(0, 1), out=tmp_path)
    assert again.calls == ["source-1", "bn-1", "tent-1"]
    assert measured(resumed) == measured(whole)
    assert measured(Results.from_json(tmp_path / "results.json")) == measured(whole)
    assert set(resumed.records) == set(whole.records)
    for cell, arrays in whole.records.items():
        assert all((resumed.records[cell][field] == array).all() for field, array in arrays.items())
    assert len((tmp_path / "results.csv").read_text().splitlines()) == len(resumed.rows) + 1


def test_a_cell_is_run_again_if_anything_that_determines_it_changed(tmp_path, monkeypatch):
    def calls(methods=("tent",), make=stream, model=None, **options):
        counted = Counted(monkeypatch)
        benchmark(methods, make, model or network(), out=tmp_path, **options)
        return len(counted.calls)

    other = network()
    with torch.no_grad():
        other[0].bias[0] += 1e-6
    assert calls() == 1
    assert calls() == 0
    assert calls(("tent:imagenet",)) == 1
    assert calls(make=lambda seed: make_stream(domains(10, 7), batch_size=5, seed=seed)) == 1
    assert calls(reset="domain") == 1
    assert calls(model=other) == 1
    assert calls(probe=domains(6)[0].data) == 1
    assert calls(seeds=(1,)) == 1
    assert calls(fresh=True) == 1
    assert calls(seeds=(0, 1)) == 0


def test_a_broken_cell_is_told(tmp_path):
    benchmark(["source"], stream, network(), out=tmp_path)
    (cell,) = (tmp_path / "cells").glob("*.json")
    cell.write_text("{")
    with pytest.raises(TTAError, match="holds no results"):
        benchmark(["source"], stream, network(), out=tmp_path)


def test_a_method_that_diverges_is_a_result_and_not_the_end(tmp_path, monkeypatch):
    def diverging(adapter, *args, **kwargs):
        if kwargs["method"] == "bn":
            adapter.model[1].weight.fill_(float("nan"))
        return evaluate(adapter, *args, **kwargs)

    monkeypatch.setattr(cell_job, "evaluate", torch.no_grad()(diverging))
    out = Console(file=io.StringIO(), width=200)
    watch = LiveTable(out, Console(file=io.StringIO()))
    with watch:
        results = benchmark(["source", "bn", "tent"], stream, network(), out=tmp_path, watch=watch)
    assert results.methods() == ["source", "tent"]
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [("failed" in cell) for cell in stored["provenance"]["cells"]] == [False, True, False]
    assert "not finite" in stored["provenance"]["cells"][1]["failed"]
    assert [str(cell) for cell in watch.failures] == ["bn-0"]
    assert "failed" in out.file.getvalue()
    assert len(list((tmp_path / "cells").glob("*.json"))) == 3
    again = Counted(monkeypatch)
    kept = benchmark(["source", "bn", "tent"], stream, network(), out=tmp_path)
    assert not again.calls  # a method that diverges does so again
    assert json.loads((tmp_path / "results.json").read_text()) == stored
    assert kept.rows == results.rows


@pytest.mark.parametrize(
    ("methods", "seeds", "message"),
    [
        (["tnt"], (0,), "did you mean 'tent'"),
        (["tent:imagnet"], (0,), "did you mean 'imagenet'"),
        (["tent", "tent"], (0,), "is given twice"),
        (["tent"], (1, 1), "is given twice"),
        ([], (0,), "there is no method"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_runs(methods, seeds, message, monkeypatch):
    counted = Counted(monkeypatch)
    with pytest.raises(TTAError, match=message):
        benchmark(["source", *methods] if methods else [], stream, network(), seeds=seeds)
    assert not counted.calls


def test_a_method_that_needs_norm_layers_is_refused_before_anything_runs(monkeypatch):
    counted = Counted(monkeypatch)
    with pytest.raises(TTAError, match="tent adapts the scale and shift"):
        benchmark(["source", "tent"], stream, Oracle())
    assert not counted.calls


class Shaped(nn.Module):
    """Returns what it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: torch.zeros(len(x)), r"shape \(B, K\) with K >= 2; .* returned shape \(1,\)"),
        (lambda x: {"logits": x}, "returned dict"),
        (lambda x: torch.zeros(len(x), 1), r"returned shape \(1, 1\)"),
        (lambda x: torch.zeros(len(x), 3), "labels of pictures0 run from 0 to 3, but the model has 3 classes"),
        (lambda x: nn.functional.conv2d(x, torch.zeros(4, 1, 3, 3)), r"cannot take images of shape \(3, 4, 4\)"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_told(answer, message):
    with pytest.raises(TTAError, match=message):
        check_model(Shaped(answer), stream(0))


def test_checking_leaves_the_model_in_its_mode():
    model = network()
    model[1].eval()
    check_model(model, stream(0))
    assert [module.training for module in model] == [True, False, True, True, True]
    assert model[1].num_batches_tracked == 0


def test_weights_hash_is_of_the_values():
    assert weights_hash(network()) == weights_hash(network())
    half = network().half()
    assert weights_hash(half) != weights_hash(network())


def test_ctrl_c_while_a_cell_is_kept_waits_until_it_is_counted(tmp_path, monkeypatch):
    class Impatient(bench.Store):
        def save(self, *arguments):
            super().save(*arguments)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(bench, "Store", Impatient)
    usual = signal.getsignal(signal.SIGINT)
    watch = LiveTable(Console(file=io.StringIO(), width=200), Console(file=io.StringIO()))
    with pytest.raises(KeyboardInterrupt):
        benchmark(["source", "tent"], stream, network(), out=tmp_path, watch=watch)
    assert watch.finished == len(list((tmp_path / "cells").glob("*.json"))) == 1
    assert Results.from_json(tmp_path / "results.json").methods() == ["source"]
    assert signal.getsignal(signal.SIGINT) == usual


def test_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(TTAError, match="is a file, or lies below one"):
            benchmark(["source"], stream, network(), out=out)


def text(table, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_table_and_caption_say_what_was_measured():
    results = benchmark(["source", "bn"], stream, network(), seeds=(0, 1), probe=domains(6)[0].data)
    shown = text(render(results, plain=True))
    first = results.summary()[0]
    (line,) = [line for line in shown.splitlines() if line.startswith("|source")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == [
        "source",
        f"{first.domains['d0']:.1f}",
        f"{first.domains['d1']:.1f}",
        f"{first.mean.mean:.1f} ±{first.mean.std:.1f}",
    ]
    assert cells[4] == f"{first.mean.highest:.1f}"
    assert cells[-1] == "1.0"
    told = caption(results)
    for part in ("Error in %", "severity 5", "n = 7-10 images", "continual", "batch size 4", "reset: never", "2 seeds"):
        assert part in told


def test_headings_are_short_and_distinct():
    names = ["gaussian_noise", "gaussian_blur", "fog", "jpeg_compression"]
    assert abbreviate(names) == ["gaus.n", "gaus.b", "fog", "jpeg"]


def test_live_table_on_a_terminal():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveTable(console, console) as watch:
        benchmark(["source"], stream, network(), watch=watch)
    assert "d0" in console.file.getvalue()
    assert "source" in console.file.getvalue()
    assert watch.finished == watch.cells == 1


def test_methods_that_mirror_images_are_told_where_they_must_not():
    model = tta.load_source("digits")
    for mirrors in (True, False):
        assert Cell("cotta", 0).adapter(model, None, mirrors).config.flip is mirrors
    assert not tta.load_data("digits", limit=20).mirrors
    assert Cell("tent", 0).adapter(model, None, False).config.steps == 1
