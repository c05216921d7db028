"""What every adapter promises, over every registered method and batch, layer and group norm."""

import pytest
from small import wrapped

import tta
from tta.contract import NETS, PROMISES, Case
from tta.registry import list_wrappers, method, wrapper


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


@pytest.mark.parametrize(("name", "kind"), REFUSES)
def test_a_model_it_cannot_run_on_is_refused_with_a_remedy(name, kind):
    with pytest.raises(tta.TTAError, match=r"choose a method .*such as"):
        wrapped(name, NETS[kind]())


@pytest.mark.parametrize(("name", "kind"), RUNS)
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_its_promise(promise, name, kind):
    promise(Case(lambda model: wrapped(name, model, seed=7), NETS[kind]))


@pytest.mark.parametrize("name", tta.list_methods())
def test_it_is_documented(name):
    cls = method(name)
    for word in ("Updates:", "State:", "Cost:", "Memory:", "Needs:"):
        assert word in cls.__doc__, word
    assert cls.updates
    assert cls.cost


@pytest.mark.parametrize("name", list_wrappers())
def test_a_wrapper_is_documented(name):
    for word in ("Updates:", "State:", "Cost", "emory:", "Needs:"):
        assert word in wrapper(name).__doc__, word
