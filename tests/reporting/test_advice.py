"""The rules say what the numbers say."""

import copy

import pytest

from tta.reporting import advice


@pytest.fixture
def told(content):
    """A copy that may be changed; all methods gain 5 points and harm nowhere."""
    told = copy.deepcopy(content)
    for one in told["adaptation"]["methods"]:
        if one["method"] != "source":
            one.update(difference=-5.0, harm_rate=0.0, worst=-4.0, worst_stream="mixed", forward_equivalents=1.0)
    for one in told["adaptation"]["entries"]:
        one.update(difference=-5.0, low=-6.0, high=-4.0)
    return told


def method(told, name):
    return next(one for one in told["adaptation"]["methods"] if one["method"] == name)


def test_the_method_that_gains_most_without_harm(told):
    method(told, "lame").update(difference=-6.0)
    assert advice.choose(told)["method"] == "lame"
    assert "lame gains 6.0 points" in advice.adaptation(told).text
    assert advice.adaptation(told).level == "know"  # on two streams only
    method(told, "lame").update(scenarios=3, ran=3)
    assert advice.adaptation(told).level == "act"
    method(told, "lame").update(harm_rate=50.0, worst=3.0)
    assert advice.choose(told)["method"] == "bn"


def test_no_method_that_may_be_chance(told):
    for one in told["adaptation"]["entries"]:
        one.update(high=0.5)
    assert advice.choose(told) is None
    assert "may be chance" in advice.adaptation(told).text


def test_no_method_that_harms_is_recommended_without_saying_so(told):
    for one in told["adaptation"]["methods"]:
        one.update(harm_rate=50.0, worst=8.0)
    for one in told["adaptation"]["entries"]:
        if one["stream"] == "mixed":
            one.update(difference=8.0, low=6.0, high=9.0)
    found = advice.adaptation(told)
    assert "like continual: it harms mixed (50 % of the streams tested)" in found.text
    assert "mixed" in found.because


def test_small_gains_are_not_worth_it(told):
    for one in told["adaptation"]["methods"]:
        one.update(difference=-0.5)
    assert "Do not adapt" in advice.adaptation(told).text


@pytest.mark.parametrize(("error", "level"), [(3.0, "fine"), (15.0, "know"), (40.0, "act")])
def test_the_gap(told, error, level):
    told["robustness"]["clean"]["error"] = 0.0
    told["robustness"]["corrupted"]["error"] = error
    assert advice.gap(told).level == level
    assert f"{error:.1f} points" in advice.gap(told).text


@pytest.mark.parametrize(
    ("shifted", "before", "after", "words"),
    [
        (3.0, 3.0, 3.0, "means what it says"),
        (20.0, 20.0, 4.0, "Divide the logits"),
        (20.0, 20.0, 12.0, "helps but does not suffice"),
        (20.0, 20.0, 22.0, "does not mend it"),
    ],
)
def test_confidence(told, shifted, before, after, words):
    told["confidence"]["shifted"]["ece"] = shifted
    told["confidence"]["temperature"]["shifted"].update(ece_before=before, ece_after=after)
    told["confidence"]["temperature"]["mistakes"] = 10
    assert words in advice.confidence(told).text
    told["confidence"]["temperature"]["mistakes"] = 9
    assert ("too few mistakes" in advice.confidence(told).text) == (shifted > 5), "nothing can be said of a temperature"


def test_where_a_corruption_is_one_batch_the_order_of_its_images_is_nothing(told):
    assert "fit in one batch" not in advice.adaptation(told).limits
    told["data"]["n"] = 16
    assert "All 16 images of a corruption fit in one batch" in advice.adaptation(told).limits


def test_what_is_not_the_case_is_not_said(told):
    told["classes"][0].update(low=0.0)
    told["shift"].update(adversarial_flip_rate=1.0)
    told["robustness"]["corrupted"].update(low=30.0, high=31.0)
    told["robustness"]["families"] = told["robustness"]["families"][:1]
    assert {one["rule"] for one in advice.advise(told)} == {"gap", "adaptation", "confidence"}
    told["classes"][0].update(low=99.0, high=99.0, images=9)
    assert "class" not in {one["rule"] for one in advice.advise(told)}
    told["classes"][0].update(images=10)
    told["shift"].update(adversarial_flip_rate=20.0)
    told["robustness"]["corrupted"].update(low=20.0, high=40.0)
    levels = [one["level"] for one in advice.advise(told)]
    assert {one["rule"] for one in advice.advise(told)} == {
        "gap",
        "adaptation",
        "confidence",
        "class",
        "shift",
        "images",
    }
    assert levels == sorted(levels, key=("act", "know", "fine").index)


def test_every_rule_gives_numbers_and_limits(content):
    assert content["advice"]
    for one in content["advice"]:
        assert any(letter.isdigit() for letter in one["because"])
        assert one["limits"]
