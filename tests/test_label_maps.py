"""Label maps: pixel error and mean IoU against torchmetrics, and fully convolutional networks through adapters."""

import hashlib

import pytest
import torch
from torch import nn
from torchmetrics.functional.classification import multiclass_jaccard_index

from tta.bench import benchmark
from tta.errors import TTAError
from tta.evaluation import AdapterFailed, evaluate
from tta.label_maps import IGNORED, MAP_METRICS, MeanIoU, PixelError
from tta.registry import wrap
from tta.streams import Domain, make_stream

CLASSES = 3


class Maps:
    """Noise with a label per pixel: the channel that is brightest there; a border that does not count."""

    name = "maps"

    def __init__(self, n=6, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.rand(n, 3, 8, 6, generator=generator)
        self.labels = self.x.argmax(1)
        self.labels[:, 0] = IGNORED
        self.fingerprint = hashlib.sha256(self.x.numpy().tobytes()).hexdigest()

    def __len__(self):
        return len(self.x)

    def images(self, index):
        return self.x[index]


class Brightest(nn.Module):
    """Answers with the channels, each scaled: right wherever the scales are equal."""

    def __init__(self, *scales):
        super().__init__()
        self.scales = nn.Parameter(torch.tensor(scales or (1.0, 1.0, 1.0)))

    def forward(self, x):
        return 10 * x * self.scales[:, None, None]


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))


def sample(seed=0, n=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes - 1, (n, 6, 7), generator=generator)  # the last class is predicted at times, never true
    logits = torch.randn(n, classes, 6, 7, generator=generator) + nn.functional.one_hot(y, classes).movedim(-1, 1)
    y[torch.rand(n, 6, 7, generator=generator) < 0.2] = IGNORED
    return logits, y


def value(metric, logits, y):
    one = metric()
    one.update(logits, y)
    return one.compute().item()


def test_known_answers():
    y = torch.tensor([[[0, 0, 1, IGNORED]]])
    logits = nn.functional.one_hot(torch.tensor([[[0, 1, 1, 0]]]), 3).movedim(-1, 1).float()
    assert value(PixelError, logits, y) == pytest.approx(100 / 3)
    # class 0: 1 of 2 pixels, class 1: 1 of 2; class 2 occurs nowhere
    assert value(MeanIoU, logits, y) == pytest.approx(50)


@pytest.mark.parametrize("seed", range(3))
def test_against_torchmetrics(seed):
    logits, y = sample(seed)
    jaccard = multiclass_jaccard_index(logits.argmax(1), y, 4, average="macro", ignore_index=IGNORED)
    assert value(MeanIoU, logits, y) == pytest.approx(100 * jaccard.item(), rel=1e-5)
    counted = y != IGNORED
    wrong = (logits.argmax(1) != y)[counted].double().mean().item()
    assert value(PixelError, logits, y) == pytest.approx(100 * wrong)


@pytest.mark.parametrize("kind", MAP_METRICS)
def test_batches_groups_and_merged_parts_add_up(kind):
    logits, y = sample()
    group = torch.tensor([0, 1, 0, 2, 1])
    whole, first, second, empty = kind(4), kind(4), kind(4), kind(4)
    whole.update(logits, y, group)
    first.update(logits[:2], y[:2], group[:2])
    second.update(logits[2:], y[2:], group[2:])
    first.merge(second)
    first.merge(kind(4))
    empty.merge(first)
    for metric in (first, empty):
        torch.testing.assert_close(metric.compute(), whole.compute(), equal_nan=True)
    for g in range(3):
        assert whole.compute()[g].item() == pytest.approx(value(kind, logits[group == g], y[group == g]))
    assert whole.compute()[3].isnan()
    assert whole.n.tolist() == [2, 2, 1, 0]
    assert whole.whole() == pytest.approx(value(kind, logits, y))
    other = kind(4)
    other.update(logits[:, :2], y.clamp(max=1), group)
    with pytest.raises(TTAError, match="cannot merge 4 classes with 2"):
        first.merge(other)


