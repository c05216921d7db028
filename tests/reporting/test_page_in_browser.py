"""The page in a headless Chromium: nothing is complained about, nothing is fetched, tables sort, examples show."""

import pytest
from browser import Browser, chromium

if chromium() is None:
    pytest.skip("there is no Chromium to open the page in", allow_module_level=True)


@pytest.fixture(scope="module")
def tab(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    report.write(folder, ["html"])
    browser = Browser(folder / "profile")
    browser.open((folder / "report.html").as_uri())
    yield browser
    browser.close()


def test_no_complaints_and_no_requests(tab):
    assert tab.complaints() == []
    (own,) = tab.requests()
    assert own.endswith("/report.html")


def test_the_test_sees_complaints_and_requests(tab, tmp_path):
    (tmp_path / "bad.html").write_text("<script>missing()</script><img src='gone.png'>")
    events = list(tab.events)
    try:
        address = tab.evaluate("location.href")
        tab.open((tmp_path / "bad.html").as_uri())
        assert any("missing" in str(one) for one in tab.complaints())
        assert any(url.endswith("gone.png") for url in tab.requests())
    finally:
        tab.open(address)
        tab.events = events


def test_a_hostile_class_name_is_text(tab):
    assert tab.evaluate("document.title").startswith("Robustness of <script>")
    assert tab.evaluate("document.scripts.length") == 1
    assert "document.title='taken'" in tab.evaluate("document.body.innerText")


def test_all_figures_are_drawn(tab):
    sizes = tab.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => Math.min(s.getBoundingClientRect().height,"
        " s.querySelectorAll('path').length))"
    )
    assert len(sizes) == 5
    assert min(sizes) > 10
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert tab.evaluate("document.images.length") == 5


def column(tab, number):
    return tab.evaluate(f"[...document.querySelectorAll('#heat tbody tr')].map(r => r.cells[{number}].innerText)")


def test_tables_sort_both_ways(tab):
    click = "document.querySelectorAll('#heat thead th')[{}].querySelector('button').click()"
    sort = "document.querySelectorAll('#heat thead th')[{}].getAttribute('aria-sort')"
    tab.evaluate(click.format(3))
    rising = [float(text) for text in column(tab, 3)]
    assert rising == sorted(rising)
    assert tab.evaluate(sort.format(3)) == "ascending"
    tab.evaluate(click.format(3))
    falling = [float(text) for text in column(tab, 3)]
    assert falling == rising[::-1] != rising
    tab.evaluate(click.format(0))
    assert column(tab, 0) == ["fog", "gaussian noise"]
    assert tab.evaluate(sort.format(3)) is None
    tab.evaluate(click.format(0))
    assert column(tab, 0) == ["gaussian noise", "fog"]


def test_a_cell_shows_its_example(tab):
    hidden = "document.getElementById('peek').hidden"
    assert tab.evaluate(hidden) is True
    tab.evaluate("document.querySelector('#heat td[data-example]').focus()")
    assert tab.evaluate(hidden) is False
    assert tab.evaluate("document.querySelectorAll('#peek img').length") == 1
    tab.evaluate("document.activeElement.blur()")
    assert tab.evaluate(hidden) is True


def test_on_a_phone_names_and_captions_stay_when_tables_are_moved(tab):
    tab.ask("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    try:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.evaluate("document.querySelector('#heat').parentElement.scrollLeft = 90")
        for part in ("tbody th", "caption"):
            box = f"document.querySelector('#heat {part}').getBoundingClientRect()"
            assert tab.evaluate(f"{box}.left") >= 0
            assert tab.evaluate(f"{box}.right") <= 390
    finally:
        tab.ask("Emulation.clearDeviceMetricsOverride")


def test_on_paper_nothing_is_folded(tab):
    folded = "document.querySelectorAll('details:not([open])').length"
    assert tab.evaluate(folded) > 0
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(folded) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_take_the_ink_of_the_page(tab, scheme):
    tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    ink = tab.evaluate("getComputedStyle(document.body).color")
    assert ink == {"light": "rgb(26, 29, 33)", "dark": "rgb(230, 233, 237)"}[scheme]
    assert tab.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill") == ink
    assert tab.complaints() == []
