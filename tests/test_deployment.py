"""Deployment: predict, propose, check, commit or roll back."""

import os
import re
import subprocess
import sys
import threading

import pytest
import torch
from places import ROOT
from rehearsals import SHORT, usual
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import tta
import tta.registry
from tta.adapter import Adapter, StepInfo
from tta.contract import NETS, images, source_images
from tta.deployment import Guard
from tta.guard.check import Check
from tta.guard.choice import Choice
from tta.guard.limits import Drift, Finite
from tta.guard.rehearsal import Rehearsal
from tta.guard.teaching import NotFinite, Repeated
from tta.optimisers import Adam

NET = NETS["batch_norm"]()


class Objects(Check):
    """Objects to some of the updates."""

    name = "objects"

    def __init__(self, action, to=lambda number: True):
        super().__init__()
        self.action, self.to, self.memory = action, to, {"number": -1}

    def object(self, look):
        self.memory["number"] += 1
        return "as told" if self.to(self.memory["number"]) else None


def tensors(module):
    return [t.clone() for t in (*module.parameters(), *module.buffers())]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def events(deployed):
    return [entry["event"] for entry in deployed.log.recent]


def test_without_a_guard_it_is_the_adapter():
    deployed, adapter = tta.deploy(NET, "tent", guard=Guard.off()), tta.wrap(NET, "tent")
    for seed in range(3):
        assert torch.equal(deployed(images(seed)), adapter(images(seed)))
    assert deployed.version == deployed.report()["committed"] == 3
    assert deployed.report()["images"] == 18


@pytest.mark.parametrize("method", ["tent", "rotta", "cotta"])
def test_what_is_rolled_back_leaves_no_trace(method):
    settings = {"cotta": {"views": 2, "gate": 2.0}, "rotta": {"capacity": 8, "frequency": 4}}.get(method, {})
    guard = Guard(checks=[Objects("roll back", to=lambda number: number % 2)])
    deployed, adapter = tta.deploy(NET, method, guard=guard, **settings), tta.wrap(NET, method, **settings)
    for seed in range(6):
        answer = deployed(images(seed))
        assert torch.equal(answer, adapter.predict(images(seed)) if seed % 2 else adapter(images(seed)))
        assert equal(tensors(deployed.adapter), tensors(adapter))
    assert (deployed.report()["committed"], deployed.report()["rolled_back"]) == (3, 3)
    assert deployed.log.recent[-1]["why"] == "objects: as told"


def test_a_method_that_answers_after_its_update_answers_without_it_when_that_is_rolled_back():
    deployed, adapter = (tta.wrap(NET, "t3a"), tta.wrap(NET, "t3a"))
    assert adapter.answers == "after"
    deployed = tta.deploy(NET, "t3a", guard=Guard(checks=[Objects("roll back", to=lambda number: number > 0)]))
    adapter(images(0)), deployed(images(0))
    assert torch.equal(deployed(images(1)), adapter.predict(images(1)))


def test_a_reset_is_answered_by_the_source_model():
    deployed = tta.deploy(NET, "tent", guard=Guard(checks=[Objects("reset", to=lambda number: number == 1)]))
    start = tensors(deployed.adapter)
    deployed(images(0))
    with torch.no_grad():
        assert torch.equal(deployed(images(1)), NET(images(1)))
    assert equal(tensors(deployed.adapter), start)
    assert torch.equal(deployed(images(2)), tta.wrap(NET, "tent")(images(2)))
    assert deployed.report()["resets"] == 1


