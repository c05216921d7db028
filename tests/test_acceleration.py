"""The options that make passes cheaper: equal answers, refusals with a remedy, and never silent."""

import copy
import shutil

import pytest
import torch
from fakes import domains
from nets import resnet
from small import wrapped
from torch import nn

import tta
from tta import acceleration
from tta.acceleration import Accelerated, Acceleration
from tta.bench import grid, run_cells
from tta.cells import Cell, cell_key
from tta.contract import NETS, images
from tta.lab import Given
from tta.registry import method
from tta.streams import make_stream
from tta.table import caption


def tiny():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return nn.Sequential(*layers)


@pytest.mark.parametrize("name", ["source", "bn", "tent", "cotta", "rotta", "tent+wise"])
def test_channels_last_changes_rounding_only(name):
    model = resnet()
    fast, plain = wrapped(name, model, channels_last=True), wrapped(name, model)
    weight = next(p for p in fast.network.parameters() if p.ndim == 4 and p.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    for seed in range(3):
        torch.testing.assert_close(fast(images(seed)), plain(images(seed)), atol=1e-4, rtol=1e-3)
    fast.reset()
    assert torch.equal(fast(images(0)), wrapped(name, model, channels_last=True)(images(0)))
    assert all(p.is_contiguous() for p in model.parameters())


@pytest.mark.parametrize("name", tta.list_methods())
def test_every_method_runs_in_bf16_with_weights_and_logits_in_float32(name):
    for kind in NETS:
        model = NETS[kind]()
        try:
            method(name).requires.check(model, name, object())
        except tta.TTAError:
            continue
        adapter = wrapped(name, model, precision="bf16")
        for seed in range(2):
            logits = adapter(images(seed))
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()
        assert {p.dtype for p in adapter.parameters()} == {torch.float32}
        return


@pytest.mark.parametrize("name", ["source", "bn", "tent"])
def test_bf16_answers_nearly_the_same(name):
    model = resnet()
    fast, plain = wrapped(name, model, precision="bf16"), wrapped(name, model)
    a, b = fast(images(0)).softmax(1), plain(images(0)).softmax(1)
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, atol=0.02, rtol=0)
    assert not any(isinstance(module, Accelerated) for module in fast.export().modules())
    assert [*fast.export().state_dict()] == [*plain.export().state_dict()]


def test_the_export_of_a_mixture_of_weights_in_bf16_is_plain():
    exported = wrapped("tent+wise", resnet(), precision="bf16").export()
    assert not any(isinstance(module, Accelerated) for module in exported.modules())
    assert not any(p.requires_grad for p in exported.parameters())


def test_statistics_of_batch_norms_are_taken_in_float32():
    x = torch.rand(64, 8, 9, 9, generator=torch.Generator().manual_seed(0)).bfloat16() + 100
    layer = tta.norms.MixedBatchNorm(nn.BatchNorm2d(8), 1.0)
    expected = (x.float() - x.float().mean((0, 2, 3), keepdim=True)) / (x.float().var((0, 2, 3), keepdim=True)).sqrt()
    torch.testing.assert_close(layer(x).float(), expected, atol=0.05, rtol=0)


def test_compiled_networks_answer_and_learn_the_same(monkeypatch):
    monkeypatch.setitem(acceleration.COMPILERS, "default", {"backend": "aot_eager"})  # traced, but no C++ to wait for
    model = tiny()
    for name in ("source", "tent"):
        fast, plain = wrapped(name, model, compile=True), wrapped(name, model)
        for seed in range(2):
            torch.testing.assert_close(fast(images(seed)), plain(images(seed)), atol=1e-5, rtol=1e-4)
        assert [*fast.export().state_dict()] == [*plain.export().state_dict()]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_usual_compiler_gives_the_same_answers():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.ReLU())
    with torch.inference_mode():
        expected = model(images(0))
    torch.testing.assert_close(wrapped("source", model, compile=True)(images(0)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["t3a", "lame"])
def test_a_method_that_looks_inside_a_compiled_network_is_refused(name):
    adapter = wrapped(name, tiny(), compile=True)
    with pytest.raises(tta.TTAError, match="leave compile out"):
        adapter(images(0))


def test_without_a_compiler_compile_is_refused(monkeypatch):
    monkeypatch.setattr(acceleration.shutil, "which", lambda name: None)
    with pytest.raises(tta.TTAError, match=r"install g\+\+"):
        wrapped("tent", tiny(), compile=True)


def test_cuda_graphs_are_refused_without_a_gpu():
    with pytest.raises(tta.TTAError, match="compile='default'"):
        wrapped("tent", tiny(), compile="cudagraphs")


def test_group_norm_with_channels_last_is_refused_where_it_crashes(monkeypatch):
    monkeypatch.setattr(acceleration.torch, "__version__", "2.6.0")
    with pytest.raises(tta.TTAError, match=r"use torch 2\.7"):
        wrapped("tent", NETS["group_norm"](), channels_last=True)
    weights = [p for p in wrapped("cotta", NETS["group_norm"]()).model.parameters() if p.ndim == 4]
    assert all(p.is_contiguous() for p in weights), "a method that would choose the layout leaves it"
    wrapped("tent", resnet(), channels_last=True)


@pytest.mark.parametrize("options", [{"precision": "fp8"}, {"compile": "gcc"}])
def test_what_does_not_exist_is_refused(options):
    with pytest.raises(tta.TTAError, match="choose from"):
        wrapped("tent", tiny(), **options)


def test_the_options_are_part_of_the_key_the_name_the_provenance_and_the_caption():
    fast, cpu = Acceleration("bf16", channels_last=True), torch.device("cpu")
    cells = [Cell("tent", 0), Cell("tent", 0, None, fast), Cell("tent", 0, None, Acceleration("bf16"))]
    assert len({cell_key(cell, (None, ()), {}, "", None, cpu) for cell in cells}) == 3
    assert str(cells[1]) == "tent-bf16+channels_last-0"

    def stream(seed):
        return make_stream(domains(10, 7), batch_size=4, seed=seed)

    results = run_cells(grid(["tent"], [None], [0], fast), Given(tiny(), stream))
    assert results.provenance["cells"][0]["acceleration"] == "bf16+channels_last"
    assert "ran with bf16+channels_last" in caption(results)
    plain = run_cells(grid(["tent"], [None], [0]), Given(tiny(), stream))
    assert "ran with" not in caption(plain)
    assert "acceleration" not in plain.provenance["cells"][0]


def test_a_copy_of_an_accelerated_adapter_is_accelerated():
    adapter = wrapped("tent", resnet(), precision="bf16")
    assert torch.equal(copy.deepcopy(adapter.model)(images(0)), adapter.model(images(0)))


@pytest.mark.parametrize("name", ["tent", "cotta", "rotta", "t3a", "tent+wise"])
def test_a_state_saved_in_bf16_loads_into_a_plain_adapter_and_the_other_way_round(name):
    model = resnet()
    fast, plain = wrapped(name, model, precision="bf16", channels_last=True), wrapped(name, model)
    assert [*fast.state_dict()] == [*plain.state_dict()]
    for saved, loaded in ((fast, plain), (plain, fast)):
        saved(images(0))
        loaded.load_state_dict(saved.state_dict())
        kept, state = saved.state_dict(), loaded.state_dict()
        assert all(torch.equal(state[key], value) for key, value in kept.items() if isinstance(value, torch.Tensor))
        torch.testing.assert_close(loaded.predict(images(1)), saved.predict(images(1)), atol=0.1, rtol=0.1)
