"""Filters, style, choice, metrics, log and encoding, each with a known answer."""

import json
import math

import pytest
import torch

import tta
from tta.contract import NETS
from tta.guard.choice import CORRELATED, Choice, correlation, mixes, thresholded
from tta.guard.encoding import decode, encode
from tta.guard.log import AuditLog
from tta.guard.metrics import COUNTERS, Histogram, Metrics
from tta.guard.snapshots import Snapshots
from tta.guard.style import Style, log_power
from tta.guard.teaching import NotFinite, Repeated, fingerprints
from tta.source_data import SourceData


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, seed=0, size=16):
    """Smooth pictures: random ones, blurred."""
    x = torch.rand(n, 3, size + 4, size + 4, generator=generator(seed))
    return torch.nn.functional.avg_pool2d(x, 5, 1)


# Filters


def test_not_finite():
    x = pictures(3)
    x[1, 0, 0, 0] = math.nan
    x[2, 0, 0, 0] = math.inf
    assert NotFinite().reject(x).tolist() == [False, True, True]


def test_repeated_within_and_across_batches_and_no_longer_than_it_remembers():
    each, x = Repeated(latest=4), pictures(4)
    assert each.reject(x[[0, 1, 0]]).tolist() == [False, False, True]
    assert each.reject(x[[1, 2, 3]]).tolist() == [True, False, False]
    assert each.reject(pictures(4, seed=1)).tolist() == [False] * 4
    assert each.reject(x[:1]).tolist() == [False]


def test_fingerprints_depend_on_every_bit_and_on_places():
    x = torch.zeros(4, 3, 8, 8)
    x[1, 0, 0, 0] = torch.finfo(torch.float32).tiny
    x[2, 2, 7, 7] = torch.finfo(torch.float32).tiny
    x[3, 0, 0, 1] = torch.finfo(torch.float32).tiny
    assert len(set(fingerprints(x).tolist())) == 4
    assert torch.equal(fingerprints(x)[2:3], fingerprints(x[2:3])), "whatever else is in the batch"


# Style and choice


def test_style_gives_source_images_the_spectrum_of_the_stream():
    source, stream = pictures(200), pictures(200, 1)
    for change in (
        lambda x: x + 0.2 * torch.randn(x.shape, generator=generator(3)),  # noise
        lambda x: 0.5 + 0.3 * (x - 0.5),  # contrast
        lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1),  # blur
    ):
        style = Style(source)
        style.take(change(stream))
        worn = style.wear(source, generator())
        wanted, was, got = (log_power(x).mean(0) for x in (change(stream), source, worn))
        assert (got - wanted).abs().mean() < 0.25 * (was - wanted).abs().mean() + 0.05


def test_a_mixed_stream_gives_its_styles_to_single_images():
    noise = 0.2 * torch.randn(64, 3, 16, 16, generator=generator(3))
    mixed = pictures(64, 1) + noise * (torch.arange(64) % 2).view(-1, 1, 1, 1)
    spreads = []
    for stream in (mixed, pictures(64, 1) + noise):
        style = Style(pictures(200))
        style.take(stream)
        spreads.append(log_power(style.wear(pictures(200), generator())).mean((1, 2, 3)).std())
    wanted = log_power(mixed).mean((1, 2, 3)).std()
    assert 0.6 * wanted < spreads[0] < 1.4 * wanted
    assert spreads[1] < 0.3 * wanted, "a stream of one kind gives one style"


def test_style_notices_a_change_once_and_not_a_stream_that_stays():
    style = Style(pictures(200))
    assert style.take(pictures(64, 1)), "never worn"
    style.wear(pictures(8), generator())
    assert not any(style.take(pictures(64, seed)) for seed in range(2, 6))
    noisy = [pictures(64, seed) + 0.2 * torch.randn(64, 3, 16, 16, generator=generator(seed)) for seed in range(3)]
    assert style.take(noisy[0])
    style.wear(pictures(8), generator())
    assert not style.take(noisy[1])


