"""The table: what stands in it, what it leaves out, and that it fits the terminal."""

import io

import pytest
from fakes import Oracle, Worsening, domains
from rich.console import Console

from tta.cells import Cell
from tta.evaluation import evaluate
from tta.harm import add_harm
from tta.registry import wrap
from tta.results import Results
from tta.streams import make_stream
from tta.table import LiveTable, caption, render


def cells(*methods, seeds=(0,), sizes=(10, 7)):
    """Results of every cell, source or worsening."""
    found = {}
    for seed in seeds:
        stream = make_stream(domains(*sizes), batch_size=4, seed=seed)
        for method in methods:
            adapter = wrap(Oracle(), "source") if method == "source" else Worsening(Oracle())
            adapter.good = 2 + seed
            name = f"{method}-{seed}"
            found[Cell(method, seed)] = evaluate(adapter, stream, method=method, name=name, seed=seed)
    return found


def shown(results, **options):
    """The cells of the Markdown table by method and heading."""
    console = Console(file=io.StringIO(), width=300)
    console.print(render(results, plain=True, **options))
    lines = [line.strip().strip("|").split("|") for line in console.file.getvalue().splitlines() if line.strip()]
    (_, *headings), _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {row[0]: dict(zip(headings, row[1:], strict=True)) for row in rows}


def test_harm_and_calibration_stand_beside_the_error():
    table = shown(add_harm(Results.merge(cells("source", "worsening").values())))
    assert list(table["worsening"]) == ["d0", "d1", "mean", "+harm", "ECE", "forget", "ms", "F"]
    assert table["source"]["+harm"] == "-"
    assert table["worsening"]["+harm"] == f"{100 * 9 / 17:+.1f}"
    assert table["worsening"]["mean"] == "60.0"
    ece = Results.merge(cells("worsening").values()).summary("ece")[0].mean.mean
    assert table["worsening"]["ECE"] == f"{ece:.1f}"


def test_columns_that_have_nothing_to_say_are_left_out():
    table = shown(Results.merge(cells("worsening").values()))
    assert "+harm" not in table["worsening"]
    assert "worst" not in table["worsening"]
    assert "+harm" not in caption(Results.merge(cells("worsening").values()))


def test_several_seeds_show_spread_and_the_worst():
    results = add_harm(Results.merge(cells("source", "worsening", seeds=(0, 1)).values()))
    table = shown(results)["worsening"]
    first = next(s for s in results.summary() if s.method == "worsening")
    assert table["mean"] == f"{first.mean.mean:.1f} ±{first.mean.std:.1f}"
    assert table["worst"] == "60.0"
    assert table["+harm"] == f"{100 * 9 / 17:+.1f}"  # of the worse seed
    assert "over 2 seeds, and the worst" in caption(results)
    assert "shorter than a window of 1,000), worst seed" in caption(results)


def test_a_long_stream_has_windows():
    results = add_harm(Results.merge(cells("source", "worsening", sizes=(1004,)).values()))
    assert "in the worst window of 1,000." in caption(results)


def test_failed_methods_are_shown():
    table = shown(Results.merge(cells("source").values()), failed=["tent", "source"])
    assert table["tent"] == {heading: "failed" if heading == "mean" else "-" for heading in table["source"]}


@pytest.mark.parametrize(("width", "tables"), [(80, 1), (60, 2), (40, 1)])
def test_what_is_too_wide_is_shown_in_two_parts_or_without_domains(width, tables):
    results = add_harm(Results.merge(cells("source", sizes=[4] * 10).values()))
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    console.print(LiveTable(console, console).table(results))
    lines = console.file.getvalue()
    assert lines.count("method") == tables
    assert ("d9" in lines) == (width > 40)
    assert "mean" in lines


def test_harm_appears_as_soon_as_both_cells_are_there():
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    live = LiveTable(console, Console(file=io.StringIO()))
    found = cells("worsening", "source")
    live.begin(dict.fromkeys(found, 3))
    for i, (cell, results) in enumerate(found.items()):
        live.end(cell, results, stored=False)
        assert any(row.metric == "harm" for row in live.results.rows) == (i == 1)
