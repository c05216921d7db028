"""A rehearsal meets every image as often as it says, and leaves the adapter as it was."""

import pytest
import torch

import tta
from tta.adapter import Adapter, StepInfo
from tta.contract import NETS, images, source_images
from tta.guard.judge import Judge, Kind
from tta.guard.rehearsal import Rehearsal, _few_classes
from tta.guard.style import Style
from tta.source_data import SourceData

DATA = SourceData(*source_images())
STYLE = Style(DATA.images)
SHORT = Rehearsal(images=8, sizes=(8, 2), shifts=("speckle_noise", "gaussian_blur", "saturate", "lines"))


class Watched(Adapter):
    """Notes the batches that it meets."""

    name = "watched"
    met: list[torch.Tensor]

    def start(self, source_data):
        self.memory["batches"] = 0
        self.starts = getattr(self, "starts", 0) + 1

    def step(self, x):
        self.memory["batches"] += 1
        self.met.append(x.clone())
        return self.model(x), StepInfo(updated=True)


def watched():
    adapter = Watched(NETS["group_norm"]())
    adapter.met = []
    return adapter


def test_all_orders_and_sizes_are_met_and_the_images_are_those_of_all_shifts():
    adapter = watched()
    judge = SHORT.judge(adapter, NETS["group_norm"](), DATA, STYLE)
    sizes = [len(x) for x in adapter.met]
    assert sizes[:15] == [8] * 15, "five shifts, clean among them: one after another, mixed, by class"
    assert sizes[15:20] == [8] * 5, "of few classes"
    assert sizes[20:] == [2] * 15, "a quarter of the images, in pairs: one after another, mixed, of few classes"
    first, mixed, by_class = (torch.cat(adapter.met[k : k + 5]).flatten(1) for k in (0, 5, 10))
    sums = [sorted((part * torch.arange(1, part.shape[1] + 1)).sum(1).tolist()) for part in (first, mixed, by_class)]
    assert sums[0] == pytest.approx(sums[1])
    assert sums[0] == pytest.approx(sums[2])
    assert adapter.memory["batches"] == 0, "it was reset at the end"
    assert {*judge.parts} == {Kind(size, ordered) for size in (8, 2) for ordered in (False, True)}


def test_the_adapter_is_as_it_was_and_the_verdict_the_same_every_time():
    source, adapter, fresh = NETS["batch_norm"](), *(tta.wrap(NETS["batch_norm"](), "tent") for _ in range(2))
    judge = SHORT.judge(adapter, source, DATA, STYLE)
    assert torch.equal(adapter(images(0)), fresh(images(0)))
    adapter(images(1))
    again = SHORT.judge(adapter, source, DATA, STYLE)
    for kind, part in judge.parts.items():
        assert torch.equal(part.weights, again.parts[kind].weights)
        assert part.doubt == again.parts[kind].doubt


def test_an_adapter_that_fails_now_and_then_is_judged_by_the_rest_and_one_that_always_does_is_refused():
    class Fails(Watched):
        """Answers every second batch, or none."""

        always = False

        def step(self, x):
            logits, info = super().step(x)
            if self.always or self.memory["batches"] % 2:
                raise RuntimeError("no answer")
            return logits * torch.nan if self.memory["batches"] % 4 else logits, info

    adapter = Fails(NETS["group_norm"]())
    adapter.met = []
    assert isinstance(SHORT.judge(adapter, NETS["group_norm"](), DATA, STYLE), Judge)
    adapter.always = True
    with pytest.raises(tta.TTAError, match="no finite answer"):
        SHORT.judge(adapter, NETS["group_norm"](), DATA, STYLE)


def test_few_source_images_are_enough():
    few = SourceData(DATA.images[:3], DATA.labels[:3])
    assert SHORT.judge(watched(), NETS["group_norm"](), few, STYLE).parts


def test_it_knows_grey_and_colour_only():
    data = SourceData(torch.rand(4, 2, 8, 8), torch.zeros(4).long())
    with pytest.raises(tta.TTAError, match="1 or 3 channels, not 2"):
        SHORT.judge(watched(), NETS["group_norm"](), data, STYLE)


@pytest.mark.parametrize("bad", [{"images": 1}, {"sizes": ()}, {"sizes": (0,)}, {"shifts": ("lines",) * 3}])
def test_it_is_checked(bad):
    with pytest.raises(tta.TTAError, match="a rehearsal takes"):
        Rehearsal(**bad)


def test_unknown_corruptions_are_named():
    with pytest.raises(ValueError, match="hail"):
        Rehearsal(shifts=("lines", "saturate", "spatter", "hail"))


def test_none_of_the_common_corruptions_is_rehearsed():
    import corruptions

    assert not {*Rehearsal().shifts} & {*corruptions.COMMON}
    assert len({*Rehearsal().shifts}) == len(Rehearsal().shifts) == 24


@pytest.mark.parametrize(("images", "most"), [(40, 5), (4, 15)])
def test_batches_of_few_classes_are_of_as_few_as_have_half_the_images(images, most):
    labels = torch.arange(20).repeat_interleave(images)
    index = _few_classes(labels, 160, 64, torch.Generator().manual_seed(0))
    assert len(index) == 160
    for part in index.split(64):
        assert len(labels[part].unique()) <= most
        assert len(part.unique()) >= len(part) / 2
    few = _few_classes(torch.zeros(3).long(), 10, 8, torch.Generator().manual_seed(0))
    assert {*few.tolist()} == {0, 1, 2}, "repeated, where there are no more"
