"""Filters, metrics, log and encoding, each with a known answer."""

import json
import math

import pytest
import torch

import tta
from tta.deployment import Guard
from tta.guard.encoding import decode, encode
from tta.guard.log import AuditLog
from tta.guard.metrics import COUNTERS, Histogram, Metrics
from tta.guard.snapshots import Snapshots
from tta.guard.teaching import NotFinite, Repeated, fingerprints


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


def test_repeated_goes_on_from_what_was_remembered():
    each, again, shorter, x = Repeated(latest=4), Repeated(latest=4), Repeated(latest=2), pictures(6)
    each.reject(x[:5])
    kept = json.loads(json.dumps(each.memory))
    assert kept == {"latest": fingerprints(x[1:5]).tolist()}
    for other in (again, shorter):
        other.reject(pictures(3, seed=2))
        other.memory = json.loads(json.dumps(kept))
    assert again.reject(x[[0, 1, 5]]).tolist() == each.reject(x[[0, 1, 5]]).tolist() == [False, True, False]
    assert again.memory == each.memory
    assert shorter.reject(x[[1, 2, 3, 4]]).tolist() == [False, False, True, True]


def test_an_image_counts_for_the_first_filter_and_one_filter_keeps_it_apart():
    guard, x = Guard([Repeated(), NotFinite()]), pictures(4)
    x[1:3] = math.nan
    teach, apart, counts = guard.sort(x)
    assert counts == {"repeated": 1, "not_finite": 1}
    assert teach.tolist() == [True, False, False, True]
    assert apart.tolist() == [False, True, False, False], "a repeated image is answered with the others"
    teach, apart, counts = Guard.off().sort(x)
    assert (teach.tolist(), apart.tolist(), counts) == ([True] * 4, [False] * 4, {})


def test_fingerprints_depend_on_every_bit_and_on_places():
    x = torch.zeros(4, 3, 8, 8)
    x[1, 0, 0, 0] = torch.finfo(torch.float32).tiny
    x[2, 2, 7, 7] = torch.finfo(torch.float32).tiny
    x[3, 0, 0, 1] = torch.finfo(torch.float32).tiny
    assert len(set(fingerprints(x).tolist())) == 4
    assert torch.equal(fingerprints(x)[2:3], fingerprints(x[2:3])), "whatever else is in the batch"


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