def test_images_without_labels_are_ignored():
    logits, y = sample()
    unscored = torch.cat([logits, logits]), torch.cat([y, torch.full_like(y, -1)])
    assert value(MeanIoU, *unscored) == value(MeanIoU, logits, y)


def test_an_evaluation_on_label_maps():
    stream = make_stream([Domain("fog", 5, Maps()), Domain("snow", 5, Maps(3, seed=1))], batch_size=4)
    results = evaluate(wrap(Brightest(), "source"), stream, probe=Maps(2))
    rows = {(r.domain, r.metric): (r.value, r.n) for r in results.rows}
    assert rows["fog", "error"] == (0, 6)
    assert rows["snow", "miou"] == (100, 3)
    assert rows["all", "error"] == (0, 9)
    assert rows["all", "forgetting"] == (0, 9)
    assert rows["all", "forward_equivalents"] == (1, 9)
    assert "ece" not in {r.metric for r in results.rows}
    assert {len(array) for array in results.records["source-0"].values()} == {0}


def test_the_whole_stream_counts_every_pixel():
    data = Maps(4), Maps(2, seed=1)
    stream = make_stream([Domain(name, 5, one) for name, one in zip(("fog", "snow"), data, strict=True)], batch_size=3)
    model = Brightest(1.0, 1.3, 0.8)
    rows = {(r.domain, r.metric): r.value for r in evaluate(wrap(model, "source"), stream).rows}
    x, y = torch.cat([one.x for one in data]), torch.cat([one.labels for one in data])
    for kind in MAP_METRICS:
        assert rows["all", kind.name] == pytest.approx(value(kind, model(x), y))
        assert rows["fog", kind.name] == pytest.approx(value(kind, model(data[0].x), data[0].labels))
    assert 0 < rows["all", "error"] < 100


@pytest.mark.parametrize("method", ["source", "bn", "tent"])
def test_adapters_answer_with_maps(method):
    stream = make_stream([Domain("fog", 5, Maps()), Domain("snow", 5, Maps(5, seed=1))], "mixed", 4)
    model = convolutional()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    results = evaluate(wrap(model, method), stream)
    assert {(r.domain, r.metric) for r in results.rows if r.position >= 0} == {
        (domain, metric) for domain in ("fog", "snow") for metric in ("error", "miou")
    }
    assert results.summary("miou")[0].n == 11
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    first = evaluate(wrap(model, "source"), stream)
    changed = [r.value for r in results.rows if r.metric == "miou"] != [
        r.value for r in first.rows if r.metric == "miou"
    ]
    assert changed == (method != "source")


def test_maps_of_another_size_are_refused():
    class Halved(Brightest):
        def forward(self, x):
            return super().forward(x)[..., ::2, ::2]

    stream = make_stream([Domain("fog", 5, Maps())], batch_size=4)
    with pytest.raises(AdapterFailed, match=r"logits of shape \(4, K, 8, 6\) for this batch, got shape \(4, 3, 4, 3\)"):
        evaluate(wrap(Halved(), "source"), stream)
    data = Maps()
    data.labels[0, 3, 3] = 3
    with pytest.raises(TTAError, match="labels of maps run from 0 to 3, but the model has 3 classes"):
        evaluate(wrap(Brightest(), "source"), make_stream([Domain("fog", 5, data)]))


def test_a_benchmark_over_label_maps_is_kept_and_reused(tmp_path):
    def stream(seed):
        return make_stream([Domain("noise", 1, Maps())], batch_size=4, seed=seed)

    first = benchmark(["source", "bn"], stream, convolutional(), out=tmp_path)
    again = benchmark(["source", "bn"], stream, convolutional(), out=tmp_path)
    assert {row.metric for row in first.rows} >= {"error", "miou"}
    assert again.rows == first.rows
    assert len(list((tmp_path / "cells").glob("*.json"))) == 2
    with pytest.raises(TTAError, match=r"shape \(B, K, 8, 6\) with K >= 2"):
        benchmark(["source"], stream, nn.Sequential(nn.Flatten(), nn.Linear(144, 3)))
