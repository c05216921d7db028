"""CCC: paths as published, streams that keep their accuracy, measured once and continued where it stopped."""

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import corruptions
import tta
from corruptions import CorruptionError, corrupt, jpeg
from corruptions.op import get
from tta.ccc import CCC, DIFFICULTIES, Node, make_ccc
from tta.ccc_accuracy import Accuracies, cell_name
from tta.ccc_path import find_path
from tta.cli import main
from tta.errors import TTAError
from tta.intruders import Intruders, noise_domain
from tta.random_crops import crop_size, random_crops
from tta.streams import make_stream

POOL = ("gaussian_noise", "contrast", "pixelate")


def slow_path(surface, target):
    """The published definition, by recursion over whole paths."""
    size = len(surface)

    @cache
    def best(i, j):
        if j >= size:
            return 9999999999999, None
        if i == 0:
            return surface[i][j], ((i, j),)
        means = []
        for total, path in (best(i - 1, j), best(i, j + 1)):
            means.append(abs((total + surface[i][j]) / ((len(path) if path else 1) + 1) - target))
        total, path = best(i - 1, j) if means[0] < means[1] else best(i, j + 1)
        return total + surface[i][j], ((i, j), *(path or ()))

    starts = [best(i, 0) for i in range(1, size)]
    errors = [abs(total / len(path) - target) for total, path in starts]
    return list(starts[errors.index(min(errors))][1])


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 20.0, 40.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_paths_are_those_of_the_published_recursion(seed, target, falling):
    rng = np.random.default_rng(seed)
    surface = rng.uniform(0, 80, (21, 21))
    if falling:  # as real ones: harder with every severity
        surface = 76 * np.exp(-np.add.outer(np.arange(21), np.arange(21)) * rng.uniform(0.02, 0.2))
    assert find_path(surface, target) == slow_path(surface.tolist(), target)


@given(st.integers(0, 2**32 - 1), st.integers(2, 21))
@settings(max_examples=30, deadline=None)
def test_paths_are_monotone_from_one_axis_to_the_other(seed, size):
    surface = np.random.default_rng(seed).integers(0, 5, (size, size)).astype(float)
    path = find_path(surface, 2.0)
    assert path[0][1] == 0
    assert path[0][0] > 0
    assert path[-1][0] == 0
    assert all(i > 0 for i, _ in path[:-1])
    assert all((a - c, d - b) in ((1, 0), (0, 1)) for (a, b), (c, d) in pairwise(path))


@pytest.mark.parametrize("target", [20.0, 40.0])
def test_paths_keep_the_target_where_it_can_be_reached(target):
    surface = 76 * np.exp(-np.add.outer(np.arange(21), np.arange(21)) * 0.1)
    path = find_path(surface, target)
    values = [surface[node] for node in path]
    assert abs(np.mean(values) - target) < 1.5
    assert np.std(values) < 8


def test_a_target_out_of_reach_gives_the_longest_path():
    surface = 76 * np.exp(-np.add.outer(np.arange(21), np.arange(21)) * 0.1)
    assert len(find_path(surface, 0.0)) == 41


def test_pools_are_the_published_ones():
    assert [len(pool) for _, pool in DIFFICULTIES.values()] == [14, 13, 4]
    assert "brightness" not in DIFFICULTIES["easy"][1]
    assert "jpeg_compression" not in DIFFICULTIES["medium"][1]


X = torch.zeros(1, 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "parameters", "severity", "expected"),
    [
        ("gaussian_noise", "sigma", 0.25, 0.02),
        ("gaussian_noise", "sigma", 2.5, 0.15),
        ("shot_noise", "photons", 0.5, 120),
        ("shot_noise", "photons", 4.5, 3.75),
        ("impulse_noise", "amount", 0.5, 0.015),
        ("defocus_blur", "disk", 4.5, (9, 0.5)),
        ("glass_blur", "rounded", 0.25, (0.175, 1, 0)),
        ("glass_blur", "rounded", 3.5, (1.05, 2, 2)),
        ("motion_blur", "streak", 0.5, (5, 1.5)),
        ("zoom_blur", "zoom", 0.5, (1.055, 0.01)),
        ("snow", "flakes", 0.5, (0.1, 0.3, 3, 0.75, 10, 4, 0.9)),
        ("frost", "weights", 0.25, (1, 0.1)),
        ("fog", "fog", 0.5, (0.75, 2)),
        ("contrast", "gain", 0.5, 0.7),
        ("pixelate", "scale", 0.25, 0.9),
        ("jpeg_compression", "quality", 0.25, 70),
        ("elastic_transform", "parameters", 0.5, (244, (999 + 0.7 * 244) / 2, 12.2)),
    ],
)
def test_quarter_severities_interpolate_the_published_tables(name, parameters, severity, expected):
    found = getattr(get(name), parameters)(X, severity)
    assert found == pytest.approx(expected)


