"""What the guard spends is counted, and stays within its share."""

import pytest
import torch
from rehearsals import SHORT

import tta
from tta.contract import NETS, images, source_images
from tta.cost import PassCounter
from tta.deployment import Guard
from tta.guard.budget import Budget
from tta.guard.choice import Choice
from tta.guard.judge import Judge
from tta.guard.order import ClassOrder
from tta.guard.teaching import Repeated


def test_the_loan_is_paid_back():
    budget = Budget(share=0.1, loan=100, repaid=1000)
    assert budget.affords(100)
    assert not budget.affords(101)
    budget.spent("guard", 100)
    budget.spent("adapter", 500)  # earned 50, and half of the loan is to be back
    assert budget.affords(0)
    assert not budget.affords(1)
    budget.spent("adapter", 1500)
    assert budget.affords(100)
    assert not budget.affords(101), "a tenth of 2,000"
    assert budget.overhead == pytest.approx(5)


def test_rests_pay_for_answers():
    budget = Budget(share=0.1, loan=0)
    budget.spent("adapter", 200)
    budget.learned(100)
    assert not budget.rests
    budget.spent("answers", 50)
    assert budget.rests
    budget.rested(30)  # two passes each are saved
    assert budget.total == pytest.approx(100 * (250 / 260 - 1))
    assert not budget.rests


@pytest.mark.parametrize("bad", [{"share": 0}, {"loan": -1}, {"repaid": 0}])
def test_a_budget_is_checked(bad):
    with pytest.raises(tta.TTAError, match="budget"):
        Budget(**bad)


def test_passes_are_counted_as_hooks_see_them(monkeypatch):
    monkeypatch.setattr(Judge, "gain", lambda *_: 60.0)
    guard = Guard(choice=Choice(rehearsal=SHORT), budget=Budget(loan=10_000))
    monkeypatch.setattr(ClassOrder, "ordered", False)
    deployed = tta.deploy(NETS["batch_norm"](), "tent", guard=guard, source_data=source_images())
    with PassCounter([deployed.source, deployed.adapter.model]) as counter:
        for seed in range(80):
            deployed(images(seed))
    assert guard.by_adapter
    spent = guard.budget.memory
    assert spent["adapter"] == 80 * 6 * 2
    assert spent["images"] == 480
    assert spent["answers"] == 48, "until something is known"
    assert spent["guard"] > 0
    assert spent["guard"] % 6 == 0, "a batch through the source model for each look"
    assert spent["adapter"] + spent["guard"] + spent["answers"] == sum(counter.passes)


def test_images_that_teach_nothing_are_looked_at_and_what_they_save_is_known(monkeypatch):
    gain = [-60.0]
    monkeypatch.setattr(Judge, "gain", lambda *_: gain[0])
    monkeypatch.setattr(ClassOrder, "ordered", False)
    guard = Guard([Repeated()], choice=Choice(rehearsal=SHORT), budget=Budget(loan=10_000))
    deployed = tta.deploy(NETS["batch_norm"](), "tent", guard=guard, source_data=source_images())
    with PassCounter([deployed.source, deployed.adapter.model]) as counter:
        for seed in range(40):
            deployed(images(seed % 4))
        assert not guard.by_adapter
        gain[0] = 60.0  # it sees what a committed adapter would answer to the same images
        last = [deployed.ask(images(seed % 4)).by_adapter for seed in range(40)]
        half = torch.cat([images(0)[:3], images(9)[:3]])  # and half of a batch teaches
        assert deployed.ask(half).by_adapter
    assert last[-1]
    assert not last[0]
    spent, report = guard.budget.memory, deployed.report()
    assert (report["committed"], report["skipped"], report["rejected_images"]) == (5, 76, 76 * 6 + 3)
    assert report["looks"] > 8, "more than the images that taught could show"
    assert spent["adapter"] == (4 * 6 + 3) * 2
    assert spent["rested"] == pytest.approx(2 * (76 * 6 + 3)), "two passes each, of the adapter alone"
    assert spent["adapter"] + spent["guard"] + spent["answers"] == sum(counter.passes)


def test_in_the_background_too_and_then_the_adapter_s_passes_are_the_guard_s(monkeypatch):
    monkeypatch.setattr(Judge, "gain", lambda *_: 60.0)
    monkeypatch.setattr(ClassOrder, "ordered", False)
    guard = Guard([Repeated()], choice=Choice(rehearsal=SHORT), budget=Budget(loan=10_000))
    net = NETS["batch_norm"]()
    with tta.deploy(net, "tent", guard=guard, source_data=source_images(), background=True) as deployed:
        for seed in range(80):
            deployed(images(seed % 8))
            deployed.drain()
        assert guard.by_adapter
        report, spent = deployed.report(), guard.budget.memory
        assert (report["committed"], report["skipped"], report["failures"]) == (8, 72, 0)
        assert report["looks"] > 8
        assert spent["answers"] == 48, "of the source model, until something is known"
        assert spent["guard"] > 0
        assert spent["guard"] % 6 == 0


def test_in_a_frozen_deployment_nothing_is_spent(monkeypatch):
    monkeypatch.setattr(Choice, "by_adapter", True)
    guard = Guard(choice=Choice(rehearsal=SHORT))
    deployed = tta.deploy(NETS["batch_norm"](), "tent", guard=guard, source_data=source_images())
    deployed.freeze()
    assert deployed.ask(images(0)).by_adapter
    assert set(guard.budget.memory.values()) == {0}


def test_without_means_there_is_no_look_and_the_source_model_s_answers_are_paid_by_rests():
    guard = Guard(choice=Choice(rehearsal=SHORT), budget=Budget(loan=0))
    net = NETS["batch_norm"]()
    deployed = tta.deploy(net, "bn", guard=guard, source_data=source_images())
    for seed in range(24):
        answer = deployed(images(seed))
        with torch.no_grad():
            assert torch.allclose(answer, net(images(seed)), atol=1e-6)
    report = deployed.report()
    assert report["skipped"] > 12
    assert report["committed"] + report["skipped"] == 24
    assert guard.budget.total <= 10 + 100 * 2 / 24
