"""What every adapter promises, over every registered method and batch, layer and group norm."""

import pytest
import torch
from torch import nn

import tta
from tta.contract import NETS, PROMISES, Case, images
from tta.registry import method

#: What a method is given here besides its defaults, so that the suite stays fast.
SETTINGS = {
    "cotta": {"views": 2, "gate": 2.0},
    "ttaug": {"views": 2},
    "memo": {"views": 2},
    "ttaug_gated": {"views": 2, "step": 1},
    "ttaug_close": {"views": 2},
    "foa": {"population": 3},
    "crop_select": {"crops": 2, "fit": "resize"},
    "tent+recurring": {"every": 2},
    "cotta+asr": {"views": 2, "gate": 2.0},
    "ttaug+cascade": {"views": 2},
    "rotta": {"capacity": 8, "frequency": 4},
    "sotta": {"capacity": 8, "frequency": 4, "threshold": 0.0},
    "note": {"capacity": 8, "frequency": 4},
    "petta": {"capacity": 8},
    "adacontrast": {"queue": 16, "warm_up": 8, "neighbours": 3},
    "rmt": {"warm_up": 12, "warm_up_batch": 6},
}


def runs_on(name: str, kind: str) -> bool:
    try:
        method(name).requires.check(NETS[kind](), name, source_data=object())
    except tta.TTAError:
        return False
    return True


#: Wrappers around methods, each wrapper at least once.
WRAPPED = ("tent+recurring", "cotta+asr", "tent+wise", "ttaug+cascade", "tent+episodic+smoothing")
PAIRS = [(name, kind) for name in (*tta.list_methods(), *WRAPPED) for kind in NETS]
RUNS = [pair for pair in PAIRS if runs_on(*pair)]
REFUSES = [pair for pair in PAIRS if pair not in RUNS]


def make(name: str, model: nn.Module) -> tta.Adapter:
    source_data = (images(99), torch.arange(6)) if method(name).requires.source_data else None
    return tta.wrap(model, name, seed=7, source_data=source_data, **SETTINGS.get(name, {}))


@pytest.mark.parametrize(("name", "kind"), REFUSES)
def test_a_model_it_cannot_run_on_is_refused_with_a_remedy(name, kind):
    with pytest.raises(tta.TTAError, match=r"choose a method .*such as"):
        make(name, NETS[kind]())


@pytest.mark.parametrize(("name", "kind"), RUNS)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_its_promise(promise, name, kind):
    promise(Case(lambda model: make(name, model), NETS[kind]))


@pytest.mark.parametrize("name", tta.list_methods())
def test_it_is_documented(name):
    cls = method(name)
    for word in ("Updates:", "State:", "Cost:", "Memory:", "Needs:"):
        assert word in cls.__doc__, word
    assert cls.updates
    assert cls.cost
