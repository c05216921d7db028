"""The charts of a report, as SVG that takes its colours from the page, so that they hold in dark mode and in print."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tta.errors import TTAError
from tta.reporting.words import first_capital, terms, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that stand for variables of the page: ink, lines of the axes, and the series.
INK, LINES = "#000001", "#000002"
SERIES = tuple(f"#0000{0xA0 + number:02x}" for number in range(8))
#: Series are told apart by their marks too.
MARKS, DASHES = "osD^vPX*p", ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "svg.hashsalt": "tta",
    "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": LINES, "grid.color": LINES, "grid.linewidth": 0.5,
    "axes.grid": True, "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 9, "axes.titlesize": 10, "axes.titleweight": "bold",
}  # fmt: skip


class Picture(NamedTuple):
    """A chart: its name, the SVG, what it shows in words, and what it is made of, with its n."""

    name: str
    svg: str
    title: str
    caption: str


def pictures(content: dict[str, Any]) -> dict[str, Picture]:
    """All charts of a report, by name.

    Raises:
        TTAError: matplotlib is not installed.
    """
    require("matplotlib", "the charts of a report")
    return {name: make(content) for name, make in CHARTS.items()}


def require(module: str, what: str) -> None:
    """Raises TTAError, naming the extra, unless the module can be imported."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise TTAError(f"{what} need {module}: pip install 'tta-harness[report]', or leave the html format out")


def draw(
    name: str, size: tuple[float, float], panels: int, paint: Callable[[Sequence[Axes]], None], title: str, caption: str
) -> Picture:
    """A picture of some panels side by side, each painted on its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = [figure.add_subplot(1, panels, number + 1) for number in range(panels)]
        paint(axes)
        return Picture(name, svg_of(figure, name, title), title, caption)


def svg_of(figure: Figure, name: str, title: str) -> str:
    """The figure as an SVG element to be put into a page: its own ids, the page's font and colours, no background."""
    from html import escape

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    text = text.replace(INK, "currentColor").replace(LINES, "var(--lines)")
    for number, colour in enumerate(SERIES):
        text = text.replace(colour, f"var(--s{number})")
    start = f'<svg role="img" aria-label="{escape(title, quote=True)}"'
    return re.sub(r"<svg", lambda _: start, text, count=1)


def corruptions(content: dict[str, Any]) -> Picture:
    """Error by corruption or domain with its interval, the worst at the top."""
    told, t = content["robustness"], terms(content)
    rows = sorted(told["corruptions"], key=lambda one: one["error"])
    clean, mean = told["clean"], told["corrupted"]

    def paint(axes: Sequence[Axes]) -> None:
        (ax,) = axes
        for place, row in enumerate(rows):
            ax.plot([row["low"], row["high"]], [place, place], color=SERIES[0], linewidth=2.5, solid_capstyle="butt")
            ax.plot(row["error"], place, "o", color=SERIES[0], markersize=6)
        ax.axvline(clean["error"], color=SERIES[2], linestyle="--", label=f"{t.clean} {clean['error']:.1f} %")
        ax.axvline(mean["error"], color=SERIES[1], linestyle="-", label=f"mean {mean['error']:.1f} %")
        counts = [f" (n = {row['n']:,})" if t.natural else "" for row in rows]
        names = [words(row["corruption"]) + count for row, count in zip(rows, counts, strict=True)]
        ax.set_yticks(range(len(rows)), names)
        ax.margins(y=max(0.05, 0.25 / len(rows)))
        ax.set_xlim(left=0)
        ax.set_xlabel(f"{label(content)} in %")
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower right")

    severities = ", ".join(f"{one:g}" for one in content["protocol"]["severities"])
    caption = (
        f"{label(content)} of the source model by corruption, averaged over severities {severities}, with 95 %"
        f" bootstrap intervals over images. n = {content['data']['n']} images per corruption and severity."
    )
    if t.natural:
        caption = (
            f"{label(content)} of the source model on each of the {t.shifts}, with 95 % bootstrap intervals over"
            f" images; dashed: on the reference, {t.clean}, n = {clean['n']:,} images. Domains have no severity."
        )
    size = (7.6, 1.1 + 0.27 * max(3, len(rows)))
    return draw("corruptions", size, 1, paint, f"Error by {t.shift}", caption)


def label(content: dict[str, Any]) -> str:
    """What errors of the report are called."""
    return "Balanced error" if content["metric"] == "error_balanced" else "Error"


