"""What to do: rules over the numbers of a report, each with the numbers it rests on and its limits.

Rules, and no model: whoever disagrees with a threshold can see it and say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tta.reporting.words import terms, words
from tta.stress import MARGIN

#: A gap between clean and corrupted error below this many points is called small, above the second large.
SMALL_GAP, LARGE_GAP = 5.0, 20.0
#: Calibration errors in % up to which confidence is called usable.
USABLE_ECE = 5.0
#: Share of the images in % that may change class when the camera moves by a pixel.
STEADY = 5.0
#: A class counts as left behind if its error is higher than the mean by so many points.
BEHIND = 15.0
#: A class with fewer images than this is not judged, a method on fewer streams is not recommended.
IMAGES, STREAMS = 10, 3
#: An interval wider than this many points asks for more images.
WIDE = 6.0
#: A temperature that was fitted on fewer mistakes than this is hardly one.
FEW = 10
#: Adaptation has to gain so many points, or it is not worth its moving parts.
WORTH = 1.0


class Advice(NamedTuple):
    """One recommendation.

    Attributes:
        rule: Its name.
        level: "act", "know" or "fine".
        text: What to do.
        because: The numbers it rests on.
        limits: When it does not hold.
    """

    rule: str
    level: str
    text: str
    because: str
    limits: str


def advise(content: dict[str, Any]) -> list[dict[str, str]]:
    """The recommendations that the rules make from a report's content, what to act on first."""
    rules: tuple[Callable[[dict[str, Any]], Advice | None], ...] = (
        gap, adaptation, weakest_family, confidence, worst_class, shift, sample_size,
    )  # fmt: skip
    found = [advice for rule in rules if (advice := rule(content)) is not None]
    return [advice._asdict() for advice in sorted(found, key=lambda one: ("act", "know", "fine").index(one.level))]


def gap(content: dict[str, Any]) -> Advice:
    """How much corruption costs."""
    clean, shifted, t = content["robustness"]["clean"], content["robustness"]["corrupted"], terms(content)
    points = shifted["error"] - clean["error"]
    because = (
        f"{clean['error']:.1f} % {t.clean} against {shifted['error']:.1f} %"
        f" [{shifted['low']:.1f}, {shifted['high']:.1f}] over {shifted['cells']}"
    )
    if t.natural:
        because += f" {t.shifts}, n = {clean['n']} and {shifted['n']}"
        limits = "Domains differ in what they show too, not in style alone; others than these are not told of."
        text = f"The {t.shifts} cost {points:.1f} points of error"
    else:
        because += f" pairs of corruption and severity, n = {clean['n']} images each"
        limits = "These corruptions are simulated; they stand for cameras and weather, not for new classes or attacks."
        text = f"Corruptions cost {points:.1f} points of error"
    if points < SMALL_GAP:
        return Advice("gap", "fine", f"{text}: little.", because, limits)
    if points > LARGE_GAP:
        text += f": do not leave the model alone {'there' if t.natural else 'where images can degrade'}."
        return Advice("gap", "act", text, because, limits)
    return Advice("gap", "know", f"{text}.", because, limits)


def weakest_family(content: dict[str, Any]) -> Advice | None:
    """What to train against."""
    families = content["robustness"]["families"]
    if len(families) < 2:
        return None
    mean = content["robustness"]["corrupted"]["error"]
    worst = max(families, key=lambda one: one["error"])
    if worst["low"] <= mean:
        return None
    text = f"When you train again, augment against {worst['family']} first, with other operations than the ones tested."
    because = (
        f"{worst['family']} ({', '.join(map(words, worst['corruptions']))}): {worst['error']:.1f} %"
        f" [{worst['low']:.1f}, {worst['high']:.1f}] against {mean:.1f} % on average"
    )
    limits = "To train on the tested corruptions themselves would make this report worthless as a test."
    return Advice("family", "act", text, because, limits)