class Operations(TorchDispatchMode):
    """Counts them while it is entered."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += 1
        return operation(*args, **(kwargs or {}))


def test_a_regular_batch_costs_few_operations_and_waits(monkeypatch):
    deployed = tta.deploy(NET, "tent", source_data=source_images(), guard=usual())
    alone, x = tta.wrap(NET, "tent"), source_images()[0][:16]
    for step in range(3):
        alone(x + step / 1000)
        deployed(x + step / 1000)
    deployed.guard.choice.memory.update(adapter=True, wait=1000, since=0, looked=0)
    deployed.guard.choice.style.note()
    before = deployed.report()
    with Operations() as own:
        alone(x + 0.004)
    with Operations() as ours:
        deployed(x + 0.004)
    waits = []
    for name in ("tolist", "cpu", "__bool__", "__int__", "__float__"):
        was = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, was=was, name=name: [waits.append(name), was(tensor)][1])
    assert deployed.ask(x + 0.005).by_adapter
    assert all(before[name] == deployed.report()[name] for name in ("rejected_images", "looks")), "it is regular"
    assert len(waits) <= 5, "fingerprints, filters (and their counts, on the host), style, and what is finite"
    assert ours.count - own.count < 200


class Fails(Adapter):
    """Raises in the middle of its update."""

    name = "fails"

    def prepare(self, model):
        return [next(model.parameters())]

    def _fresh_optimiser(self):
        return torch.optim.SGD(self._parameters_adapted, lr=0.1)

    def step(self, x):
        logits = self.model(x)
        self.update(logits.square().sum())
        if x.mean() > 0.5:
            raise RuntimeError("out of luck")
        return logits.detach(), StepInfo(updated=True)


def test_an_update_that_raises_is_undone_and_the_batch_is_answered(monkeypatch):
    monkeypatch.setitem(tta.registry._registered, "fails", Fails)
    deployed = tta.deploy(NET, "fails", guard=Guard.off())
    start = tensors(deployed.adapter)
    bright = images(0).clamp(min=0.6)
    with torch.no_grad():
        assert torch.equal(deployed(bright), NET(bright))
    assert equal(tensors(deployed.adapter), start)
    assert "raised RuntimeError: out of luck" in deployed.log.recent[-1]["why"]
    deployed(images(0) / 2)
    assert deployed.report()["committed"] == 1


def test_an_adapter_that_cannot_answer_is_stood_in_for(monkeypatch):
    deployed = tta.deploy(NET, "tent", guard=Guard.off())
    deployed.freeze()

    def fails(x):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(deployed.adapter, "predict", fails)
    answer = deployed.ask(images(0))
    assert torch.equal(answer.logits, NET(images(0)))
    assert not answer.by_adapter
    assert deployed.report()["failures"] == 1
    assert "out of memory" in deployed.log.recent[-1]["why"]


@pytest.mark.parametrize("background", [False, True])
def test_a_full_disk_stops_neither_answers_nor_learning(tmp_path, monkeypatch, background):
    with tta.deploy(
        NET, "tent", guard=Guard.off(), folder=tmp_path, snapshot_every=1, background=background
    ) as deployed:
        with monkeypatch.context() as patch:

            def full(*args, **kwargs):
                raise OSError(28, "No space left on device")

            patch.setattr(deployed._snapshots, "save", full)
            patch.setattr(type(deployed.log.path), "open", full)
            for seed in range(2):
                deployed(images(seed))
            deployed.drain()
        report = deployed.report()
        assert (report["committed"], report["failures"]) == (2, 2)
        assert deployed.version == 2
        assert [event for event in events(deployed) if event == "no snapshot"] == ["no snapshot"] * 2


def test_a_reset_drops_what_waits():
    deployed = tta.deploy(NET, "tent", guard=Guard.off(), background=True, queue=8)
    before = tensors(deployed.adapter)
    with deployed._learning:  # nothing can be learned meanwhile
        for seed in range(3):
            deployed(images(seed))
        resetting = threading.Thread(target=deployed.reset)
        resetting.start()
        while len(deployed._worker):
            pass
    resetting.join()
    deployed.drain()
    assert equal(tensors(deployed.adapter), before)
    assert deployed.report()["skipped"] >= 2
    deployed.close()


def test_bad_input_is_refused_and_changes_nothing():
    deployed = tta.deploy(NET, "tent", guard=Guard.off())
    for bad in (torch.zeros(3, 32, 32), torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(0, 3, 32, 32)):
        with pytest.raises(tta.TTAError):
            deployed(bad)
    assert deployed.version == 0


def test_images_that_are_not_finite_are_answered_apart_and_teach_nothing():
    deployed, adapter = tta.deploy(NET, "tent", guard=Guard([NotFinite()], [Finite()])), tta.wrap(NET, "tent")
    x = images(0)
    x[2, 0, 5, 5] = float("nan")
    answer, regular = deployed(x), [0, 1, 3, 4, 5]
    assert torch.equal(answer[regular], adapter(x[regular]))
    with torch.no_grad():
        assert torch.equal(answer[2:3], NET(x[2:3].nan_to_num(0)))
    assert equal(tensors(deployed.adapter), tensors(adapter))
    assert deployed(torch.full((2, 3, 32, 32), float("inf"))).isfinite().all()
    report = deployed.report()
    assert (report["rejected_images"], report["skipped"], report["images_by_source"]) == (3, 1, 3)


@pytest.mark.parametrize(("strange", "by_source"), [(8, 0), (7, 7)])
def test_enough_images_that_are_kept_apart_are_answered_by_the_adapter_among_themselves(strange, by_source):
    deployed, adapter = tta.deploy(NET, "tent", guard=Guard([NotFinite()])), tta.wrap(NET, "tent")
    x, apart = images(0, 12), images(1, strange)
    apart[:, 0, 0, 0] = float("nan")
    answer = deployed(torch.cat([x, apart]))
    assert torch.equal(answer[:12], adapter(x)), "the others have no say"
    with torch.no_grad():
        expected = NET(apart.nan_to_num(0)) if by_source else adapter.predict(apart.nan_to_num(0))
    assert torch.equal(answer[12:], expected)
    assert equal(tensors(deployed.adapter), tensors(adapter)), "they teach nothing"
    assert deployed.report()["images_by_source"] == by_source


def test_without_that_filter_nothing_that_is_not_finite_is_committed_or_answered():
    deployed = tta.deploy(NET, "tent", guard=Guard(checks=[Finite()]))
    start = tensors(deployed.adapter)
    x = images(0)
    x[2] = float("nan")
    answer = deployed(x)
    assert answer[[0, 1, 3, 4, 5]].isfinite().all(), "the source model answers image by image"
    assert equal(tensors(deployed.adapter), start)
    assert deployed.report()["rolled_back"] == 1


def test_repeated_images_are_answered_and_teach_nothing():
    deployed = tta.deploy(NET, "tent", guard=Guard([Repeated()]))
    deployed(images(0))
    after = tensors(deployed.adapter)
    assert torch.equal(deployed(images(0)), deployed.adapter.predict(images(0)))
    assert equal(tensors(deployed.adapter), after)


def test_drift_resets():
    deployed = tta.deploy(NET, "tent", guard=Guard(checks=[Drift(limit=0.002, every=1)]))
    for seed in range(4):
        deployed(images(seed))
    assert 0 < deployed.report()["resets"] < 4
    assert "drift: adapted weights" in deployed.log.recent[-1]["why"]


def test_the_usual_guard_learns_from_inference_mode_threads_and_gives_every_answer():
    deployed = tta.deploy(NET, "tent", guard=usual(), source_data=source_images())
    answers = {}

    def ask(seed):
        with torch.inference_mode():
            answers[seed] = deployed.ask(images(seed))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.ids.start for answer in answers.values()) == list(range(0, 48, 6))
    assert all(answer.logits.shape == (6, 10) and answer.logits.isfinite().all() for answer in answers.values())
    report = deployed.report()
    assert report["batches"] == 8
    assert report["committed"] + report["rolled_back"] + report["resets"] + report["skipped"] >= 8


def test_guards_are_for_one_deployment_and_say_what_they_need():
    guard = Guard.off()
    tta.deploy(NET, "tent", guard=guard)
    with pytest.raises(tta.TTAError, match="another deployment"):
        tta.deploy(NET, "tent", guard=guard)
    with pytest.raises(tta.TTAError, match="needs labelled source data"):
        tta.deploy(NET, "tent", guard=Guard(choice=Choice()))
    assert tta.deploy(NET, "tent").guard.choice is None, "the usual guard does without"


# In the background


class Waits(tta.wrap(NET, "tent").__class__):
    """Tent that waits in the middle of a step until it is told to go on."""

    gate = threading.Event()
    inside = threading.Event()

    def step(self, x):
        self.inside.set()
        assert self.gate.wait(60)
        return super().step(x)


@pytest.fixture
def waits(monkeypatch):
    monkeypatch.setitem(tta.registry._registered, "waits", Waits)
    Waits.gate.clear()
    Waits.inside.clear()
    yield
    Waits.gate.set()


def test_answers_do_not_wait_for_updates_and_the_oldest_batch_is_dropped(waits):
    deployed = tta.deploy(NET, "waits", guard=Guard.off(), background=True, queue=2)
    fresh = tta.wrap(NET, "tent")
    deployed(images(0))
    assert Waits.inside.wait(60)  # the first update is under way
    for seed in range(1, 5):
        assert torch.equal(deployed(images(seed)), fresh.predict(images(seed))), "by the state before"
    Waits.gate.set()
    deployed.close()
    for seed in (0, 3, 4):
        fresh(images(seed))
    assert equal(tensors(deployed.adapter), tensors(fresh)), "1 and 2 were the oldest that waited"
    assert (deployed.report()["committed"], deployed.report()["skipped"]) == (3, 2)
    with pytest.raises(tta.TTAError, match="closed"):
        deployed(images(0))


def test_blocking_keeps_every_batch_in_order():
    with tta.deploy(NET, "tent", guard=Guard.off(), background=True, queue=1, when_full="block") as deployed:
        adapter = tta.wrap(NET, "tent")
        for seed in range(5):
            deployed(images(seed))
            adapter(images(seed))
        deployed.drain()
        assert equal(tensors(deployed.adapter), tensors(adapter))
        assert torch.equal(deployed.adapter.predict(images(9)), adapter.predict(images(9)))


def test_a_queue_is_checked():
    with pytest.raises(tta.TTAError, match="drop_oldest or block"):
        tta.deploy(NET, "tent", guard=Guard.off(), background=True, when_full="explode")


# What is kept


@pytest.mark.parametrize("method", ["tent", "rotta", "tent+wise"])
def test_a_restored_deployment_goes_on_as_if_nothing_had_happened(tmp_path, method):
    settings = {"capacity": 8, "frequency": 4} if method == "rotta" else {}

    def deploy():
        return tta.deploy(
            NET,
            method,
            guard=usual(),
            source_data=source_images(),
            folder=tmp_path,
            snapshot_every=2,
            keep=20,
            **settings,
        )

    first = deploy()
    for seed in range(5):
        first(images(seed))
    version = first.snapshot()
    expected = [first.ask(images(seed)) for seed in range(5, 8)]
    first.restore(version)
    again = [first.ask(images(seed)) for seed in range(5, 8)]
    (tmp_path / f"snapshot-{first.versions()[-1] + 1:08d}.safetensors").write_bytes(b"half of the next")
    second = deploy()
    second.restore(version)
    for answers in (again, [second.ask(images(seed)) for seed in range(5, 8)]):
        for a, b in zip(expected, answers, strict=True):
            assert torch.equal(a.logits, b.logits)
            assert a[2:] == b[2:]
    assert not list(tmp_path.glob("*.pt"))


def test_no_number_is_given_twice_after_a_restore(tmp_path):
    check = Objects("note")
    check.asks_source = True
    deployed = tta.deploy(NET, "tent", guard=Guard(checks=[check], every=1), folder=tmp_path)
    kept = deployed.ask(images(0)).ids
    version = deployed.snapshot()
    forgotten = deployed.ask(images(1)).ids
    deployed.restore(version)
    given = deployed.ask(images(2)).ids
    assert not {*given} & {*kept, *forgotten}
    assert deployed.audit(forgotten, [0] * 6).n == 0, "labels of what was taken back reach no other image"
    assert deployed.audit(kept, [0] * 6).n == 6


def test_snapshots_of_something_else_are_refused(tmp_path):
    tta.deploy(NET, "tent", guard=Guard.off(), folder=tmp_path).close()
    for settings in ({"method": "bn"}, {"lr": 1.0}, {"model": NETS["batch_norm"](1)}):
        model, method = settings.pop("model", NET), settings.pop("method", "tent")
        overrides = {"optimiser": Adam(**settings)} if settings else {}
        with pytest.raises(tta.TTAError, match="is of another"):
            tta.deploy(model, method, guard=Guard.off(), folder=tmp_path, **overrides)


KILLED = """
import os, signal, sys, torch, tta
from rehearsals import SHORT, usual
from tta.contract import NETS, images, source_images
deployed = tta.deploy(NETS["batch_norm"](), "rotta", source_data=source_images(), folder=sys.argv[1], snapshot_every=2,
                      guard=usual(), capacity=8, frequency=4)