class Oracle(torch.nn.Module):
    """Right on the share of the images that is asked for; the class is in the mean of the image."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        place = (x.mean((1, 2, 3)) * 1e4).long()
        right = (place * 7919 % 100) < 100 * self.share
        truth = (x.mean((1, 2, 3)) > 0.5).long()
        return 4 * torch.nn.functional.one_hot(torch.where(right, truth, 1 - truth), 2).float() * (0.5 + right[:, None])


def chosen(adapter, source, classes=(), mixing=True):
    x = pictures(400)
    choice = Choice(images=128)
    choice.begin(SourceData(x, (x.mean((1, 2, 3)) > 0.5).long()))
    assert not choice.by_adapter, "nothing is known yet"
    stream = pictures(64, 1)
    assert choice.due(stream)
    choice.memory["mixes"] = mixing
    choice.look(Oracle(adapter), Oracle(source), Oracle(adapter)(stream), Oracle(source)(stream))
    assert choice.by_adapter == (not mixing and adapter - source > 0.03), "nothing is known of the order yet"
    choice.notice(list(classes) or torch.randint(2, (256,), generator=generator()).tolist())
    return choice


def test_the_better_one_is_chosen_and_the_source_when_in_doubt():
    assert chosen(0.9, 0.5).by_adapter
    assert not chosen(0.5, 0.9).by_adapter
    assert not chosen(0.8, 0.8).by_adapter
    estimate = chosen(0.9, 0.5).estimate
    assert estimate.adapter < estimate.source


def test_on_a_correlated_stream_the_source_answers_where_images_mix():
    ordered = [k // 32 for k in range(256)]
    assert not chosen(0.95, 0.3, ordered).by_adapter
    assert chosen(0.95, 0.3).by_adapter


def test_networks_that_mix_images_are_told_from_those_that_do_not():
    x = pictures(2, size=32)
    assert not mixes(NETS["batch_norm"](), x), "running statistics"
    assert not mixes(NETS["group_norm"](), x)
    assert mixes(tta.wrap(NETS["batch_norm"](), "tent").network, x)
    assert not mixes(tta.wrap(NETS["batch_norm"](), "rotta").network, x[:1])


def test_where_both_are_close_the_next_look_comes_sooner():
    clear, close = chosen(0.95, 0.3), chosen(0.65, 0.6)
    assert [clear.due(pictures(64, 1)) for _ in range(4)] == [False, False, False, True]
    assert [close.due(pictures(64, 1)) for _ in range(2)] == [False, True]
    assert close.due(pictures(64, 1)), "wanted until there is one"


def test_who_answers_goes_on_to_answer_in_doubt():
    choice = chosen(0.9, 0.5)
    apart = choice.memory["apart"]
    choice.memory["gain"] = 0.15 * apart
    choice.notice([])
    assert choice.by_adapter
    choice.memory["adapter"] = False
    choice.notice([])
    assert not choice.by_adapter


def test_a_correlated_stream_is_no_matter_where_images_do_not_mix():
    ordered = [k // 32 for k in range(256)]
    assert chosen(0.9, 0.78, ordered, mixing=False).by_adapter


def test_correlation_is_standard_under_exchangeability():
    values = torch.tensor(
        [correlation(torch.randint(5, (512,), generator=generator(seed)).tolist()) for seed in range(60)]
    )
    assert values.mean().abs() < 0.4
    assert values.max() < CORRELATED
    assert correlation([k // 30 for k in range(300)]) > 10
    assert correlation([1] * 300) == 0, "one class alone is no order"


def test_a_change_of_the_answers_from_one_domain_to_the_next_is_no_correlation():
    before, after = (torch.randint(k, (256,), generator=generator(k)).tolist() for k in (10, 3))
    assert correlation(before + after) < CORRELATED


def test_thresholded_by_hand():
    wrong, canary = torch.tensor([0.0, 0, 1, 1]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert thresholded(wrong, canary, torch.tensor([0.1, 0.9, 0.9, 0.9])) == 0.75
    assert thresholded(torch.zeros(4), canary, torch.tensor([0.1, 0.4])) == 0


# What is kept


def test_encoding_is_exact_and_strict():
    value = {
        "a": [1, 2.5, math.inf, None, True, (torch.arange(3), "x")],
        3: {"b": torch.zeros(0)},
        "s": torch.tensor(2),
    }
    tensors = {}
    again = decode(json.loads(json.dumps(encode(value, tensors), allow_nan=False)), tensors)
    assert again["a"][:5] == value["a"][:5]
    assert isinstance(again["a"][5], tuple)
    assert torch.equal(again["a"][5][0], torch.arange(3))
    assert again[3]["b"].shape == (0,)
    assert math.isnan(decode(encode(math.nan, {}), {}))
    with pytest.raises(tta.TTAError, match=r"state\.a\.0 is a set"):
        encode({"a": [{1}]}, {})
    for damaged in ({"t": "gone"}, {"x": 1}, [1]):
        with pytest.raises(tta.TTAError, match="damaged"):
            decode(damaged, {})


def test_snapshots_keep_the_latest_and_refuse_what_is_damaged_or_of_another(tmp_path):
    kept = Snapshots(tmp_path, 2, {"method": "tent"})
    assert kept.latest() is None
    assert [kept.save({"x": torch.tensor(k)}) for k in range(3)] == [1, 2, 3]
    assert kept.versions() == [2, 3]
    assert kept.latest()[1]["x"] == 2
    (tmp_path / "snapshot-00000003.safetensors").write_bytes(b"half")
    assert kept.latest()[0] == 2, "what is whole"
    with pytest.raises(tta.TTAError, match="damaged"):
        kept.load(3)
    (tmp_path / "snapshot-00000004.safetensors").write_bytes(b"killed before the JSON came")
    assert kept.latest()[0] == 2
    with pytest.raises(tta.TTAError, match=r"another method \(tent, not cotta\)"):
        Snapshots(tmp_path, 2, {"method": "cotta"}).load(2)
    with pytest.raises(tta.TTAError, match="no snapshot 9"):
        kept.load(9)


def test_log_rotates_and_loses_nothing_that_is_kept(tmp_path):
    log = AuditLog(tmp_path, max_bytes=100, keep=3)
    for number in range(10):
        log.add("event", number=number)
    names = ["audit.3.jsonl", "audit.2.jsonl", "audit.1.jsonl", "audit.jsonl"]
    lines = [line for name in names for line in (tmp_path / name).read_text().splitlines()]
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == [2, 3, 4, 5, 6, 7, 8, 9], "two to a file; the first file was the oldest"
    assert [entry["number"] for entry in log.recent] == list(range(10))


def test_prometheus_text():
    metrics = Metrics()
    metrics.count("batches", 3)
    metrics.gauges["drift"] = 0.25
    for seconds in (0.003, 0.003, 20.0):
        metrics.latencies["answer"].add(seconds)
    lines = metrics.prometheus().splitlines()
    assert "tta_batches_total 3" in lines
    assert "tta_drift 0.25" in lines
    assert 'tta_answer_seconds_bucket{le="0.005"} 2' in lines
    assert 'tta_answer_seconds_bucket{le="+Inf"} 3' in lines
    assert "tta_answer_seconds_count 3" in lines
    assert all(line.startswith(("#", "tta_")) for line in lines)
    assert {*COUNTERS} <= {*metrics.as_dict()}
    assert metrics.as_dict()["answer_seconds_p50"] == 0.005


def test_histogram_quantiles():
    each = Histogram((1.0, 2.0))
    assert each.quantile(0.5) == 0
    for seconds in (0.5, 1.0, 1.5, 9.0):
        each.add(seconds)
    assert each.counts == [2, 1, 1]
    assert (each.quantile(0.5), each.quantile(0.75), each.quantile(0.99)) == (1.0, 2.0, math.inf)