def confidence(content: dict[str, Any]) -> Advice:
    """Whether a threshold on the confidence may be trusted."""
    told, t = content["confidence"], terms(content)
    clean, shifted, mended = told["clean"]["ece"], told["shifted"]["ece"], told["temperature"]["shifted"]
    before, after = mended["ece_before"], mended["ece_after"]
    because = (
        f"calibration error {clean:.1f} % {t.clean}, {shifted:.1f} % {t.under}; temperature"
        f" {told['temperature']['temperature']:.2f}, fitted on {told['temperature']['fitted_on']} {t.clean_images},"
        f" takes the latter from {before:.1f} to {after:.1f} % on the other images"
    )
    limits = f"Calibration error is a mean over images: a single class or {t.shift} can be worse."
    mistakes = told["temperature"]["mistakes"]
    if mistakes < FEW:
        limits += (
            f" The temperature rests on {mistakes} mistake{'' if mistakes == 1 else 's'} on {t.clean_images}: too few,"
            " take more images."
        )
    if shifted <= USABLE_ECE:
        return Advice("confidence", "fine", f"The confidence means what it says, also {t.under}.", because, limits)
    where = t.under if t.natural else "where images are corrupted"
    if mistakes < FEW:
        text = (
            f"Do not trust a threshold on the confidence {where}; there are too few mistakes to fit a temperature on."
        )
        return Advice("confidence", "act", text, because, limits)
    if after <= USABLE_ECE:
        text = f"Divide the logits by the fitted temperature: the confidence is then usable {t.under} too."
        return Advice("confidence", "act", text, because, limits)
    which = "helps but does not suffice" if after < before - 1 else "does not mend it"
    text = f"Do not trust a threshold on the confidence {where}: temperature scaling {which}."
    return Advice("confidence", "act", text, because, limits)


def choose(content: dict[str, Any]) -> dict[str, Any] | None:
    """The method to adapt with: of those that harm no stream, the one that gains most; None if none gains enough.

    It has to gain on every stream that it ran on, on average, and its interval must exclude 0 on the first.
    """
    methods = [one for one in content["adaptation"]["methods"] if one["method"] != "source" and one["ran"]]
    safe = [
        one for one in methods
        if one["harm_rate"] == 0 and one["ran"] == one["scenarios"] and -one["difference"] >= WORTH
    ]  # fmt: skip
    sure = [one for one in safe if _first(content, one["method"])["high"] < 0]
    return min(sure, key=lambda one: one["difference"], default=None)


def _first(content: dict[str, Any], method: str) -> dict[str, Any]:
    return next(entry for entry in content["adaptation"]["entries"] if entry["method"] == method)


def adaptation(content: dict[str, Any]) -> Advice:
    """Whether to adapt at test time, with what, and where it harms."""
    told = content["adaptation"]
    methods = [one for one in told["methods"] if one["method"] != "source" and one["ran"]]
    chosen, count = choose(content), max((one["scenarios"] for one in methods), default=0)
    seeds = len(content["protocol"]["seeds"])
    limits = (
        f"Tested on {count} kind(s) of streams of these {terms(content).shift}s with {seeds} seed(s). The intervals"
        " cover other images, not another order; your stream may be unlike all of them: measure on your own images"
        " before, and keep the source model at hand."
    )
    if not terms(content).natural and content["data"]["n"] <= max(one["batch_size"] for one in told["entries"]):
        limits += (
            f" All {content['data']['n']} images of a corruption fit in one batch, in which their order is nothing."
        )
    if not methods:
        return Advice("adaptation", "know", "No adaptation method could run on this model.", "see the table", limits)
    if chosen is not None:
        first = _first(content, chosen["method"])
        text = (
            f"Test-time adaptation helps: {chosen['method']} gains {-chosen['difference']:.1f} points on average and"
            f" harms none of the {chosen['scenarios']} stream(s) tested, at the cost of"
            f" {chosen['forward_equivalents']:.1f} forward passes per image (1 without adaptation)."
        )
        because = (
            f"on {first['stream']}, batches of {first['batch_size']}: {first['difference']:+.1f} points"
            f" [{first['low']:+.1f}, {first['high']:+.1f}], n = {first['n']}; worst stream"
            f" {chosen['worst_stream']}: {chosen['worst']:+.1f}"
        )
        if chosen["scenarios"] < STREAMS:
            text += " Test more kinds of streams before you rely on it."
            return Advice("adaptation", "know", text, because, limits)
        return Advice("adaptation", "act", text, because, limits)
    best = min(methods, key=lambda one: one["difference"])
    because = (
        f"best on average: {best['method']} with {best['difference']:+.1f} points; worst stream {best['worst_stream']},"
        f" batches of {best['worst_batch_size']}: {best['worst']:+.1f}"
    )
    gains, harms = _streams(content, best["method"])
    if gains and harms and -best["difference"] >= WORTH:
        text = (
            f"Adapt with {best['method']} only where the stream is known to be like {some(gains)}: it harms"
            f" {some(harms)} ({best['harm_rate']:.0f} % of the streams tested). No method gains {WORTH:g} point or more"
            " without harm."
        )
        return Advice("adaptation", "act", text, because, limits)
    text = f"Do not adapt: no method gains {WORTH:g} point or more on average without harming a stream."
    if -best["difference"] >= WORTH:
        text = f"Do not adapt yet: {best['method']} gains {-best['difference']:.1f} points, which may be chance."
    return Advice("adaptation", "know", text, because, limits)