seed = 0
while deployed.report()["committed"] < 3:
    deployed(images(seed))
    if deployed.report()["committed"] == 2 and not os.path.exists(sys.argv[2]):
        torch.save(deployed.adapter.predict(images(100)), sys.argv[2])
    seed += 1
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_loses_the_updates_since_the_last_snapshot_and_nothing_else(tmp_path):
    expected = tmp_path / "expected.pt"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "kept"), str(expected)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"})
    assert done.returncode == -9, done.stderr.decode()
    settings = {"source_data": source_images(), "folder": tmp_path / "kept", "capacity": 8, "frequency": 4}
    resumed = tta.deploy(NET, "rotta", guard=usual(), **settings)
    assert resumed.report()["committed"] == 2
    assert torch.equal(resumed.adapter.predict(images(100)), torch.load(expected))
    assert "restored" in (tmp_path / "kept" / "audit.jsonl").read_text()


def test_what_was_rehearsed_is_kept_with_the_state(tmp_path, monkeypatch):
    options = {"source_data": source_images(), "folder": tmp_path}
    first = tta.deploy(NET, "tent", guard=usual(), **options)
    assert first.versions() == [1], "even if nothing follows"
    monkeypatch.setattr(Rehearsal, "judge", None)  # would raise
    again = tta.deploy(NET, "tent", guard=usual(), **options)
    assert torch.equal(*(one.guard.choice.judge.part(6, ordered=True).weights for one in (first, again)))
    assert again.report()["committed"] == 0
    assert (tmp_path / "audit.jsonl").read_text().count("rehearsed") == 1


