"""What every deployment promises, over methods of every kind."""

import copy

import pytest
import torch
from rehearsals import usual
from small import SETTINGS

import tta
from tta.contract import NETS, images, source_images
from tta.deployment import Guard
from tta.registry import method

METHODS = (
    "source", "bn", "tent", "eata", "sar", "cotta", "rotta", "note", "roid", "lame", "t3a", "ttaug", "petta", "rmt",
    "adacontrast", "sotta", "tent+wise",
)  # fmt: skip
SIZES = (6, 1, 5, 1)


def deploy(name, model, **options):
    options = {"source_data": source_images(), "guard": usual()} | SETTINGS.get(name, {}) | options
    return tta.deploy(model, name, seed=7, **options)


def net(name):
    return NETS["layer_norm" if method(name).requires.vision_transformer else "batch_norm"]()


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", [*METHODS, "foa"])
def test_batches_of_any_size_get_finite_logits_and_the_source_is_untouched(name, background):
    model = net(name)
    before = copy.deepcopy(model.state_dict())
    with deploy(name, model, background=background) as deployed:
        for seed, size in enumerate(SIZES):
            x = images(seed)[:size]
            kept = x.clone()
            answer = deployed.ask(x)
            assert answer.logits.shape == (size, 10)
            assert answer.logits.isfinite().all()
            assert not answer.logits.requires_grad
            assert answer.logits.device == x.device
            assert len(answer.ids) == size
            assert torch.equal(x, kept)
        report = deployed.report()
    assert report["batches"] == len(SIZES)
    assert report["images"] == sum(SIZES)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert not any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_bfloat16_model_answers_in_bfloat16(name):
    deployed = deploy(name, net(name).to(torch.bfloat16))
    for seed in range(2):
        logits = deployed(images(seed).to(torch.bfloat16))
        assert logits.dtype == torch.bfloat16
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_the_same_batches_get_the_same_answers(name):
    first, second = (deploy(name, net(name)) for _ in range(2))
    for seed in range(3):
        a, b = first.ask(images(seed)), second.ask(images(seed))
        assert torch.equal(a.logits, b.logits)
        assert a[1:] == b[1:]


def test_a_model_that_a_method_cannot_run_on_is_refused():
    for name, kind in (("bn", "layer_norm"), ("foa", "batch_norm")):
        with pytest.raises(tta.TTAError, match="choose a method"):
            deploy(name, NETS[kind]())
    with pytest.raises(tta.TTAError, match="needs source data"):
        tta.deploy(NETS["batch_norm"](), "rmt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tent", "rotta"])
def test_a_compiled_model_can_be_deployed(name):
    """With the tracing of torch.compile, but no compiler, which not every machine has."""
    torch._dynamo.reset()
    model = net(name)
    settings = SETTINGS.get(name, {})
    plain = tta.deploy(model, name, guard=Guard.off(), **settings)
    deployed = tta.deploy(torch.compile(model, backend="eager"), name, guard=Guard.off(), **settings)
    for seed in range(3):
        assert torch.allclose(deployed(images(seed)), plain(images(seed)), atol=1e-5)
    assert deployed.version == plain.version
    exported = deployed.export()
    assert type(exported) is type(model)
    with torch.no_grad():
        assert torch.allclose(exported(images(9)), plain.export()(images(9)), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", METHODS)
def test_a_model_on_cuda_answers_there(tmp_path, name):
    def begin():
        return deploy(name, net(name).cuda(), folder=tmp_path)

    deployed = begin()
    for seed in range(3):
        logits = deployed(images(seed).cuda())
        assert logits.is_cuda
        assert logits.isfinite().all()
    deployed.close()
    again = begin()
    assert again.version == deployed.version
    x = images(5).cuda()
    assert torch.allclose(again.adapter.predict(x), deployed.adapter.predict(x), atol=1e-4)
    assert again(x).is_cuda, "what the guard remembers is there too"
