"""The networks of the published CIFAR checkpoints: their shapes and names, and files in RobustBench's layout."""

import pytest
import torch

from tta.errors import TTAError
from tta.models import load_source
from tta.robustbench_nets import NETS, ResNeXt, WideResNet

AUGMIX = "cifar100/corruptions/Hendrycks2020AugMix_ResNeXt"


def shapes(net):
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def test_networks_have_the_sizes_and_names_of_the_published_ones():
    with torch.device("meta"):
        wide, resnext = (NETS[name][0]() for name in ("cifar10/corruptions/Standard", AUGMIX))
    assert sum(p.numel() for p in wide.parameters()) == 36_479_194  # the published WRN-28-10
    assert sum(p.numel() for p in resnext.parameters()) == 6_900_132
    found = shapes(wide)
    assert found["block2.layer.0.convShortcut.weight"] == (320, 160, 1, 1)
    assert found["block3.layer.3.conv2.weight"] == (640, 640, 3, 3)
    assert "block2.layer.1.convShortcut.weight" not in found
    assert (found["bn1.weight"], found["fc.weight"]) == ((640,), (10, 640))
    found = shapes(resnext)
    assert found["stage_1.0.conv_conv.weight"] == (128, 32, 3, 3)
    assert found["stage_2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert found["stage_3.2.bn_expand.running_mean"] == (1024,)
    assert found["classifier.weight"] == (100, 1024)


@pytest.mark.parametrize("net", [WideResNet(depth=10, widen=1), ResNeXt(depth=11, groups=2, group_width=8)])
def test_stages_halve_the_image_twice(net):
    seen = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape)}))
    net.eval()(torch.rand(2, 3, 32, 32))
    stages = [shape[2:] for name, shape in seen.items() if name.startswith(("block", "stage"))]
    assert stages == [(32, 32), (16, 16), (8, 8)]


def test_a_shape_changing_block_shortens_the_activated_input():
    block = WideResNet(depth=10, widen=2).block2.layer[0].eval()
    with torch.no_grad():
        block.conv2.weight.zero_()
        x = torch.randn(1, 32, 4, 4)
        assert torch.allclose(block(x), block.convShortcut(torch.relu(x / (1 + 1e-5) ** 0.5)), atol=1e-5)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The AugMix network as a small one, and an empty cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setitem(NETS, AUGMIX, (lambda: ResNeXt(11, 2, 8), NETS[AUGMIX][1]))
    torch.manual_seed(0)
    return ResNeXt(11, 2, 8).eval()


def published(net, path):
    """A training checkpoint of a parallel model, with the constants that some hold."""
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 200, "state_dict": state | {"module.mu": torch.full((1, 3, 1, 1), 0.5)}}, path)
    return path


@pytest.mark.parametrize("cached", [True, False])
def test_a_checkpoint_is_read_without_robustbench(small, tmp_path, cached):
    place = "torch/hub/robustbench/cifar100/corruptions/Hendrycks2020AugMix_ResNeXt.pt" if cached else "mine.pt"
    file = published(small, tmp_path / place)
    model = load_source(f"robustbench:{AUGMIX}", weights=None if cached else file)
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(x), small((x - 0.5) / 0.5))
    assert (model.num_classes, model.preprocessing) == (100, "mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5")


def test_weights_that_are_wrong_are_refused(small, tmp_path):
    other = tmp_path / "other.pt"
    torch.save(WideResNet(10, 1).state_dict(), other)
    with pytest.raises(TTAError, match=r"other\.pt does not fit"):
        load_source(f"robustbench:{AUGMIX}", weights=other)
    with pytest.raises(TTAError, match=r"absent\.pt is not there"):
        load_source(f"robustbench:{AUGMIX}", weights=tmp_path / "absent.pt")
    with pytest.raises(TTAError, match=r"only cifar10/corruptions/Standard, .* put the file at"):
        load_source("robustbench:cifar10/Linf/Carmon2019Unlabeled", weights=other)
