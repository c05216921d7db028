"""What methods do with their source data when an adapter is made is counted, and told with the results."""

import copy

import pytest
import torch
from fakes import domains
from nets import resnet

import tta
from tta.evaluation import evaluate
from tta.streams import make_stream


def source(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 10


@pytest.mark.parametrize(
    ("name", "settings", "forwards", "backwards"),
    [
        ("eata", {"fisher_batch": 7}, 20, 20),  # one pass each of every source image
        ("santa", {}, 20, 0),  # prototypes
        ("rmt", {}, 20, 0),
        ("rmt", {"warm_up": 12, "warm_up_batch": 6}, 20 + 2 * 12, 12),  # student and teacher, of which one learns
        ("tent", {}, 0, 0),
    ],
)
def test_the_passes_of_the_source_images_are_the_analytic_ones(name, settings, forwards, backwards):
    adapter = tta.wrap(resnet(), name, source_data=source(20), **settings)
    cost = adapter.source_cost
    assert (cost.images, cost.forwards, cost.backwards) == (20 if name != "tent" else 0, forwards, backwards)
    assert (cost.seconds > 0) == (name != "tent")
    assert not any(module._forward_hooks for module in adapter.modules())
    assert tta.wrap(resnet(), f"{name}+episodic", source_data=source(20), **settings).source_cost[:3] == cost[:3]
    copy.deepcopy(adapter)


def test_the_results_tell_it_apart_from_the_cost_of_the_stream():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.LazyLinear(4)
    ).eval()
    model(torch.zeros(1, 3, 4, 4))
    stream = make_stream(domains(8), batch_size=4)
    data = (torch.rand(10, 3, 4, 4), torch.arange(10) % 4)
    told = {name: evaluate(tta.wrap(model, name, source_data=data), stream).rows for name in ("eata", "tent")}
    rows = {row.metric: row.value for row in told["eata"] if row.metric.startswith("source_")}
    assert rows.pop("source_seconds") > 0
    assert rows == {"source_images": 10, "source_forwards": 10, "source_backwards": 10}
    assert {row.metric: row.value for row in told["eata"]}["forwards"] == 1
    assert not any(row.metric.startswith("source_") for row in told["tent"])
