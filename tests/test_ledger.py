"""The ledger of published values: what it holds, how entries are chosen, and what counts as the same value."""

import json

import pytest

from tta.errors import TTAError
from tta.ledger import PUBLISHED, read_ledger
from tta.published_orders import published_order
from tta.registry import configuration, split_preset
from tta.scenarios import Scenario

LEDGER = read_ledger()
BENCHMARK = {"source", "bn", "tent", "eata", "sar", "cotta", "rotta", "adacontrast", "rmt", "lame", "roid"}


def entry(name, ledger=LEDGER):
    (found,) = ledger.select([name])
    return found


def methods(protocol):
    return {one.id.partition("/")[2] for one in LEDGER.select([f"{protocol}/*"])}


def test_the_published_tables_are_there():
    for protocol in ("cifar10-c", "cifar100-c", "imagenet-c"):
        assert methods(protocol) == BENCHMARK | {"santa"}
        assert methods(f"{protocol}-mixed") == BENCHMARK
    for protocol in ("imagenet-c-vit", "imagenet-c-swin"):
        assert methods(protocol) == methods(f"{protocol}-mixed") == BENCHMARK - {"bn"}
    for protocol in ("cifar10-c-gradual", "imagenet-c-ten-orders"):
        assert methods(protocol) == {"source", "bn", "tent", "cotta"}


@pytest.mark.parametrize(
    ("name", "error", "spread", "source"),
    [
        ("cifar10-c/source", 43.5, None, "BM"),
        ("cifar10-c/roid", 16.2, 0.05, "BM"),
        ("cifar100-c/lame", 98.5, None, "BM"),
        ("imagenet-c/cotta", 63.1, None, "BM"),
        ("imagenet-c-vit/cotta", 77.0, None, "BM"),
        ("imagenet-c-swin-mixed/rmt", 55.4, None, "BM"),
        ("cifar10-c-mixed/adacontrast", 26.2, None, "BM"),
        ("cifar10-c-gradual/cotta", 10.4, 0.2, "COT"),
        ("imagenet-c-ten-orders/cotta", 63.0, 1.8, "COT"),
        ("cifar10-c/santa", 16.1, None, "GOLD"),
    ],
)
def test_values(name, error, spread, source):
    found = entry(name)
    assert (found.error, found.spread, found.source) == (error, spread, source)


def test_every_entry_can_be_run_by_us():
    for one in LEDGER.entries:
        name, preset = split_preset(one.method)
        configuration(name, preset=preset)
        assert name == one.id.partition("/")[2]
        assert 0 < one.error < 100
        assert one.seeds
        protocol = one.protocol
        Scenario(protocol.order, protocol.arrangement, "none", protocol.batch_size, protocol.reset)
        assert protocol.batch_size == (64 if protocol.data == "imagenet" else 200)
        assert protocol.images == (5_000 if protocol.data == "imagenet" else 10_000)
        if protocol.orders:
            assert all(len(published_order(number)) == 15 for number in one.seeds)
        else:
            assert set(one.seeds) <= {1, 2, 3, 4, 5}


def test_the_settings_are_those_of_the_benchmark():
    for name in ("tent", "eata"):
        (inner, _) = configuration(name, preset=split_preset(entry(f"imagenet-c/{name}").method)[1])
        assert (inner.optimiser.lr, inner.optimiser.nesterov) == (2.5e-4, True)
    (inner, _) = configuration("sar", preset=split_preset(entry("imagenet-c/sar").method)[1])
    assert (inner.optimiser.base.lr, inner.keep_average) == (2.5e-4, False)
    (inner, _) = configuration("sar", preset=split_preset(entry("imagenet-c-vit/sar").method)[1])
    assert inner.optimiser.base.lr == 1e-3


def test_the_tolerance_is_half_a_point_or_what_sources_that_agree_leave():
    assert entry("cifar10-c/bn").tolerance == 0.5
    assert entry("cifar10-c/cotta").tolerance == 0.5  # 16.5 and 16.2
    assert entry("cifar10-c/tent").tolerance == 0.7  # 20.0, 20.7 and 19.3
    assert entry("cifar100-c/tent").tolerance == 1.3  # 62.2, 60.9 and 61.4, but not 32.8


def test_entries_are_chosen_by_id_or_pattern():
    assert [one.id for one in LEDGER.select(["*-gradual/tent", "cifar10-c/cotta"])] == [
        "cifar10-c/cotta", "cifar10-c-gradual/tent",
    ]  # fmt: skip
    assert LEDGER.select([]) == list(LEDGER.entries)
    assert all(one.id.startswith("cifar100-c/") for one in LEDGER.select(["cifar100-c/*"]))
    with pytest.raises(TTAError, match="did you mean 'cifar10-c/cotta'"):
        LEDGER.select(["cifar10-c/cota"])
    with pytest.raises(TTAError, match="--list"):
        LEDGER.select(["x?"])


def test_a_ledger_of_ones_own(tmp_path):
    content = json.loads(PUBLISHED.read_text())
    content["protocols"] = {
        "mine": content["protocols"]["cifar10-c"] | {"images": 7, "domains": ["fog", "snow"]},
        "ours": {"like": "mine", "order": "mixed", "seeds": [4]},
    }
    content["entries"] = [{"id": "ours/bn", "method": "bn", "error": 3, "source": "COT"}]
    file = tmp_path / "ledger.json"
    file.write_text(json.dumps(content))
    found = entry("ours/bn", read_ledger(file))
    assert (found.protocol.images, found.protocol.order, found.seeds, found.source) == (7, "mixed", (4,), "COT")
    assert str(found.protocol).startswith("CIFAR-10-C, severity 5, 2 domains, 7 images each; mixed order")


@pytest.mark.parametrize(
    "change",
    [
        {"entries": []},
        {"entries": [{"id": "cifar10-c/bn", "method": "bn"}]},
        {"entries": [{"id": "cifar10-d/bn", "method": "bn", "error": 1}]},
        {"entries": [{"id": "cifar10-c/bn", "method": "bn", "error": 1, "others": {"SV": 2}}]},
        {"entries": [{"id": "cifar10-c/bn", "method": "bn", "error": 1}] * 2},
        {"protocols": {"cifar10-c": {"like": "nothing"}}},
        {"protocols": {"cifar10-c": {"date": "x"}}},
        {"sources": None},
    ],
)
def test_a_file_that_is_no_ledger_is_refused(tmp_path, change):
    file = tmp_path / "ledger.json"
    file.write_text(json.dumps(json.loads(PUBLISHED.read_text()) | change))
    with pytest.raises(TTAError, match=r"ledger\.json"):
        read_ledger(file)


def test_a_ledger_that_is_not_there(tmp_path):
    with pytest.raises(TTAError, match="not there"):
        read_ledger(tmp_path / "no.json")