def _streams(content: dict[str, Any], method: str) -> tuple[list[str], list[str]]:
    """Where a method gains for sure, and where it harms or fails."""
    gains, harms = [], []
    sizes = {one["batch_size"] for one in content["adaptation"]["entries"]}
    for one in content["adaptation"]["entries"]:
        name = one["stream"] + (f" (batches of {one['batch_size']})" if len(sizes) > 1 else "")
        if one["method"] == method and not one["refused"]:
            if one["failed"] or one["difference"] > MARGIN:
                harms.append(name)
            elif one["high"] < 0:
                gains.append(name)
    return gains, harms


def some(names: list[str], most: int = 3) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def worst_class(content: dict[str, Any]) -> Advice | None:
    """Whether a class is left behind."""
    worst, mean = content["classes"][0], content["robustness"]["corrupted"]["error"]
    if worst["low"] is None or worst["images"] < IMAGES or worst["low"] < mean + BEHIND:
        return None
    taken = f"; most often taken for {worst['taken_for']} ({worst['taken_share']:.0f} %)" if worst["taken_for"] else ""
    text = f"Look at the class {worst['name']}: {terms(content).under} it is left behind."
    because = (
        f"error {worst['error']:.1f} % [{worst['low']:.1f}, {worst['high']:.1f}] against {mean:.1f} % on average,"
        f" {worst['images']} images{taken}"
    )
    return Advice("class", "act", text, because, "The worst of many classes with few images is bad by chance too.")


def shift(content: dict[str, Any]) -> Advice | None:
    """Whether the answers stand a shift by a pixel."""
    told = content["shift"]
    if told["adversarial_flip_rate"] <= STEADY:
        return None
    text = "The answers hang on single pixels: average over shifted views, or train with anti-aliased downsampling."
    because = (
        f"a shift by one pixel turns {told['adversarial_flip_rate']:.1f} % of the {terms(content).clean_images} into"
        f" another class, n = {told['n']}"
    )
    return Advice(
        "shift", "know", text, because, "Mirrored pixels fill the gap at the edge, which can itself change an answer."
    )


def sample_size(content: dict[str, Any]) -> Advice | None:
    """Whether there are enough images."""
    told = content["robustness"]["corrupted"]
    width = told["high"] - told["low"]
    if width <= WIDE:
        return None
    because = (
        f"the interval of the mean error {terms(content).under} is {width:.1f} points wide with"
        f" {content['data']['n']} images"
    )
    text = "Use more images (--limit, or --profile standard) before you compare models by these numbers."
    return Advice("images", "know", text, because, "The width falls with the root of the number of images.")
