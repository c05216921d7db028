"""Shift consistency: networks of known behaviour, and a loop over single images."""

import numpy as np
import pytest
import torch
from torch import nn

import tta
from tta.errors import TTAError
from tta.registry import wrap
from tta.shift_consistency import framed, offsets, shift_consistency


class Images:
    name = "images"

    def __init__(self, x, labels):
        self.x, self.labels, self.fingerprint = x, labels, "images"

    def __len__(self):
        return len(self.x)

    def images(self, index):
        return self.x[index]


class Middle(nn.Module):
    """Says 1 if the middle pixel is bright, else 0; looks at nothing else."""

    def forward(self, x):
        bright = x[:, 0, x.shape[2] // 2, x.shape[3] // 2]
        return torch.stack([1 - bright, bright], 1)


class Mean(nn.Module):
    """The mean of all pixels: a circular shift would not change it."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), x.mean((1, 2, 3)) - 0.5], 1)


def dots(*places, size=7):
    """One image per place, black but for a white pixel there."""
    x = torch.zeros(len(places), 1, size, size)
    for i, (row, column) in enumerate(places):
        x[i, :, row, column] = 1
    return Images(x, torch.tensor([int(place == (size // 2, size // 2)) for place in places]))


def test_a_dot_in_the_middle_is_lost_by_every_shift():
    found = shift_consistency(Middle(), dots((3, 3)))
    assert found == (0, 100, 100, 100, 8, 1)


def test_a_dot_beside_the_middle_is_found_by_one_shift():
    data = dots((3, 3), (2, 3), (2, 2), (0, 0))
    found = shift_consistency(Middle(), data, batch_size=3)
    # flips: all 8 of the first image, one of the second, one (diagonal) of the third, none of the last
    assert found == (25, 75, pytest.approx(100 * 10 / 32), 75, 8, 4)
    found = shift_consistency(Middle(), data, diagonal=False)
    assert found == (50, 50, pytest.approx(100 * 5 / 16), 50, 4, 4)
    assert shift_consistency(Middle(), data, pixels=3).adversarial_flip_rate == 100


def test_crops_see_what_is_there():
    # the crop of 5 in the middle of 7: shifted by one pixel it still has its own middle
    found = shift_consistency(Middle(), dots((3, 3), (2, 3)), crop=5)
    assert found.adversarial_flip_rate == 100
    assert shift_consistency(Middle(), dots((0, 0)), crop=5).consistency == 100
    x = torch.arange(49.0).view(1, 1, 7, 7)
    assert torch.equal(framed(x, 1, 5), x)
    assert torch.equal(framed(x, 1, 3), x[..., 1:6, 1:6])
    assert framed(x, 2, None).shape == (1, 1, 11, 11)


def test_a_flip_from_wrong_to_right_is_no_success():
    data = dots((2, 3))
    assert shift_consistency(Middle(), data).adversarial_error == 100
    data.labels = torch.tensor([1])
    found = shift_consistency(Middle(), data)
    assert (found.consistency, found.adversarial_error) == (0, 100)
    assert shift_consistency(Mean(), dots((2, 3))).adversarial_error == 0


def test_against_a_loop_over_single_images():
    model, data = tta.load_source("digits"), tta.load_data("digits", limit=12)
    changed = 0
    for i in range(12):
        image = data.images(torch.tensor([i])).numpy()[0] / np.float32(255)
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        height, width = image.shape[1:]
        answers = {
            model(torch.from_numpy(padded[None, :, dy : dy + height, dx : dx + width].copy())).argmax().item()
            for dy in range(3)
            for dx in range(3)
        }
        changed += len(answers) > 1
    found = shift_consistency(model, data, batch_size=5)
    assert found.adversarial_flip_rate == pytest.approx(100 * changed / 12)


def test_an_adapter_does_not_learn_and_a_model_keeps_its_mode():
    adapter = wrap(tta.load_source("digits"), "tent")
    before = {name: value.clone() for name, value in adapter.model.state_dict().items()}
    shift_consistency(adapter, tta.load_data("digits", limit=10))
    assert all(torch.equal(value, before[name]) for name, value in adapter.model.state_dict().items())
    model = nn.Sequential(Middle(), nn.Dropout()).train()
    assert shift_consistency(model, dots((0, 0))).consistency == 100
    assert model.training


def test_offsets():
    assert len(offsets(2)) == 24
    assert (0, 0) not in offsets(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 6}, "a crop of 6 cannot move by 1 pixels within 7 x 7; give images of at least 8"),
        ({"pixels": 7}, "cannot be shifted by 7 pixels"),
        ({"pixels": 0}, "at least one of each"),
    ],
)
def test_what_cannot_be_shifted(options, message):
    with pytest.raises(TTAError, match=message):
        shift_consistency(Middle(), dots((0, 0)), **options)
