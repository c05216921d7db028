"""`wrap(robust_statistics=True)`: whose answers poison may move, what is refused, and that nothing else changes."""

import pytest
import torch

import tta
from tta import norms
from tta.contract import NETS, images

SETTINGS = {"cotta": {"views": 2, "gate": 2.0, "chunk": 2}}
METHODS = ("tent", "eata", "sar", "roid", "cotta")


def wrapped(name, robust=True, net="batch_norm"):
    data = images(99) if name == "eata" else None
    return tta.wrap(NETS[net](), name, source_data=data, robust_statistics=robust, **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", METHODS)
def test_reset_and_saving_are_exact(name):
    adapter, again = wrapped(name), wrapped(name)
    first = [adapter(images(seed)) for seed in range(3)]
    again.load_state_dict(adapter.state_dict())
    assert torch.equal(again(images(3)), adapter(images(3)))
    adapter.reset()
    assert all(torch.equal(adapter(images(seed)), answer) for seed, answer in enumerate(first))


@pytest.mark.parametrize("name", METHODS)
def test_every_network_of_the_adapter_has_them_and_they_are_told(name):
    adapter = wrapped(name)
    kinds = {type(layer) for network in adapter.networks() for _, layer in norms.layers(network)}
    assert kinds == {norms.RobustStatisticsNorm}
    assert adapter.robust_statistics
    assert not wrapped(name, False).robust_statistics


def test_a_minority_of_strange_images_hardly_moves_the_answers_to_the_others():
    x = images(0, 40)
    strange = 1 - images(1, 8) * 2 * (images(2, 8) > 0.5)
    batch = torch.cat([x, strange.clamp(0, 1)])
    moved = {
        kind: (wrapped("tent", kind)(batch)[:40] - wrapped("tent", kind)(x)).abs().mean() for kind in (False, True)
    }
    assert moved[True] < 0.5 * moved[False]


def test_where_there_are_no_plain_batch_statistics_they_are_refused():
    with pytest.raises(tta.TTAError, match="leave robust_statistics out"):
        wrapped("rotta")
    with pytest.raises(tta.TTAError, match="leave robust_statistics out"):
        wrapped("tent", net="group_norm")


def test_snapshots_of_other_statistics_are_refused(tmp_path):
    net = NETS["batch_norm"]()
    with tta.deploy(net, "tent", folder=tmp_path, robust_statistics=True) as deployed:
        deployed(images(0))
    with pytest.raises(tta.TTAError, match="another method"):
        tta.deploy(net, "tent", folder=tmp_path)
