"""`tta reproduce` end to end, on small sets in the real layouts."""

import csv
import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import corruptions
from tta.cli import main
from tta.data.arrays import ArrayImages
from tta.data.enlarged import Enlarged
from tta.data.imagenet import wnids
from tta.ledger import PUBLISHED, read_ledger
from tta.published_orders import published_order
from tta.reproduce import PublishedLab, reproduce
from tta.reproduction_files import Places, list_sha256
from tta.results import Results, Row
from tta.robustbench_nets import NETS, WideResNet
from tta.scenarios import Scenario

COUNT = 6
STANDARD = "cifar10/corruptions/Standard"
MODEL = """
from torch import nn

def small(classes=10):
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(16, classes))
"""


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """CIFAR-10 in the python version, and CIFAR-10-C as `tta corrupt` writes it, without its record."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    folder, corrupted = root / "cifar-10-batches-py", root / "CIFAR-10-C"
    folder.mkdir()
    for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        images = rng.integers(0, 256, (COUNT, 3072), dtype=np.uint8)
        content = {b"data": images, b"labels": [i % 10 for i in range(COUNT)]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    out = ["--names", "fog", "contrast", "--format", "cifar", "--out", str(corrupted)]
    assert main(["corrupt", "--dataset", "cifar10", "--data", str(root), *out]) == 0
    (corrupted / "corruptions.json").unlink()
    for name in set(corruptions.COMMON) - {"fog", "contrast"}:  # of noise, which is made faster
        np.save(corrupted / f"{name}.npy", rng.integers(0, 256, (5 * COUNT, 32, 32, 3), dtype=np.uint8))
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache of checkpoints."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TTA_DATA", raising=False)
    return tmp_path / "torch" / "hub"


def model_file(folder):
    (folder / "model.py").write_text(MODEL)
    return f"{folder / 'model.py'}:small"


def own_ledger(path, entries, **changes):
    """A ledger whose protocol asks for what the small set has."""
    content = json.loads(PUBLISHED.read_text())
    content["protocols"] = {"cifar10-c": content["protocols"]["cifar10-c"] | changes}
    content["entries"] = [
        {"id": f"cifar10-c/{name}", "method": name, "error": error} for name, error in entries.items()
    ]
    path.write_text(json.dumps(content))
    return path


def run(*arguments, capsys):
    code = main(["reproduce", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err


@pytest.fixture
def narrow(monkeypatch):
    """The published network made shallow and narrow, its parameters named alike; a checkpoint as it is published."""
    monkeypatch.setitem(NETS, STANDARD, (lambda: WideResNet(10, 1), NETS[STANDARD][1]))
    torch.manual_seed(0)
    return {"state_dict": {f"module.{name}": value for name, value in WideResNet(10, 1).state_dict().items()}}


def test_random_weights_deviate_and_what_came_out_matches(data, narrow, tmp_path, cache, capsys):
    file = cache / "robustbench" / f"{STANDARD}.pt"
    file.parent.mkdir(parents=True)
    torch.save(narrow, file)
    small = {"images": COUNT, "batch_size": 3, "domains": ["fog", "contrast"], "seeds": [1]}
    ledger = own_ledger(tmp_path / "ledger.json", {"source": 1.0, "bn": 2.0}, **small)
    out = tmp_path / "out"
    asked = ["cifar10-c/source", "cifar10-c/bn", "--data", data, "--ledger", ledger, "--out", out]
    code, lines, _ = run(*asked, capsys=capsys)
    assert code == 3
    assert lines[0].startswith("cifar10-c/source: deviation: ")
    assert "(1 seed, n = 12 each), published 1 (BM): +" in lines[0]
    assert lines[1].startswith("cifar10-c/bn: deviation: ")
    rows = json.loads((out / "reproduction.json").read_text())["verdicts"]
    assert [(row["id"], row["verdict"], row["n"], row["seeds"]) for row in rows] == [
        ("cifar10-c/source", "deviation", 12, [1]), ("cifar10-c/bn", "deviation", 12, [1]),
    ]  # fmt: skip
    assert rows[0]["difference"] == pytest.approx(rows[0]["measured"] - 1.0)
    assert rows[0]["model"] == "robustbench:cifar10/corruptions/Standard"
    assert len(rows[0]["checkpoint"]) == 64
    assert torch.__version__.startswith(rows[0]["versions"]["torch"])
    with (out / "reproduction.csv").open() as table:
        assert [row["verdict"] for row in csv.DictReader(table)] == ["deviation", "deviation"]
    # Told what came out, the same ledger matches, from the cells that are kept.
    own_ledger(ledger, {row["id"].partition("/")[2]: round(row["measured"], 1) for row in rows}, **small)
    code, lines, err = run(*asked, capsys=capsys)
    assert (code, [line.split(": ")[1] for line in lines]) == (0, ["match", "match"])
    assert err.count("kept from an earlier run") == 2


def test_nothing_of_ones_own_is_the_published_protocol(data, tmp_path, capsys):
    ledger = own_ledger(tmp_path / "ledger.json", {"bn": 90.0}, domains=["fog", "contrast"], seeds=[1, 2])
    own = ["--model", model_file(tmp_path), "--limit", "4", "--ledger", ledger]
    code, lines, _ = run("cifar10-c/bn", "--data", data, *own, capsys=capsys)
    assert code == 3
    assert lines[0].startswith("cifar10-c/bn: not the published protocol: ")
    assert "(2 seeds, n = 8 each)" in lines[0]
    assert "small, not robustbench:cifar10/corruptions/Standard" in lines[1]
    assert lines[2] == "  4 images per visit instead of 10,000, with a limit of 4"
    assert len(lines) == 3


def test_images_that_were_computed_are_not_published(data, tmp_path, capsys):
    ledger = own_ledger(tmp_path / "ledger.json", {"source": 90.0}, images=COUNT, domains=["fog"])
    record = data / "CIFAR-10-C" / "corruptions.json"
    record.write_text("{}")
    try:
        asked = ["*", "--stored", data, "--model", model_file(tmp_path), "--ledger", ledger]
        code, lines, _ = run(*asked, capsys=capsys)
    finally:
        record.unlink()
    assert code == 3
    assert lines[2].endswith("CIFAR-10-C were computed by `tta corrupt`, not published")


def test_a_method_that_fails_is_told(data, tmp_path, capsys):
    (tmp_path / "plain.py").write_text(MODEL.replace("nn.BatchNorm2d(4)", "nn.ReLU()"))
    asked = ["cifar10-c/bn", "--data", data, "--model", f"{tmp_path / 'plain.py'}:small", "--limit", "2"]
    code, lines, _ = run(*asked, capsys=capsys)
    assert (code, lines[0]) == (3, "cifar10-c/bn: failed")
    assert "batch norm" in lines[1]


def test_what_is_missing_is_told_with_where_and_what(data, tmp_path, capsys):
    code, lines, _ = run(
        "cifar10-c/cotta", "cifar10-c/rmt", "--data", tmp_path, "--out", tmp_path / "out", capsys=capsys
    )
    assert code == 2
    assert lines[0] == "cifar10-c/cotta: missing"
    assert f"CIFAR-10-C is not in {tmp_path}/CIFAR-10-C or {tmp_path}/cifar10/CIFAR-10-C" in lines[1]
    assert "NAME.npy, five severities after each other, and labels.npy" in lines[1]
    assert "CIFAR-10-C.tar (MD5 56bf5dcef84df0e2308c6dcbcbbd8499)" in lines[1]
    assert "robustbench/cifar10/corruptions/Standard.pt is not there (no published hash)" in lines[2]
    assert "cifar-10-python.tar.gz" in " ".join(lines[lines.index("cifar10-c/rmt: missing") :])
    rows = json.loads((tmp_path / "out" / "reproduction.json").read_text())["verdicts"]
    assert [(row["verdict"], row["measured"]) for row in rows] == [("missing", None), ("missing", None)]
    # Only the checkpoint.
    code, lines, _ = run("cifar10-c/cotta", "--data", data, capsys=capsys)
    assert (code, len(lines)) == (2, 2)
    assert "Google Drive file 1t98aEuzeTL8P7Kpd5DIrCoCL21BNZUhC, or give --weights FILE" in lines[1]
    code, lines, _ = run("cifar10-c/cotta", "--data", data, "--weights", tmp_path / "no.pt", capsys=capsys)
    assert (code, len(lines)) == (2, 2)
    assert "no.pt is not there" in lines[1]


def test_imagenet_c_needs_its_parts_the_list_and_the_checkpoint(tmp_path, capsys):
    code, lines, _ = run("imagenet-c/source", "--stored", tmp_path, capsys=capsys)
    assert code == 2
    for line, words in zip(
        lines[1:], (("noise.tar (MD5 e80562d7", "WNID"), ("5,000 images",), ("0676ba61",)), strict=True
    ):
        assert all(word in line for word in words), line


def test_a_set_that_is_incomplete_says_what_it_lacks(data, tmp_path, capsys):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for name in corruptions.COMMON[:-2]:
        (folder / f"{name}.npy").symlink_to(data / "CIFAR-10-C" / f"{name}.npy")
    _, lines, _ = run("cifar10-c/bn", "--stored", folder, "--model", model_file(tmp_path), capsys=capsys)
    assert f"{folder} lacks pixelate, jpeg_compression" in lines[1]
    # One set is never taken for another.
    _, lines, _ = run("cifar100-c/bn", "--stored", data / "CIFAR-10-C", "--model", model_file(tmp_path), capsys=capsys)
    assert "CIFAR-100-C is not in" in lines[1]


def test_damaged_weights_are_told_and_the_next_entry_runs(data, narrow, tmp_path, capsys):
    ledger = own_ledger(tmp_path / "ledger.json", {"source": 1.0, "bn": 2.0}, domains=["fog"], seeds=[1])
    weights = tmp_path / "Standard.pt"
    torch.save(narrow, weights)
    asked = ["cifar10-c/source", "cifar10-c/bn", "--data", data, "--ledger", ledger, "--weights", weights]
    code, lines, _ = run(*asked, capsys=capsys)
    assert (code, [line.split(": ")[1] for line in lines if line[0] != " "]) == (3, ["not the published protocol"] * 2)
    weights.write_bytes(b"<!doctype html>")
    code, lines, _ = run(*asked, capsys=capsys)
    assert code == 2
    assert [line for line in lines if line[0] != " "] == ["cifar10-c/source: missing", "cifar10-c/bn: missing"]
    assert "Standard.pt" in lines[1]
    assert "web page" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cifar10-c/cota", "did you mean 'cifar10-c/cotta'"),
        ("cifar10-c/bn --limit 0", "--limit is 0"),
        ("cifar10-c/bn --workers 0", "workers"),
        ("cifar10-c/bn cifar100-c/bn --weights a.pt", "--weights is for one model"),
        ("*/bn --model digits", "--model is for one model"),
        ("cifar10-c/bn --ledger {}/no.json", "no.json is not there"),
        ("cifar10-c/bn --out {}/file", "is a file"),
        ("cifar10-c/bn --data {data} --model {}/model.py:none", "none"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    model_file(tmp_path)
    code, lines, err = run(*arguments.format(tmp_path, data=data).split(), capsys=capsys)
    assert (code, lines, len(err.splitlines())) == (2, [], 1)
    assert message in err


def test_the_ledger_is_listed(capsys):
    code, lines, _ = run(capsys=capsys)
    assert code == 0
    assert sum(line.startswith("  ") for line in lines) == len(read_ledger().entries)
    code, lines, _ = run("--list", "cifar100-c/tent", capsys=capsys)
    assert code == 0
    assert lines[1].startswith(
        "CIFAR-100-C, severity 5, 15 domains, 10,000 images each; continual order, images shuffled"
    )
    assert " ".join(lines[2].split()) == "cifar100-c/tent 62.2 60.9 COT, 61.4 RES, 32.8 SUR tent 5x BM"
    assert [line.partition(":")[0] for line in lines[3:]] == ["BM", "COT", "RES", "SUR"]


# --- The lab ---


def lab(name, places):
    (entry,) = read_ledger().select([name])
    return PublishedLab(entry, places)


def scenario(lab):
    protocol = lab.protocol
    return Scenario(protocol.order, protocol.arrangement, "none", protocol.batch_size, protocol.reset)


def test_gradual_streams_have_the_published_orders_and_images_in_file_order(data):
    gradual = lab("cifar10-c-gradual/cotta", Places(data))
    stream = gradual.stream(scenario(gradual), 3)
    visits = [[stream.domains[number].label for number in visit.domain.unique()] for visit in stream.visits()]
    assert len(visits) == 131
    assert visits[:7] == [[f"shot_noise@{s}"] for s in (5, 4, 3, 2, 1)] + [["fog@1"], ["fog@2"]]
    assert list(dict.fromkeys(visit[0].partition("@")[0] for visit in visits)) == list(published_order(3))
    batch = next(iter(stream))
    stored = np.load(data / "CIFAR-10-C" / "shot_noise.npy")[4 * COUNT :]
    assert torch.equal(batch.x, torch.from_numpy(stored).permute(0, 3, 1, 2) / 255)


def test_the_benchmark_shuffles_and_mixes(data):
    continual, mixed = lab("cifar10-c/bn", Places(data)), lab("cifar10-c-mixed/bn", Places(data))
    first, second = (continual.stream(scenario(continual), seed) for seed in (1, 2))
    assert [domain.label for domain in first.domains] == [f"{name}@5" for name in corruptions.COMMON]
    assert first.hash != second.hash
    (visit,) = mixed.stream(scenario(mixed), 1).visits()
    assert len(visit.index) == 15 * COUNT
    assert len(visit.domain[:10].unique()) > 3


@pytest.fixture
def imagenet_c(tmp_path):
    """Three listed images and one that is not, of two classes, in the folders of the archives."""
    rng, wnid = np.random.default_rng(0), wnids()
    files = [f"{wnid[7]}/ILSVRC2012_val_2.JPEG", f"{wnid[3]}/ILSVRC2012_val_9.JPEG", f"{wnid[7]}/ILSVRC2012_val_1.JPEG"]
    for number, name in enumerate(corruptions.COMMON):
        for file in (*files, f"{wnid[5]}/ILSVRC2012_val_5.JPEG"):
            path = tmp_path / "ImageNet-C" / f"part{number // 4}" / name / "5" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8)).save(path)
    (tmp_path / "imagenet_test_image_ids.txt").write_bytes("\r\n".join(files).encode())
    return tmp_path


def test_imagenet_c_has_the_listed_images_in_their_order(imagenet_c):
    listed = lab("imagenet-c-ten-orders/bn", Places(imagenet_c))
    data = listed.images("fog", 5)
    assert data.labels.tolist() == [7, 3, 7]
    assert len(data.classes) == 1000
    assert data.shape == (3, 14, 14)
    stream = listed.stream(scenario(listed), 0)
    assert [domain.name for domain in stream.domains] == list(published_order(0))
    assert next(iter(stream)).y.tolist() == [7, 3, 7]
    names = (imagenet_c / "imagenet_test_image_ids.txt").read_bytes().split()
    assert list_sha256(imagenet_c / "imagenet_test_image_ids.txt") == hashlib.sha256(b"\n".join(names)).hexdigest()


def test_imagenet_c_with_another_list_or_another_checkpoint_is_not_published(imagenet_c, tmp_path, capsys):
    asked = ["imagenet-c/source", "--data", imagenet_c, "--model", f"{model_file(tmp_path)}(1000)"]
    code, lines, _ = run(*asked, capsys=capsys)
    assert code == 3
    assert "  3 images per visit instead of 5,000" in lines
    assert any("is not the published list, whose SHA-256 is d4121626" in line for line in lines)
    weights = tmp_path / "resnet50.pth"
    weights.write_bytes(b"no checkpoint")
    listed = lab("imagenet-c/source", Places(imagenet_c, weights=weights))
    found = listed.unlike(Results([Row("source", 1, "continual", 64, "never", 0, "fog", 5, 5000, "error", 82.0)]))
    assert len(found) == 2
    assert found[0].endswith("resnet50.pth is not the published one, whose SHA-256 begins with 0676ba61")


def test_a_listed_image_that_is_not_there_is_missing(imagenet_c, tmp_path, capsys):
    next((imagenet_c / "ImageNet-C").glob(f"*/snow/5/{wnids()[3]}/*")).unlink()
    (entry,) = read_ledger().select(["imagenet-c/source"])
    torch.save({}, tmp_path / "resnet50.pth")
    verdict = reproduce(entry, Places(imagenet_c, weights=tmp_path / "resnet50.pth"))
    assert verdict.verdict == "missing"


def test_source_images_are_counted(data):
    results = Results([Row("santa", 1, "continual", 200, "never", 0, "fog", 5, 10_000, "error", 16.0)])
    assert lab("cifar10-c/santa", Places(data)).unlike(results) == ["30 source images instead of 50,000"]
    assert lab("cifar10-c/eata", Places(data)).unlike(results) == ["30 source images instead of 2,000"]
    assert lab("cifar10-c/tent", Places(data)).unlike(results) == []


def test_enlarged_images_are_those_of_torchvision():
    from torchvision.transforms import CenterCrop, Compose, Resize

    x = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    data = ArrayImages("x", x, np.zeros(3, np.int64))
    theirs = Compose([Resize(32), CenterCrop(28)])
    expected = np.stack([np.asarray(theirs(Image.fromarray(image))) for image in x])
    enlarged = Enlarged(data, 32)
    assert torch.equal(enlarged.images(torch.tensor([2, 0])), torch.from_numpy(expected[[2, 0]]).permute(0, 3, 1, 2))
    assert enlarged.shape == (3, 28, 28)
    assert enlarged.fingerprint not in (data.fingerprint, Enlarged(data, 33).fingerprint)


def test_a_lab_is_pickled_without_what_it_has_loaded(data):
    full = lab("cifar10-c/eata", Places(data))
    full.images("fog", 5)
    assert len(full.source_data) == 30
    again = pickle.loads(pickle.dumps(full))
    assert (again.entry.id, again._images) == ("cifar10-c/eata", {})
    assert len(pickle.dumps(full)) < 5000