def reliability(content: dict[str, Any]) -> Picture:
    """Accuracy against confidence, clean and shifted, before and after temperature scaling."""
    told, t = content["confidence"], terms(content)

    def paint(axes: Sequence[Axes]) -> None:
        names = (first_capital(t.clean), first_capital(t.shifted))
        for ax, side, name in zip(axes, ("clean", "shifted"), names, strict=True):
            here, after = told[side], told["temperature"][side]
            ax.plot([0, 100], [0, 100], color=LINES, linestyle="--", linewidth=1)
            for bins, number, text in (
                (here["bins"], 0, f"as it is, n = {here['n']:,}: ECE {here['ece']:.1f} %"),
                (after["bins_after"], 1, f"with temperature, n = {after['n']:,}: ECE {after['ece_after']:.1f} %"),
            ):
                _bins(ax, bins, number, text)
            ax.set(xlim=(0, 104), ylim=(-4, 104), xlabel="Confidence in %", ylabel="Accuracy in %")
            ax.set_title(name)
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))

    temperature = told["temperature"]
    caption = (
        "Accuracy in each of 15 bins of confidence; below the diagonal the model is surer than it is right. The larger"
        f" a mark, the more answers in its bin; bins with less than 1 % of them are not joined."
        f" Temperature {temperature['temperature']:.2f}, fitted on"
        f" {temperature['fitted_on']} {t.clean_images}, shown on the others"
        f" (n = {temperature['clean']['n']:,} {t.clean}, {temperature['shifted']['n']:,} {t.shifted})."
    )
    return draw("reliability", (7.6, 4.3), 2, paint, "Reliability", caption)


def _bins(ax: Axes, bins: Sequence[dict[str, float]], number: int, text: str) -> None:
    """The marks of the bins, joined where they hold at least 1 % of the answers."""
    total, most = sum(one["n"] for one in bins), max(one["n"] for one in bins)
    for one in bins:
        area = 14 + 90 * one["n"] / most
        ax.scatter(one["confidence"], one["accuracy"], s=area, color=SERIES[number], marker=MARKS[number], alpha=0.8)
    joined = [one for one in bins if one["n"] >= total / 100]
    x, y = [one["confidence"] for one in joined], [one["accuracy"] for one in joined]
    ax.plot(x, y, color=SERIES[number], linestyle=DASHES[number], linewidth=1.2)
    ax.plot([], [], color=SERIES[number], linestyle=DASHES[number], marker=MARKS[number], label=text)


def risk_coverage(content: dict[str, Any]) -> Picture:
    """Error on the most confident share of the answers."""
    told, t = content["confidence"], terms(content)

    def paint(axes: Sequence[Axes]) -> None:
        (ax,) = axes
        for number, (side, name) in enumerate((("clean", t.clean), ("shifted", t.shifted))):
            points = told[side]["curve"]
            text = f"{name}: area {told[side]['aurc']:.1f} %, n = {told[side]['n']:,}"
            # one point if all answers are equally sure: a mark, or it would not be seen
            mark = MARKS[number] if len(points) == 1 else None
            x, y = [one[0] for one in points], [one[1] for one in points]
            ax.plot(x, y, color=SERIES[number], linestyle=DASHES[number], marker=mark, label=text, linewidth=1.8)
        ax.set(
            xlim=(0, 101),
            xlabel="Coverage: answers given, the most confident first, in %",
            ylabel="Error on these in %",
        )
        ax.set_ylim(-2, 102)
        ax.legend(loc="best")

    caption = (
        "Error on the answers that are given if only the most confident are: a model that knows what it does not know"
        f" starts at 0 and rises late. n = {told['clean']['n']:,} answers ({t.clean}) and"
        f" {told['shifted']['n']:,} ({t.shifted})."
    )
    return draw("risk_coverage", (7.6, 3.2), 1, paint, "Risk and coverage", caption)


