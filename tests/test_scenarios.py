"""Scenarios: one spelling, and clear refusals."""

import pytest

from tta.errors import TTAError
from tta.scenarios import Scenario


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("continual", "continual"),
        ("recurring", "recurring:20"),
        ("dirichlet", "continual+dirichlet:0.1"),
        ("noise:0.25+mixed+dirichlet:1", "mixed+dirichlet:1+noise:0.25"),
        ("gradual+reset:domain", "gradual+reset:domain"),
        ("continual+shuffled", "continual"),
        ("ccc+reset:batch", "ccc+reset:batch"),
    ],
)
def test_a_scenario_has_one_name_which_reads_back(text, name):
    scenario = Scenario.read(text, 10)
    assert scenario.name == name
    assert Scenario.read(name, 10) == scenario
    assert scenario.batch_size == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixd", "did you mean 'mixed'"),
        ("mixed+continual", "both its order"),
        ("sorted+dirichlet:0.1", "both its arrangement"),
        ("reset:sometimes", "unknown reset policy"),
        ("noise:2", "share between 0 and 1"),
        ("recurring:0.5", "recurring"),
        ("", "unknown part"),
    ],
)
def test_what_is_none_is_refused(text, message):
    with pytest.raises(TTAError, match=message):
        Scenario.read(text)


def test_a_batch_has_an_image():
    with pytest.raises(TTAError, match="batch size is 0"):
        Scenario(batch_size=0)
