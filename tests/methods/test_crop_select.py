"""Crop selection: that the crops move with the image, and what that is worth on a trained network."""

import pytest
import torch
from golden_methods import resnet20, stream
from nets import resnet, vit

import tta


def scene(seed: int, size: int = 40) -> torch.Tensor:
    return torch.rand(16, 3, size, size, generator=torch.Generator().manual_seed(seed))


def corners(adapter, x):
    """The upper left corners of the crops, (B, M, 2)."""
    rows, columns = adapter.places(x)
    return torch.stack((rows[..., 0], columns[..., 0]), 2)


def test_the_crops_move_with_the_image():
    adapter = tta.wrap(resnet(), "crop_select", margin=0.25, crops=3)
    x = scene(0)
    here, moved = x[..., 4:36, 4:36], x[..., 5:37, 3:35]  # the camera goes down a row and left a column
    scores, moved_scores = adapter.score(here, 24, 24), adapter.score(moved, 24, 24)
    assert scores.shape == (16, 9, 9)
    torch.testing.assert_close(moved_scores[:, :-1, 1:], scores[:, 1:, :-1])  # that of the same pixels is the same
    before, after = corners(adapter, here), corners(adapter, moved) + torch.tensor([1, -1])
    assert before.shape == (16, 9, 2)
    best, moved_best = (one.flatten(1).argmax(1) for one in (scores, moved_scores))
    stays = (best // 9 - 1 == moved_best // 9) & (best % 9 + 1 == moved_best % 9)
    assert stays.sum() >= 8
    for n in stays.nonzero()[:, 0].tolist():
        kept = {tuple(corner) for corner in before[n].tolist()} & {tuple(corner) for corner in after[n].tolist()}
        assert len(kept) in (9, 6, 4)  # a row, a column, or both have left the frame at its edge
        assert len({row % 3 for row, _ in kept}) == len({column % 3 for _, column in kept}) == 1


def test_the_crops_lie_around_the_best_one():
    adapter, x = tta.wrap(resnet(), "crop_select", margin=0.25, crops=2), scene(0, 40)[..., :36]
    scores = adapter.score(x, 30, 27)
    assert scores.shape == (16, 11, 10)
    found = corners(adapter, x)
    best = scores.flatten(1).argmax(1)
    for n in range(16):
        (top, left), (below, beside) = found[n, 0].tolist(), found[n, 3].tolist()
        assert (below - top, beside - left) == (5, 5)
        assert 0 <= top < 5
        assert 0 <= left < 5
        assert (top - int(best[n]) // 10) % 5 == (left - int(best[n]) % 10) % 5 == 0


def test_the_answer_is_the_mean_over_the_crops():
    net, x = resnet().double(), scene(0, 32).double()
    adapter = tta.wrap(net, "crop_select", margin=1 / 16, crops=2, flip=True)
    rows, columns = adapter.places(x)
    expected = torch.zeros(16, 10, dtype=torch.float64)
    with torch.no_grad():
        for n in range(16):
            for row, column in zip(rows[n], columns[n], strict=True):
                crop = x[n : n + 1, :, row][..., column]
                expected[n] += (net(crop).softmax(1) + net(crop.flip(3)).softmax(1))[0] / 8
    torch.testing.assert_close(adapter(x).exp(), expected)
    assert rows[0, 0].diff().unique().tolist() == [1]


def test_without_a_margin_it_is_the_model():
    x = scene(0, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            tta.wrap(resnet(), "crop_select", margin=0.0, flip=False)(x), resnet()(x).log_softmax(1)
        )


def test_a_network_of_one_size_is_refused_with_the_remedy():
    with pytest.raises(tta.TTAError, match="resize"):
        tta.wrap(vit(), "crop_select")
    assert tta.wrap(vit(), "crop_select", fit="resize", crops=1)(scene(0, 32)).shape == (16, 10)


def test_a_network_that_cannot_take_the_crops_is_told_the_remedy():
    class Even(torch.nn.Module):
        """Takes sides that are multiples of four."""

        def forward(self, x):
            return x.view(len(x), 3, 4, -1, 4).mean((1, 3)).flatten(1) if x.shape[2] % 4 == 0 else x.view(-1, 7, 5)

    with pytest.raises(tta.TTAError, match=r'cannot take crops of 30 x 30 .*set fit="resize"'):
        tta.wrap(Even(), "crop_select")(scene(0, 32))


def test_photographs_are_seen_in_crops_that_seldom_change():
    adapter = tta.wrap(resnet(), "crop_select", preset="photographs")
    x = scene(1, 258)[:4]
    before = corners(adapter, x[..., :256, :256])
    assert adapter.places(x[..., :256, :256])[0].shape == (4, 9, 224)
    moved = corners(adapter, x[..., 1:257, 1:257]) + 1
    same = (before[:, :, None] == moved[:, None]).all(3).any(2)
    assert same.float().mean() > 0.7


@pytest.mark.parametrize("settings", [{"margin": 1.0}, {"crops": 0}, {"terms": 0}, {"fit": "pad"}])
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(tta.TTAError, match="crop_select"):
        tta.wrap(resnet(), "crop_select", **settings)


def test_crops_that_are_too_small_are_told():
    with pytest.raises(tta.TTAError, match="crops of 2 x 2 are too small"):
        tta.wrap(resnet(), "crop_select", margin=0.5)(scene(0, 4))


def test_a_step_of_one_pixel_flips_fewer_answers():
    """Frames of 30 pixels, moved by one in four directions, in noisy and faded golden images."""
    x = stream()[[0, 5], :16].flatten(0, 1).float()
    frames = [x[:, :, dy : dy + 30, dx : dx + 30] for dy, dx in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    flips = {}
    for name in ("source", "crop_select"):
        adapter = tta.wrap(resnet20().float(), name)
        answers = torch.stack([adapter(frame).argmax(1) for frame in frames])
        flips[name] = (answers != answers[0]).any(0).float().mean().item()
    assert flips["crop_select"] < flips["source"]