def over_time(content: dict[str, Any]) -> Picture:
    """Error in a sliding window along the first stream."""
    told, t = content["adaptation"]["over_time"], terms(content)
    severity = "" if t.natural else f", severity {content['protocol']['stream_severity']:g}"

    def paint(axes: Sequence[Axes]) -> None:
        (ax,) = axes
        top = max((point[1] for line in told["lines"] for point in line["points"]), default=1.0)
        for number, one in enumerate(told["boundaries"]):
            ax.axvline(one["start"], color=LINES, linewidth=1)
            name = words(one["domain"])
            ax.text(one["start"], top * 1.02, f" {name}", rotation=35, fontsize=7.5, va="bottom", ha="left")
            if number > 40:
                break
        for number, line in enumerate(told["lines"]):
            x, y = zip(*line["points"], strict=True)
            thick = 2.4 if line["method"] == "source" else 1.5
            ax.plot(
                x, y, color=INK if line["method"] == "source" else SERIES[number % len(SERIES)], linewidth=thick,
                linestyle=DASHES[number % len(DASHES)], label=line["method"],
                marker=MARKS[number % len(MARKS)], markevery=(2 + 3 * number, 25) if len(x) > 30 else 1, markersize=5,
            )  # fmt: skip
        ax.set(xlabel="Images seen", ylabel=f"Error in the last {told['window']} images in %", xlim=(0, told["n"]))
        ax.set_ylim(0, top * 1.05)
        ax.grid(axis="x", visible=False)
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))

    caption = (
        f"Error in a window of {told['window']} images along the stream {told['stream']}, batches of"
        f" {told['batch_size']}, seed {told['seed']}{severity}; upright lines: the next {t.shift} begins."
        f" n = {told['n']:,} images per method."
    )
    return draw("over_time", (7.6, 3.7), 1, paint, "Error over time", caption)


def pareto(content: dict[str, Any]) -> Picture:
    """Error against cost, in passes and in measured time."""
    from matplotlib.ticker import LogLocator, NullLocator

    told = [one for one in content["adaptation"]["methods"] if one["ran"] and one["error"] is not None]

    def paint(axes: Sequence[Axes]) -> None:
        costs = (
            ("forward_equivalents", "Forward-equivalents per image"),
            ("milliseconds_per_image", "Measured ms per image"),
        )
        for ax, (field, title) in zip(axes, costs, strict=True):
            for number, one in enumerate(told):
                colour = INK if one["method"] == "source" else SERIES[number % len(SERIES)]
                ax.plot(one[field], one["error"], MARKS[number % len(MARKS)], color=colour, markersize=8)
            for place, names in _labels([(one[field], one["error"], one["method"]) for one in told]).items():
                ax.annotate(", ".join(names), place, xytext=(6, 4), textcoords="offset points", fontsize=8.5)
            front = sorted(_front([(one[field], one["error"]) for one in told]))
            ax.plot(*zip(*front, strict=True), color=LINES, linewidth=1.5, drawstyle="steps-post", zorder=0)
            ax.set(xscale="log", xlabel=title, ylabel="Mean error over the streams in %")
            ax.margins(x=0.25, y=0.12)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")

    counts = [entry["n"] for entry in content["adaptation"]["entries"] if entry["n"]]
    caption = (
        "Below and left is better; the line joins the methods that no other beats in both. Forward-equivalents count a"
        " backward pass as two forward passes; milliseconds were measured on this machine, whatever else it did. Mean"
        f" over {max((one['scenarios'] for one in told), default=0)} streams, n = {_range(counts)} images each."
    )
    return draw("pareto", (7.6, 3.5), 2, paint, "Error against cost", caption)


def _labels(points: Sequence[tuple[float, float, str]]) -> dict[tuple[float, float], list[str]]:
    """Where a label goes, and the methods it names: points that lie as good as on each other share one."""
    span = max(1e-9, max(error for _, error, _ in points) - min(error for _, error, _ in points))
    found: dict[tuple[float, float], list[str]] = {}
    for cost, error, name in points:
        near = [(x, y) for x, y in found if abs(math.log(cost / x)) < 0.25 and abs(error - y) < span / 15]
        found.setdefault(near[0] if near else (cost, error), []).append(name)
    return found


def _front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both coordinates.

    >>> _front([(1, 9), (2, 5), (3, 7)])
    [(1, 9), (2, 5)]
    """
    points = list(points)
    return [p for p in points if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)]


def _range(counts: Sequence[int]) -> str:
    return (
        "0" if not counts else f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,}-{max(counts):,}"
    )


#: The charts of a report, by name.
CHARTS: dict[str, Callable[[dict[str, Any]], Picture]] = {
    "corruptions": corruptions,
    "reliability": reliability,
    "risk_coverage": risk_coverage,
    "over_time": over_time,
    "pareto": pareto,
}