# What an operator does


class Shifted(Adapter):
    """Answers the class beside the source model's, always wrongly so; counts its batches."""

    name = "shifted"

    def start(self, source_data):
        self.memory["batches"] = 0

    def answer(self, x):
        return self.model(x).roll(1, 1)

    def step(self, x):
        self.memory["batches"] += 1
        return self.answer(x), StepInfo(updated=True)


def test_an_audit_certifies_harm_and_resets(monkeypatch):
    monkeypatch.setitem(tta.registry._registered, "shifted", Shifted)
    check = Objects("note")
    check.asks_source = True
    deployed, verdicts = tta.deploy(NET, "shifted", guard=Guard(checks=[check], every=1)), []
    while "harm certified" not in events(deployed) and len(verdicts) < 20:
        answer = deployed.ask(images(len(verdicts)))
        with torch.no_grad():
            labels = NET(images(len(verdicts))).argmax(1)  # the source model is always right
        verdicts.append(deployed.audit(answer.ids[::2], labels[::2]))
    assert verdicts[0].low < 0 < verdicts[-1].low
    assert verdicts[-1].mean == 1
    assert deployed.adapter.memory == {"batches": 0}
    assert deployed.guard.audit.interval().n == 0, "the comparison begins anew"
    with pytest.raises(tta.TTAError, match="a label for each"):
        deployed.audit([1, 2], [0])


