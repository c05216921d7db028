"""What several workers share: images that one of them has made, the longest cells first, and nothing of the numbers."""

import pickle

import torch

from tta.bench import grid
from tta.cells import Cell
from tta.data.kept import Kept
from tta.datasets import Corrupted, load_data
from tta.scenarios import Scenario
from tta.setup import Setup
from tta.setup_lab import SetupLab
from tta.sharing import Share, Sharing, spread


class Silent(Corrupted):
    """Images that must not be computed."""

    def images(self, index):
        raise AssertionError("computed once more")


def test_images_that_one_process_has_made_are_read_by_another(tmp_path):
    data, file = load_data("digits", limit=70), tmp_path / "fog.npy"
    plain = Corrupted(data, "fog", 5, 1)
    Kept(plain, file).write()
    assert [path.name for path in tmp_path.iterdir()] == ["fog.npy"]
    there = Kept(Silent(data, "fog", 5, 1), file)
    assert torch.equal(there.images(torch.tensor([66, 3])), plain.images(torch.tensor([66, 3])))
    there.images(slice(None)).zero_()
    assert torch.equal(there.images(slice(None)), plain.images(slice(None)))


def test_images_that_are_not_there_yet_or_cannot_be_written_are_computed(tmp_path):
    data = load_data("digits", limit=5)
    plain, late = Corrupted(data, "fog", 5, 1), Kept(Corrupted(data, "fog", 5, 1), tmp_path / "fog.npy")
    assert torch.equal(late.images(torch.tensor([1])), plain.images(torch.tensor([1])))
    Kept(plain, tmp_path / "no" / "such" / "fog.npy").write()
    Kept(plain, tmp_path / "fog.npy").write()
    assert torch.equal(late.images(slice(None)), plain.images(slice(None)))


def test_the_images_of_a_seed_come_before_its_cells_and_the_longest_cell_first():
    lab = SetupLab(Setup(limit=20, domains=("fog", "clean", "contrast"), severity=3))
    scenarios = [Scenario(), Scenario("mixed"), Scenario("gradual")]
    with spread(lab, grid(["source", "memo", "tent"], scenarios[:2], [4, 5])) as (sharing, units):
        kinds = [type(unit) for unit in units]
        assert kinds == 2 * (2 * [Share] + 6 * [Cell])
        assert units[:2] == [Share("fog", 3, 4), Share("contrast", 3, 4)]
        assert [unit.method for unit in units[2:8]] == ["memo", "memo", "tent", "tent", "source", "source"]
        assert pickle.loads(pickle.dumps(sharing)).shared.is_dir()
        assert lab.shared is None
    assert not sharing.shared.exists()
    assert len(lab.shares(scenarios[2], 0)) == 6
    assert SetupLab(Setup(domains=("clean",))).shares(Scenario(), 0) == []


def test_smaller_batches_take_longer():
    sizes = [Scenario(batch_size=size) for size in (64, 1, 200)]
    with spread(object(), grid(["tent"], sizes, [0])) as (_, units):
        assert [cell.scenario.batch_size for cell in units] == [1, 64, 200]


def test_a_lab_makes_what_another_reads(tmp_path):
    setup = Setup(limit=20, domains=("fog",))
    one, other = SetupLab(setup).sharing(tmp_path), SetupLab(setup).sharing(tmp_path)
    assert isinstance(one, Sharing)
    one.make(*one.shares(Scenario(), 3))
    assert len(list(tmp_path.iterdir())) == 1
    data = other.stream(Scenario(), 3).domains[0].data
    data.data = None
    assert torch.equal(data.images(slice(None)), SetupLab(setup).under("fog", 5.0, 3).images(slice(None)))
    assert other.stream(Scenario(), 3).hash == SetupLab(setup).stream(Scenario(), 3).hash
