"""The lab of a command's options: which images, domains and intruders they stand for."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import corruptions
from tta.cli import main
from tta.datasets import load_data
from tta.errors import TTAError
from tta.published_orders import published_order
from tta.scenarios import Scenario
from tta.setup import Setup
from tta.setup_lab import SetupLab


def lab(**options):
    return SetupLab(Setup(limit=20, **options))


def test_the_usual_domains_are_the_15_common_corruptions():
    stream = lab().stream(Scenario(), 0)
    assert [domain.name for domain in stream.domains] == list(corruptions.COMMON)
    assert {domain.severity for domain in stream.domains} == {5}


def test_published_orders_and_clean_images():
    stream = lab(domains=("published:3",), severity=2).stream(Scenario(), 0)
    assert tuple(domain.name for domain in stream.domains) == published_order(3)
    made = lab(domains=("fog", "clean"))
    clean = made.stream(Scenario(), 0).domains[1]
    assert clean.severity == 0
    everything = torch.arange(20)
    assert torch.equal(clean.data.images(everything), made.images.images(everything))
    for wrong in ("published:10", "published:", "published:x"):
        with pytest.raises(TTAError, match="no published order"):
            lab(domains=(wrong,)).setup.check_setup()


def test_images_are_computed_once_for_all_scenarios_of_a_seed():
    made = lab(domains=("fog",))
    one, two = made.stream(Scenario(), 0), made.stream(Scenario("mixed", batch_size=3), 0)
    assert one.domains[0].data is two.domains[0].data
    assert made.stream(Scenario(), 1).domains[0].data is not one.domains[0].data


@pytest.mark.parametrize("kind", ["noise:0.25", "benign:0.25", "poison_nhe:0.25"])
def test_intruders_come_beside_the_same_images(kind):
    made = lab(domains=("fog", "contrast"))
    plain, joined = made.stream(Scenario(), 0), made.stream(Scenario(intruders=kind), 0)
    intruding = [domain for domain in joined.domains if not domain.scored]
    assert intruding
    count = {True: 0, False: 0}
    seen = []
    for batch in joined:
        for label, number, index in zip(batch.y.tolist(), batch.domain.tolist(), batch.index.tolist(), strict=True):
            scored = joined.domains[number].scored
            assert (label == -1) != scored
            count[scored] += 1
            seen += [(number, index)] if scored else []
    assert count == {True: 40, False: 14}
    assert seen == [pair for batch in plain for pair in zip(batch.domain.tolist(), batch.index.tolist(), strict=True)]


def test_pictures_of_something_else_need_a_name_for_the_digits_are_the_data():
    stream = lab(domains=("fog",), ood="digits").stream(Scenario(intruders="ood:0.5"), 0)
    assert [domain.scored for domain in stream.domains] == [True, False]


def test_a_lab_is_pickled_without_what_it_has_loaded():
    made = lab(domains=("fog",))
    content = pickle.dumps(made)
    made.stream(Scenario(), 0)
    assert pickle.dumps(made) == content
    again = pickle.loads(content).stream(Scenario(), 0)
    assert again.hash == made.stream(Scenario(), 0).hash


@pytest.fixture
def paintings(tmp_path):
    """Two domains of ten classes of digits, as picture files."""
    root = tmp_path / "paintings"
    source = load_data("digits", limit=60)  # some of every class
    for domain, offset in (("photo", 0), ("sketch", 60)):
        for number, (image, label) in enumerate(zip(source.images(slice(None)), source.labels, strict=True)):
            folder = root / domain / str(label.item())
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(image.permute(1, 2, 0).numpy().astype(int) + offset, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def test_folders_of_domains_are_the_stream(paintings, capsys):
    made = lab(dataset=str(paintings), model="digits", size=32)
    stream = made.stream(Scenario(), 0)
    assert [domain.label for domain in stream.domains] == ["photo@0", "sketch@0"]
    assert made.probe is None
    arguments = [
        "bench",
        "--dataset",
        str(paintings),
        "--model",
        "digits",
        "--methods",
        "source",
        "bn",
        "--threads",
        "1",
    ]
    assert main([*arguments, "--domains", "sketch"]) == 0
    shown = capsys.readouterr().out
    assert "sket" in shown
    assert "phot" not in shown
    assert main([*arguments, "--domains", "fog"]) == 2
    assert "has no domain 'fog'; it has photo, sketch" in capsys.readouterr().err
    assert main([*arguments, "--intruders", "poison_nhe"]) == 2
    assert "which natural domains and the order ccc do not have" in capsys.readouterr().err


FIRST = """
import torch
from torch import nn

class First(nn.Module):
    "Always the first class: wrong for a fifth of the images, and for one class of two."

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x):
        return self.logits.expand(len(x), 2)
"""


def test_medmnist_is_told_in_errors_averaged_over_classes(tmp_path, capsys):
    generator = np.random.default_rng(0)
    parts = {
        f"{split}_images": generator.integers(0, 256, (20, 28, 28), np.uint8) for split in ("train", "val", "test")
    }
    labels = (np.arange(20) % 5 == 0).astype(np.uint8)[:, None]
    np.savez(tmp_path / "pneumoniamnist.npz", **parts, **{f"{s}_labels": labels for s in ("train", "val", "test")})
    (tmp_path / "model.py").write_text(FIRST)
    options = f"--dataset pneumoniamnist --data {tmp_path} --model {tmp_path}/model.py:First"
    assert main(["bench", *options.split(), "--methods", "source", "--domains", "clean"]) == 0
    shown = capsys.readouterr().out
    assert "Error averaged over the classes in %" in shown
    assert "| 50.0 |" in shown


def test_labels_that_do_not_reach_all_classes_of_the_model_fit_it(tmp_path, capsys):
    data = load_data("digits", limit=12)
    x, y = data.images(slice(None)).permute(0, 2, 3, 1).numpy(), data.labels.numpy() % 4
    np.savez(tmp_path / "few.npz", x=x, y=y)
    options = f"--dataset {tmp_path}/few.npz --model digits --methods source --domains clean --threads 1"
    assert main(["bench", *options.split()]) == 0
    np.savez(tmp_path / "few.npz", x=x, y=y + 10)
    assert main(["bench", *options.split()]) == 2
    assert "choose a model and data that belong together" in capsys.readouterr().err


def test_source_data_are_of_the_split_that_is_named():
    made = SetupLab(Setup(limit=20), source_split="test")
    assert len(made.source_data) == 1000, "the limit is that of the stream"
    assert len(lab().source_data) == 797
    assert pickle.loads(pickle.dumps(made)).source_split == "test"