def test_frozen_it_answers_and_learns_nothing():
    deployed = tta.deploy(NET, "tent", guard=Guard.off())
    deployed(images(0))
    after = tensors(deployed.adapter)
    deployed.freeze()
    assert torch.equal(deployed(images(1)), deployed.adapter.predict(images(1)))
    assert equal(tensors(deployed.adapter), after)
    deployed.freeze(False)
    deployed(images(1))
    assert not equal(tensors(deployed.adapter), after)


def test_the_export_is_plain_and_torch_export_takes_it():
    deployed = tta.deploy(NET, "tent", guard=Guard.off())
    deployed(images(0))
    plain = deployed.export()
    assert not isinstance(plain, tta.Adapter)
    with torch.no_grad():
        expected = plain(images(1))
        program = torch.export.export(plain, (images(1),)).module()
        assert torch.equal(expected, deployed.adapter.predict(images(1)))
        assert torch.allclose(program(images(1)), expected, atol=1e-5)


def test_the_caller_s_model_is_not_touched():
    model = NETS["batch_norm"]()
    before = tensors(model)
    deployed = tta.deploy(model, "cotta", guard=usual(), source_data=source_images(), views=2)
    deployed(images(0))
    assert equal(tensors(model), before)
    assert isinstance(deployed, nn.Module)
    assert deployed.train() is deployed


def test_the_code_in_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tta.guard.choice.Rehearsal", lambda: SHORT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    x, labels = source_images()
    known = {"model": NET, "images": x, "labels": labels, "data": (x, labels), "x": images(0), "ids": range(6)}
    for block in blocks:
        exec(block, known)
        known["labels"] = labels[:6]
    assert len(blocks) == 3
    assert (tmp_path / "state" / "audit.jsonl").exists()
