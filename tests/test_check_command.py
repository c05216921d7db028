"""`tta check`: a good method of a user's keeps every promise, and each bad one is caught by the promise it breaks."""

import pytest
import torch
from nets import resnet

import tta
from tta.check_command import Check
from tta.cli import main
from tta.contract import NETS, PROMISES, check, source_images
from tta.contract.case import ContractBroken, hold
from tta.plugins import named
from tta.registry import split_preset

METHODS = '''
"""Adapters as users write them: one good, the others each with a mistake."""

from dataclasses import dataclass

import numpy as np
import torch

import tta


class Good(tta.Adapter):
    """Subtracts the moving average of the logits."""

    @dataclass(frozen=True)
    class Config:
        momentum: float = 0.9

    def start(self, source_data):
        self.register_buffer("mean", torch.zeros(10, device=self.generator.device))

    def answer(self, x):
        logits = self.network(x)
        return logits - self.mean.to(logits)

    @torch.no_grad()
    def step(self, x):
        answer = self.answer(x)
        self.mean.lerp_(self.network(x).mean(0).to(self.mean), 1 - self.config.momentum)
        return answer, tta.StepInfo(used=len(x))


class TouchesTheSource(tta.Adapter):
    """Learns in the model that was passed in."""

    def __init__(self, source, *args, **options):
        super().__init__(source, *args, **options)
        self.others = [source]

    @torch.no_grad()
    def step(self, x):
        weight = next(self.others[0].parameters())
        if not weight.is_inference():
            weight.mul_(0.5)
        return self.answer(x), tta.StepInfo()


class ForgetsToReset(Good):
    """Counts its batches where reset() does not look."""

    seen = 0

    def step(self, x):
        self.seen += 1
        answer, info = super().step(x)
        return answer + self.seen, info

    def predict(self, x):
        return super().predict(x) + self.seen + 1


class SavesTooLittle(Good):
    """Resets all by itself what it does not save."""

    def start(self, source_data):
        super().start(source_data)
        self.total = 0.0

    def reset(self):
        super().reset()
        self.total = 0.0

    def answer(self, x):
        return super().answer(x) + self.total

    def step(self, x):
        answer, info = super().step(x)
        self.total += 1.0
        return answer, info


class WritesIntoTheBatch(Good):
    """Turns the brightness up in place."""

    def answer(self, x):
        return super().answer(x.mul_(1.1))


class DrawsGlobally(Good):
    """Adds noise from the global generator, seeded so that nothing else notices."""

    def answer(self, x):
        torch.manual_seed(0)
        return super().answer(x + 0.1 * torch.randn(x.shape).to(x))


class DrawsFromNumpy(Good):
    """The same with numpy's."""

    def answer(self, x):
        np.random.seed(0)
        return super().answer(x + 0.1 * torch.from_numpy(np.random.randn(*x.shape)).to(x))


class NeedsTwo(Good):
    """Divides by the spread over the batch."""

    def answer(self, x):
        logits = super().answer(x)
        return logits / (logits - logits.mean(0)).abs().amax(0)


class Crashes(Good):
    """Raises for a batch of one."""

    def answer(self, x):
        return super().answer(x) + 0 * x.new_zeros(5)[: len(x)][1]


class LearnsInPredict(Good):
    """Its answer() moves the average."""

    def answer(self, x):
        answer = super().answer(x)
        self.mean.lerp_(self.network(x).mean(0).to(self.mean), 0.5)
        return answer

    def step(self, x):
        return self.answer(x), tta.StepInfo()


class Grows(Good):
    """Keeps every image."""

    def start(self, source_data):
        super().start(source_data)
        self.register_buffer("images", torch.zeros(0, 3, 32, 32))

    def step(self, x):
        self.images = torch.cat((self.images, x.float()))
        return super().step(x)


class OnlyFloat32(Good):
    """Answers in float32 whatever comes."""

    def answer(self, x):
        return super().answer(x).float()


class AnswersAnything(Good):
    """Looks at no input."""

    def forward(self, x):
        return self.step(x)[0].detach()


class RefusesAll(tta.Adapter):
    """Needs what no network has."""

    def prepare(self, model):
        raise tta.TTAError("it needs a camera: connect one")


class CannotBeMade(tta.Adapter):
    """Has a mistake in prepare()."""

    def prepare(self, model):
        return model.no_such_layer


class NeedsSource(Good):
    """Needs labelled source images."""

    requires = tta.Requirements(source_data=True)

    def start(self, source_data):
        super().start(source_data)
        assert len(source_data.needed_labels("it")) == len(source_data)


NOT_A_CLASS = 3
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METHODS)
    return "mine.py"


def broken(cls: str, network: str = "group_norm") -> dict[str, str]:
    """The promises that a class of the file breaks on a network, by what is promised, with the reasons."""
    outcomes = check(lambda model: tta.wrap(model, f"mine.py:{cls}", seed=1), {network: NETS[network]})
    return {outcome.promise: outcome.reason for outcome in outcomes if outcome.verdict == "broken"}


def test_a_good_method_keeps_every_promise(mine, capsys):
    assert main(["check", f"{mine}:Good", "--settings", "momentum=0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop() == f"mine.py:Good: {3 * len(PROMISES)} promises kept, 0 broken"
    assert len(lines) == 3 * len(PROMISES)
    assert [line.split()[:2] for line in lines] == [[net, "ok"] for net in NETS for _ in PROMISES]


@pytest.mark.parametrize(
    ("cls", "promise", "reason"),
    [
        ("TouchesTheSource", "The source model is never touched", "weight of the source model changed"),
        ("ForgetsToReset", "After reset() the state is that of the start", "something survives"),
        ("SavesTooLittle", "An adapter that was saved and loaded goes on", "state is missing from state_dict()"),
        ("WritesIntoTheBatch", "The batch that is passed in is not written to", "the adapter wrote into the batch"),
        ("DrawsGlobally", "The global random generators", "moved torch's global random generator on"),
        ("DrawsFromNumpy", "The global random generators", "moved numpy's global random generator on"),
        ("NeedsTwo", "Batches of 6, 1, 5 and 1", "a batch of 1 gets logits that are not finite"),
        ("Crashes", "Batches of 6, 1, 5 and 1", "a batch of 1 raises IndexError"),
        ("LearnsInPredict", "predict() changes nothing", "two calls of predict() differ"),
        ("Grows", "Parameters and buffers do not grow", "in three batches"),
        ("OnlyFloat32", "A bfloat16 model gets finite bfloat16 logits", "get torch.float32 logits"),
        ("AnswersAnything", "What is no batch of float images is refused", "raises"),
    ],
)
def test_a_bad_method_is_caught_by_the_promise_it_breaks(mine, cls, promise, reason):
    found = broken(cls)
    (told,) = [text for words, text in found.items() if words.startswith(promise)]
    assert reason in told
    if cls in ("TouchesTheSource", "SavesTooLittle", "DrawsGlobally", "DrawsFromNumpy", "Crashes"):
        assert len(found) == 1, found  # and nothing else is blamed


def test_a_broken_promise_is_exit_code_1_with_the_reason_in_its_line(mine, capsys):
    assert main(["check", f"{mine}:NeedsTwo"]) == 1
    lines = capsys.readouterr().out.splitlines()
    blamed = [line for line in lines if "BROKEN" in line]
    assert any("Batches of 6, 1, 5 and 1 images get finite logits" in line and "not finite" in line for line in blamed)
    assert lines[-1].endswith(f"{len(blamed)} broken")


def test_a_method_that_refuses_every_network_is_told(mine, capsys):
    assert main(["check", f"{mine}:RefusesAll"]) == 1
    shown = capsys.readouterr()
    assert [line.split()[:2] for line in shown.out.splitlines()] == [[net, "refused"] for net in NETS]
    assert shown.out.count("connect one") == 3
    assert "nothing could be checked" in shown.err


def test_a_mistake_at_construction_is_no_refusal(mine):
    (reason,) = broken("CannotBeMade").values()
    assert "AttributeError" in reason
    assert "no_such_layer" in reason


def test_a_network_that_is_refused_is_passed_over(capsys):
    assert main(["check", "bn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("  refused  " in line for line in lines) == 2
    assert lines[-1] == f"bn: {len(PROMISES)} promises kept, 0 broken"


def test_source_data_are_random_or_given(mine, capsys):
    source = Check(f"{mine}:NeedsSource")._build()(resnet()).source_cost
    assert source.images == len(source_images()[0])
    assert main(["check", f"{mine}:NeedsSource", "--source-data", "digits"]) == 0
    assert main(["check", f"{mine}:NeedsSource", "--source-data", "no_such_set"]) == 2
    assert "no_such_set" in capsys.readouterr().err
    x, y = source_images()
    assert sorted(set(y.tolist())) == list(range(10))
    assert x.shape[1:] == (3, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("no_such_method", "unknown method 'no_such_method'"),
        ("tnt", "did you mean 'tent'"),
        ("tent:imagenet", "expected the method alone: tent, preset='imagenet'"),
        ("missing.py:Good", "missing.py is not there"),
        ("mine.py:Godo", "unknown class in mine.py 'Godo': did you mean 'Good'"),
        ("mine.py:NOT_A_CLASS", "expected a class derived from tta.Adapter"),
        ("wrong.py:Good", "SyntaxError"),
        ("no_such_package:Good", "'no_such_package' cannot be imported"),
        ("mine.py:Good --settings momentun=1", "did you mean 'momentum'"),
        ("mine.py:Good --settings momentum", "expected KEY=VALUE"),
        ("mine.py:Good+recuring", "did you mean 'recurring'"),
        ("", "METHOD"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(mine, arguments, message, tmp_path, capsys):
    (tmp_path / "wrong.py").write_text("class Good(")
    assert main(["check", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
    assert message in shown.err


def test_a_class_of_a_file_can_be_wrapped_and_is_read_again_when_it_changes(mine, tmp_path):
    adapter = tta.wrap(resnet(), "mine.py:Good+recurring", every=2, momentum=0.5)
    assert adapter.name == "Good+recurring"
    assert named("mine.py:Good") is named(str(tmp_path / "mine.py:Good"))
    (tmp_path / "mine.py").write_text(METHODS.replace("momentum: float = 0.9", "momentum: float = 0.99"))
    assert tta.wrap(resnet(), "mine.py:Good").config.momentum == 0.99


def test_a_file_can_be_benchmarked_and_its_results_depend_on_its_text(mine, tmp_path, capsys):
    command = ["bench", "--methods", "source", "mine.py:Good", "--domains", "fog", "--limit", "16", "--out", "out"]
    assert main(command) == 0
    assert "|mine.py:Good" in capsys.readouterr().out
    assert main(command) == 0
    assert capsys.readouterr().err.count("kept from an earlier run") == 2
    (tmp_path / "mine.py").write_text(METHODS.replace("1 - self.config.momentum", "0.0"))
    assert main(command) == 0
    assert capsys.readouterr().err.count("kept from an earlier run") == 1
    assert split_preset("mine.py:Good") == ("mine.py:Good", None)


def test_holding_a_tensor_that_is_false_is_breaking():
    hold(torch.tensor(True), "never")
    with pytest.raises(ContractBroken, match="so it is"):
        hold(torch.tensor(False), "so it is")