class Dim(torch.nn.Module):
    """Right about an image of class k (see `Shades`) as long as it is clean enough."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.1, 0.9, 4))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        flat = x.std((1, 2, 3))[:, None] * 2  # noise raises it, contrast lowers it
        return -(flat - self.weight).abs()


class Shades:
    """Images of four contrasts, which are their classes."""

    name, classes, note = "shades", ("a", "b", "c", "d"), "shades"
    fingerprint = "shades"

    def __init__(self, n=40):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(n) % 4
        spread = torch.linspace(0.1, 0.9, 4)[self.labels][:, None, None, None]
        noise = torch.rand(n, 3, 16, 16, generator=generator).round() - 0.5
        self.x = ((0.5 + spread * noise) * 255).to(torch.uint8)
        self.keys = torch.arange(n)

    def __len__(self):
        return len(self.labels)

    def images(self, index):
        return self.x[index]


def accuracies(folder=None, **options):
    return Accuracies(Dim(), Shades(), folder=folder, images=24, batch_size=10, **options)


def test_a_cell_is_the_accuracy_on_images_under_both_corruptions():
    measured = accuracies()
    surface = measured.surface("contrast", "gaussian_noise")
    assert surface.shape == (21, 21)
    data, index = Shades(), measured.index
    for s1, s2 in ((0, 0), (5, 0), (0, 3), (2, 4)):
        x = corrupt(data.x[index], "contrast", s1, index=index)
        x = corrupt(x, "gaussian_noise", s2, index=index)
        right = (Dim()(x.float() / 255).argmax(1) == data.labels[index]).float().mean()
        assert surface[4 * s1, 4 * s2] == pytest.approx(100 * right.item())
    assert surface[2, 2] == pytest.approx(surface[[0, 4]][:, [0, 4]].mean())  # half way: bilinear
    assert surface[0, 0] > surface[20, 20]


def test_measuring_corrupts_by_the_first_once_and_shares_single_corruptions(monkeypatch):
    done = []

    def counted(x, name, severity, **options):
        done.append((name, severity))
        return corrupt(x, name, severity, **options)

    monkeypatch.setattr(corruptions, "corrupt", counted)
    measured = accuracies()
    measured.measure([("contrast", "pixelate"), ("contrast", "fog"), ("fog", "contrast")])
    batches = 3
    assert sum(name == "contrast" for name, _ in done) == batches * (5 + 5 + 5 * 5)  # alone, first, after fog
    assert len(measured.cells) == 1 + 3 * 5 + 3 * 25
    done.clear()
    measured.measure([("pixelate", "contrast")])
    assert len(done) == batches * (5 + 25)


def test_accuracies_are_kept_and_an_interrupted_measurement_continues(tmp_path):
    whole = accuracies(tmp_path / "whole")
    whole.surface("contrast", "fog")

    class Stop(Exception):
        pass

    part = accuracies(tmp_path / "part")
    row, rows = part._row, []

    def stopping(first, seconds):
        if len(rows) == 3:
            raise Stop
        rows.append(first)
        return row(first, seconds)

    part._row = stopping
    with pytest.raises(Stop):
        part.surface("contrast", "fog")
    again = accuracies(tmp_path / "part")
    assert 0 < len(again.cells) < len(whole.cells)
    again.surface("contrast", "fog")
    assert again.file.read_bytes() == (tmp_path / "part" / whole.file.name).read_bytes()
    assert json.loads(again.file.read_text())["cells"] == json.loads(whole.file.read_text())["cells"]
    third = accuracies(tmp_path / "part")
    third.surface("contrast", "fog")
    assert third.model.calls == 0
    again.file.write_text("{}")
    with pytest.raises(TTAError, match="is damaged"):
        accuracies(tmp_path / "part")


def test_other_models_data_and_options_have_other_files(tmp_path):
    other = Dim()
    other.weight.data += 1
    keys = [
        accuracies(tmp_path).key,
        Accuracies(other, Shades(), folder=tmp_path, images=24).key,
        Accuracies(Dim(), Shades(), folder=tmp_path, images=25).key,
        accuracies(tmp_path, crop=True).key,
        accuracies(tmp_path, store_jpeg=85).key,
        accuracies(tmp_path, seed=1).key,
    ]
    assert len(set(keys)) == len(keys)
    assert cell_name(("fog", 2), None) == cell_name(None, ("fog", 2))


def stream(seed=0, **options):
    ccc = CCC(**{"target": 60.0, "speed": 7, "images": 400, "names": POOL, **options})
    return make_ccc(Shades(), ACCURACIES, ccc, 16, seed)


ACCURACIES = accuracies()


def test_a_stream_is_the_same_each_time_and_another_with_another_seed():
    first, second = list(stream()), list(stream())
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(first, second, strict=True))
    assert stream().hash == stream().hash
    hashes = {stream(seed).hash for seed in (0, 1, 2)}
    hashes |= {stream(speed=8).hash, stream(images=399).hash, stream(target=50.0).hash}
    hashes |= {stream(crop=True).hash, stream(store_jpeg=85).hash, stream(names=POOL[:2]).hash}
    assert len(hashes) == 9
    assert sum(len(batch.y) for batch in first) == 400


def test_sections_follow_the_path_and_begin_where_the_last_one_ended():
    one = stream()
    domains = one.domains
    pairs = [domain.name.partition("#")[0].split(">") for domain in domains]
    assert len(pairs) > 1
    assert all(a[1] == b[0] for a, b in pairwise(pairs))
    assert len({domain.name for domain in domains}) == len(domains)
    assert one.definition["ccc"]["target"] == 60.0
    assert len(one.definition["ccc"]["expected_accuracy"]) == len(domains)
    section = domains[0].data
    path = find_path(ACCURACIES.surface(*pairs[0]), 60.0)
    assert [(4 * node.first_severity, 4 * node.second_severity) for node in section.nodes] == path
    assert len(section) == 7 * len(path)


def test_images_of_a_node_are_drawn_without_replacement_and_doubly_corrupted():
    section = stream(speed=20).domains[0].data
    assert len(set(section.index[:20].tolist())) == 20
    assert section.index[:20].tolist() != section.index[20:40].tolist()
    index = torch.tensor([3, 20, 21, 45])
    found = section.images(index)
    for image, position in zip(found, index, strict=True):
        node = section.nodes[position // 20]
        x = section.data.x[section.index[position]][None]
        key = position[None]
        if node.first_severity:
            x = corrupt(x, node.first, node.first_severity, seed=section.seed, index=key)
        if node.second_severity:
            x = corrupt(x, node.second, node.second_severity, seed=section.seed, index=key)
        assert torch.equal(image, x[0])
    assert torch.equal(section.images(index.flip(0)).flip(0), found)
    assert torch.equal(section.labels, section.data.labels[section.index])


def test_more_images_than_the_data_have_come_in_several_shuffles():
    section = stream(speed=100, images=250).domains[0].data
    assert section.index[:40].sort().values.tolist() == list(range(40))
    assert section.index[40:80].sort().values.tolist() == list(range(40))
    assert section.index[:40].tolist() != section.index[40:80].tolist()


def test_intruders_come_in_every_section():
    ccc = CCC(target=60.0, speed=7, images=400, names=POOL)
    shape = Shades().images(torch.tensor([0])).shape[1:]
    mixed = make_ccc(Shades(), ACCURACIES, ccc, 16, intruders=Intruders("noise", 0.2, (noise_domain(shape),)))
    assert mixed.name == "ccc+noise:0.2"
    for visit, alone in zip(mixed.visits(), stream().visits(), strict=True):
        inside = visit.domain == len(mixed.domains) - 1
        assert inside.sum() == round(len(alone.index) / 4)
        assert torch.equal(visit.index[~inside], alone.index)
    two = Intruders("noise", 0.2, tuple(noise_domain(shape, kind) for kind in ("noise", "noise_gaussian")))
    with pytest.raises(TTAError, match="2 domains; give one"):
        make_ccc(Shades(), ACCURACIES, ccc, 16, intruders=two)


def test_storage_as_jpeg_is_the_last_step():
    plain, stored = stream().domains[0].data, stream(store_jpeg=85).domains[0].data
    index = torch.arange(5)
    assert torch.equal(stored.images(index), jpeg.roundtrip(plain.images(index), 85))


def test_the_second_corruption_sees_the_truncated_result_of_the_first():
    x, index = Shades().x[:4], torch.arange(4)
    found = Node("gaussian_noise", 2.25, "contrast", 1.75).apply(x, 3, index)
    between = corrupt(x, "gaussian_noise", 2.25, seed=3, index=index)
    assert between.dtype == torch.uint8
    assert torch.equal(found, corrupt(between, "contrast", 1.75, seed=3, index=index))
    assert torch.equal(Node("fog", 0, "snow", 0).apply(x, 3, index), x)


def test_the_accuracy_of_a_stream_is_the_expected_one():
    one = make_ccc(Shades(), ACCURACIES, CCC(target=60.0, speed=24, images=1500, names=POOL), 50, 0)
    model, right, count = Dim(), 0, 0
    for batch in one:
        right += (model(batch.x).argmax(1) == batch.y).sum().item()
        count += len(batch.y)
    weights = [len(domain.data) for domain in one.domains]
    expected = np.average(one.definition["ccc"]["expected_accuracy"], weights=weights)
    assert abs(100 * right / count - expected) < 8
    assert abs(expected - 60) < 12


def test_a_target_that_is_missed_is_told():
    with pytest.warns(UserWarning, match=r"not in 20 %: no path under these corruptions comes nearer"):
        stream(target=20.0)


def test_crops_are_keyed_and_of_the_published_sizes():
    x = torch.arange(64, dtype=torch.uint8)[None, None, None] * 2 + torch.arange(64, dtype=torch.uint8)[:, None] * 2
    x = x.expand(200, 3, 64, 64).contiguous()
    keys = torch.arange(200)
    crops = random_crops(x, keys)
    assert crops.shape == x.shape
    assert torch.equal(random_crops(x[5:9], keys[5:9]), crops[5:9])
    mirrored = (crops[:, 0, 32, 0] > crops[:, 0, 32, -1]).float().mean()
    assert 0.35 < mirrored < 0.65
    spans = (crops[:, 0, 32, 0].int() - crops[:, 0, 32, -1].int()).abs().float() / 126  # width of the crop
    assert 0.2 < spans.min() < 0.4
    assert spans.max() > 0.9
    assert crop_size(100, 10, [1.0] * 10, [0.75] * 10) == (13, 10)
    assert crop_size(10, 100, [1.0] * 10, [0.75] * 10) == (10, 13)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"difficulty": "esay"}, TTAError, "did you mean 'easy'"),
        ({"speed": 0}, TTAError, "speed of CCC is 0"),
        ({"images": 0}, TTAError, "number of images of CCC is 0"),
        ({"target": 101.0}, TTAError, "from 0 to 100"),
        ({"names": ("fog",)}, TTAError, "two or more"),
        ({"names": ("fog", "fog")}, TTAError, "two or more different"),
        ({"names": ("fog", "snwo")}, CorruptionError, "did you mean 'snow'"),
        ({"store_jpeg": 0}, CorruptionError, "quality"),
    ],
)
def test_values_that_make_no_stream_say_why(options, error, message):
    with pytest.raises(error, match=message):
        stream(**options)


def test_the_order_needs_sections():
    with pytest.raises(TTAError, match="make_ccc"):
        make_stream([tta.Domain("d", 1, Shades())], "ccc")


def test_bench_runs_ccc_on_the_digits(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TTA_CACHE", str(tmp_path / "cache"))
    arguments = ["bench", "--order", "ccc", "--ccc-target", "60", "--ccc-speed", "10", "--ccc-images", "150"]
    arguments += ["--domains", "contrast", "gaussian_noise", "--methods", "source", "bn", "--limit", "64"]
    arguments += ["--batch-size", "16", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "measuring" in shown.err
    (file,) = (tmp_path / "cache").glob("ccc-*.json")
    assert len(json.loads(file.read_text())["cells"]) in (36, 61)
    assert main(arguments) == 0
    again = capsys.readouterr().err
    assert "measuring" not in again  # and the stream is the same, so that its results are kept
    assert again.count("kept from an earlier run") == 2
    assert main([*arguments[:-2], "--stored", str(tmp_path)]) == 2
