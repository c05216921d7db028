"""Stored corruption sets: written as they are computed, whatever happens on the way, and read in their real layouts."""

import errno
import json
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import corruptions
from corruptions import CorruptionError, corrupt, files
from corruptions.engines import check_engine
from corruptions.writing import Plan, write
from corruptions.writing.layout import Layout

ALL = (1.0, 2.0, 3.0, 4.0, 5.0)


class Pictures:
    """n random images, keyed by 100 + their position; at module level, so that worker processes can have them."""

    name = "pictures"

    def __init__(self, n=7, channels=3, side=32):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randint(0, 256, (n, channels, side, side), generator=generator, dtype=torch.uint8)
        self.labels, self.keys = torch.arange(n) % 3, torch.arange(n) + 100
        self.fingerprint = f"{n} {channels} {side}"

    def __len__(self):
        return len(self.x)

    def images(self, index):
        return self.x[index]


def tree(folder):
    """Bytes of every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("layout", ["cifar", "medmnist", "imagenet", "shards"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_what_is_computed_on_the_fly(tmp_path, layout, channels):
    data = Pictures(channels=channels)
    done = write(data, tmp_path / "set", Plan(layout, ("fog", "shot_noise"), seed=4, shard_images=3))
    assert done.images == 2 * 5 * 7
    assert files.names(tmp_path / "set") == ["fog", "shot_noise"]
    for name in ("fog", "shot_noise"):
        for severity in (1, 5):
            stored = files.read(tmp_path / "set", name, severity)
            expected = corrupt(data.x, name, severity, seed=4, index=data.keys)
            order = sorted(range(7), key=lambda i: (data.labels[i], i)) if layout == "imagenet" else range(7)
            found = stored.images(torch.arange(7))
            assert stored.labels.tolist() == data.labels[list(order)].tolist()
            assert torch.equal(found[:, :channels], expected[list(order)])


@pytest.mark.parametrize(("layout", "file"), [("imagenet", "fog/3/00001/00000004.JPEG"), ("shards", None)])
def test_jpeg_files_are_optimised_and_decode_to_what_store_jpeg_gives(tmp_path, layout, file):
    data = Pictures()
    write(data, tmp_path / "set", Plan(layout, ("fog",), (3.0,), store_jpeg=85))
    expected = corrupt(data.x, "fog", 3, index=data.keys, store_jpeg=85)
    stored = files.read(tmp_path / "set", "fog", 3).images([4])[0]
    if file:
        pixels = np.asarray(Image.open(tmp_path / "set" / file))
        assert np.array_equal(pixels, expected[4].permute(1, 2, 0).numpy())
    else:
        assert torch.equal(stored, expected[4])


def test_cifar_is_severity_major_with_labels_five_times_and_a_record(tmp_path):
    data = Pictures()
    write(data, tmp_path, Plan("cifar", ("contrast",), quantise="round"), notes={"unreadable": ["a"]})
    array, labels = np.load(tmp_path / "contrast.npy"), np.load(tmp_path / "labels.npy")
    assert array.shape == (35, 32, 32, 3)
    assert array.dtype == np.uint8
    assert labels.tolist() == data.labels.tolist() * 5
    for s in range(5):
        expected = corrupt(data.x, "contrast", s + 1, index=data.keys, quantise="round")
        assert np.array_equal(array[7 * s : 7 * s + 7], expected.permute(0, 2, 3, 1).numpy())
    record = json.loads((tmp_path / "corruptions.json").read_text())
    assert record["names"] == ["contrast"]
    assert (record["seed"], record["quantise"], record["store_jpeg"]) == (0, "round", None)
    assert record["severities"] == [1, 2, 3, 4, 5]
    assert record["data"] == {"name": "pictures", "fingerprint": "7 3 32", "images": 7, "shape": [3, 32, 32]}
    assert set(record["versions"]) == {"corruptions", "torch", "numpy", "pillow"}
    assert record["frost"] == corruptions.frost_source()
    assert record["unreadable"] == ["a"]
    assert record["complete"] is True
    assert sorted(os.listdir(tmp_path)) == ["contrast.npy", "corruptions.json", "labels.npy"]


def test_any_number_of_workers_writes_the_same_bytes(tmp_path):
    plan = Plan("shards", ("gaussian_noise", "glass_blur"), (2.0, 2.5), shard_images=3, store_jpeg=90)
    write(Pictures(), tmp_path / "one", plan)
    write(Pictures(), tmp_path / "two", plan, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert len(tree(tmp_path / "one")) == 2 * 2 * 3 + 1


@pytest.mark.parametrize("layout", ["cifar", "medmnist", "imagenet", "shards"])
def test_an_interrupted_set_continues_with_what_is_missing_to_the_same_bytes(tmp_path, layout):
    plan = Plan(layout, ("fog", "contrast"), shard_images=3)
    whole = write(Pictures(), tmp_path / "whole", plan)

    def stop(finished, _):
        if finished == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(Pictures(), tmp_path / "part", plan, watch=stop)
    assert not (tmp_path / "part" / "contrast.npy").exists()
    rest = write(Pictures(), tmp_path / "part", plan)
    assert (rest.resumed, rest.units) == (6, whole.units)
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")
    again = write(Pictures(), tmp_path / "part", plan)
    assert again.resumed == again.units
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")


def test_a_folder_with_another_set_or_other_things_is_refused(tmp_path):
    plan = Plan("cifar", ("contrast",))
    write(Pictures(), tmp_path / "set", plan)
    with pytest.raises(CorruptionError, match=r"its seed is 0, not 1; give\s+the same options"):
        write(Pictures(), tmp_path / "set", Plan("cifar", ("contrast",), seed=1))
    with pytest.raises(CorruptionError, match="its data is"):
        write(Pictures(8), tmp_path / "set", plan)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(CorruptionError, match=r"holds other things, such as thesis\.tex"):
        write(Pictures(), tmp_path / "other", plan)
    with pytest.raises(CorruptionError, match="is a file"):
        write(Pictures(), tmp_path / "other" / "thesis.tex", plan)


@pytest.mark.parametrize("layout", ["cifar", "imagenet"])
def test_removed_files_are_noticed_and_written_again(tmp_path, layout):
    plan = Plan(layout, ("contrast", "fog"))
    write(Pictures(), tmp_path, plan)
    before = tree(tmp_path)
    victim = tmp_path / ("fog.npy" if layout == "cifar" else "fog/4/00002/00000005.png")
    victim.unlink()
    with pytest.raises(CorruptionError, match=r"images of fog, not 35: files were removed"):
        write(Pictures(), tmp_path, plan)
    resumed = write(Pictures(), tmp_path, plan)
    assert resumed.resumed == 5
    assert tree(tmp_path) == before


@pytest.mark.parametrize("layout", ["cifar", "imagenet", "shards"])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing_unfinished(tmp_path, layout, monkeypatch):
    real, calls = os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    plan = Plan(layout, ("contrast", "fog", "pixelate"))
    with pytest.raises(CorruptionError, match=r"disk of .* is full; free space"):
        write(Pictures(), tmp_path / "part", plan)
    monkeypatch.undo()
    assert not [name for name in tree(tmp_path / "part") if name.endswith(".part")]
    write(Pictures(), tmp_path / "part", plan)
    write(Pictures(), tmp_path / "whole", plan)
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")


def test_a_disk_too_small_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(Layout, "write", lambda *_: pytest.fail("computed"))
    with pytest.raises(CorruptionError, match="is full"):
        write(Pictures(), tmp_path, Plan("cifar", ("contrast",)))
    assert [name for name in tree(tmp_path)] == ["corruptions.json", "labels.npy"]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("zip", ("fog",)), "unknown format 'zip'"),
        (Plan("cifar", ("fgo",)), "did you mean 'fog'"),
        (Plan("cifar", ()), "no corruption"),
        (Plan("cifar", ("fog", "fog")), "given twice"),
        (Plan("cifar", ("fog",), (1.0, 2.0)), "holds the severities 1 2 3 4 5, not 1 2"),
        (Plan("imagenet", ("fog",), (6.0,)), "severity is 6"),
        (Plan("shards", ("fog",), shard_images=0), "at least 1"),
        (Plan("imagenet", ("fog",), store_jpeg=101), "quality from 1 to 100"),
    ],
)
def test_plans_that_cannot_be_written_say_why(tmp_path, plan, message):
    with pytest.raises(CorruptionError, match=message):
        write(Pictures(), tmp_path / "set", plan)
    assert not (tmp_path / "set").exists()


def test_engines_are_checked():
    with pytest.raises(CorruptionError, match="at least 1"):
        check_engine("processes", 0)
    with pytest.raises(CorruptionError, match="choose from processes, ray"):
        check_engine("slurm", 1)


def test_ray_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(CorruptionError, match=r"pip install 'tta-harness\[ray\]'"):
        check_engine("ray", 2)


def test_a_ray_cluster_writes_the_same_bytes(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    plan = Plan("shards", ("contrast",), (2.0, 5.0), shard_images=3)
    write(Pictures(), tmp_path / "one", plan)
    write(Pictures(), tmp_path / "two", plan, workers=2, engine="ray")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_shards_are_tars_of_pairs_without_dates(tmp_path):
    write(Pictures(), tmp_path, Plan("shards", ("contrast",), (3.0,), shard_images=4))
    with tarfile.open(tmp_path / "contrast-3-000001.tar") as shard:
        members = shard.getmembers()
        assert [m.name for m in members[:3]] == ["000000004.png", "000000004.cls", "000000005.png"]
        assert {(m.mtime, m.uid, m.uname) for m in members} == {(0, 0, "")}
        assert shard.extractfile("000000005.cls").read() == b"2"


def test_shards_of_another_tool_with_longer_extensions_are_read(tmp_path):
    image = np.full((8, 8, 3), 77, np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    (tmp_path / "y").write_text("9")
    with tarfile.open(tmp_path / "fog-2-000000.tar", "w") as shard:
        shard.add(tmp_path / "x.png", "sample_0.input.png")
        shard.add(tmp_path / "y", "sample_0.output.cls")
    stored = files.read(tmp_path, "fog", 2)
    assert stored.labels.tolist() == [9]
    assert (stored.images([0]) == 77).all()


def test_loading_says_which_severity_order_it_found(tmp_path):
    images = np.arange(30, dtype=np.uint8).repeat(12).reshape(30, 2, 2, 3)
    np.save(tmp_path / "fog.npy", images)
    labels = np.array([4, 1, 0, 2, 5, 3])
    for stored_labels, words, third in (
        (np.tile(labels, 5), "severity-major", range(12, 18)),
        (labels.repeat(5), "image-major", range(2, 30, 5)),
        (labels, "labels are given once", range(12, 18)),
        (np.arange(30), "assumed", range(12, 18)),
    ):
        np.save(tmp_path / "labels.npy", stored_labels)
        stored = files.read(tmp_path, "fog", 3)
        assert words in stored.note
        assert stored.images(range(6))[:, 0, 0, 0].tolist() == list(third)
    np.save(tmp_path / "labels.npy", labels.repeat(5))
    assert files.read(tmp_path, "fog", 3).labels.tolist() == labels.tolist()


@pytest.mark.parametrize(("images", "labels"), [(31, 31), (30, 29), (30, 7), (0, 0)])
def test_lengths_that_do_not_match_are_refused(tmp_path, images, labels):
    np.save(tmp_path / "fog.npy", np.zeros((images, 2, 2, 3), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(labels, np.int64))
    with pytest.raises(CorruptionError, match=r"images and .* labels; expected N images for each of 5"):
        files.read(tmp_path, "fog", 1)


def test_what_is_not_stored_is_told_with_what_is(tmp_path):
    write(Pictures(), tmp_path, Plan("cifar", ("contrast",)))
    with pytest.raises(CorruptionError, match="it holds contrast"):
        files.read(tmp_path, "fog", 1)
    with pytest.raises(CorruptionError, match="choose 1 to 5"):
        files.read(tmp_path, "contrast", 6)
    (tmp_path / "snow-1-000000.tar").write_bytes(b"no tar")
    with pytest.raises(CorruptionError, match="cannot be read as a shard"):
        files.read(tmp_path, "snow", 1)


def test_robustbench_reads_the_cifar_layout(tmp_path):
    """The reading of RobustBench's load_cifar10c, which takes the first n of the 10,000 images of a severity."""
    data = Pictures(n=10, side=32)
    write(data, tmp_path / "CIFAR-10-C", Plan("cifar", ("shot_noise",)))
    images = np.load(tmp_path / "CIFAR-10-C" / "shot_noise.npy")[10 * 3 : 10 * 4][:6]
    x = torch.tensor(np.transpose(images.astype(np.float32) / 255, (0, 3, 1, 2)))
    y = torch.tensor(np.load(tmp_path / "CIFAR-10-C" / "labels.npy")[:6])
    assert torch.equal(y, data.labels[:6])
    expected = corrupt(data.x, "shot_noise", 4, index=data.keys)[:6]
    assert torch.equal((x * 255).round().to(torch.uint8), expected)


def test_a_suite_with_a_slash_in_its_names_is_written_under_their_last_part(tmp_path):
    from corruptions.writing.layout import Unit, stem

    assert stem("medmnist-c/bloodmnist/bubble") == "bubble"
    assert "/" not in Unit("medmnist-c/bloodmnist/bubble", 3, 0, 4).key
