"""What every adapter promises, over every registered method and batch, layer and group norm."""

import pytest
import torch
from small import wrapped

import tta
from tta.contract import NETS, PROMISES, Case, images
from tta.contract.case import tensors
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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "kind"), RUNS)
def test_on_cuda_it_answers_there_and_resets_bit_exactly(name, kind):
    model = NETS[kind]().cuda()
    before = tensors(model.state_dict())
    adapter = wrapped(name, model, seed=7)
    state = tensors(adapter.state_dict())
    for seed in range(3):
        logits = adapter(images(seed).cuda())
        assert logits.is_cuda
        assert logits.isfinite().all()
    adapter.reset()
    after = tensors(adapter.state_dict())
    assert all(torch.equal(value, after[key]) for key, value in state.items())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "kind"), RUNS)
def test_without_chance_cuda_answers_as_the_cpu_does(name, kind, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)

    def answers(device, seed):
        adapter = wrapped(name, NETS[kind]().to(device), seed=seed)
        return torch.stack([adapter(images(number).to(device)).cpu() for number in range(3)])

    expected = answers("cpu", 7)
    if not torch.equal(expected, answers("cpu", 8)):
        pytest.skip("draws random numbers, which are others on another device")
    assert torch.allclose(answers("cuda", 7), expected, atol=1e-3)
