"""Kept images are the data's, asked for once each."""

import torch
from fakes import Pictures

import tta
from tta.data.images import Corrupted
from tta.data.kept import Kept


def test_every_image_is_asked_for_once():
    source = Pictures(10)
    source.classes, source.shape, source.mirrors, source.note, source.keys = "abcd", (3, 4, 4), True, "", source.values
    source.counted = False
    source.folders, source.class_indices, source.balanced = (), (3, 5, 7, 9), False
    kept = Kept(source)
    for index in ([3, 1], [1, 3, 3], [9, 1, 0], []):
        chosen = torch.tensor(index, dtype=torch.int64)
        assert torch.equal(kept.images(chosen), Pictures(10).images(chosen))
    assert [asked.tolist() for asked in source.asked] == [[1, 3], [0, 9]]
    assert kept.fingerprint == source.fingerprint
    assert kept.class_indices == (3, 5, 7, 9)


def test_kept_corruptions_are_the_same_in_any_order_and_cannot_be_written_to():
    data = tta.load_data("digits", limit=12)
    plain, kept = Corrupted(data, "gaussian_noise", 3, 1), Kept(Corrupted(data, "gaussian_noise", 3, 1))
    kept.images(torch.tensor([5, 2]))
    kept.images(torch.tensor([5])).zero_()
    assert torch.equal(kept.images(slice(None)), plain.images(slice(None)))
    assert torch.equal(kept.labels, plain.labels)
    assert kept.fingerprint == plain.fingerprint
