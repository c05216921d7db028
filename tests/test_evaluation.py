"""The evaluation loop: what it measures, what an adapter sees, and what it says when an adapter fails."""

import math
import time
from pathlib import Path

import pytest
import torch
from fakes import CLASSES, Oracle, Pictures, Worsening, domains
from torch import nn

from tta.adapter import Adapter, StepInfo
from tta.cost import PassCounter, PeakMemory, Stopwatch, quantile
from tta.errors import TTAError
from tta.evaluation import AdapterFailed, evaluate
from tta.registry import wrap
from tta.streams import Domain, make_stream


class Watched(Adapter):
    """Remembers what it was given and when it was reset."""

    name = "watched"

    def start(self, source_data):
        self.given, self.resets = [], 0

    def forward(self, *args, **kwargs):
        self.given.append((args, kwargs))
        return super().forward(*args, **kwargs)

    def reset(self):
        self.resets += 1
        super().reset()


def values(results, metric, position=None):
    """Of the visits; of the whole stream where only that has the metric."""
    rows = [r for r in results.rows if r.metric == metric and position in (None, r.position)]
    return [r.value for r in [r for r in rows if r.position >= 0] or rows]


def test_a_perfect_adapter_has_no_error():
    results = evaluate(wrap(Oracle(), "source"), make_stream(domains(10, 7), batch_size=4))
    assert values(results, "error") == [0, 0]
    assert [(r.domain, r.severity, r.position, r.n) for r in results.rows if r.metric == "error"] == [
        ("d0", 5, 0, 10),
        ("d1", 5, 1, 7),
        ("all", None, -1, 17),
    ]


def test_error_counts_the_wrong_answers():
    # right for two batches of four, then wrong: 2 of 10 in the first domain, all 7 in the second
    results = evaluate(Worsening(Oracle()), make_stream(domains(10, 7), batch_size=4))
    assert values(results, "error") == [pytest.approx(20), 100]


def test_mixed_domains_are_told_apart():
    wrong = Pictures(6, offset=1)  # the pixels of the next class
    stream = make_stream([Domain("right", 5, Pictures(6)), Domain("wrong", 5, wrong)], "mixed", 5)
    results = evaluate(wrap(Oracle(), "source"), stream)
    assert {r.domain: (r.value, r.n) for r in results.rows if r.metric == "error" and r.position >= 0} == {
        "right": (0, 6),
        "wrong": (100, 6),
    }


def test_an_adapter_is_given_the_images_and_nothing_else():
    adapter = Watched(Oracle())
    evaluate(adapter, make_stream(domains(6), batch_size=4))
    assert [(len(args), kwargs) for args, kwargs in adapter.given] == [(1, {}), (1, {})]
    assert [tuple(args[0].shape) for args, _ in adapter.given] == [(4, 3, 4, 4), (2, 3, 4, 4)]


@pytest.mark.parametrize(("reset", "times"), [("never", 0), ("domain", 2), ("batch", 5)])
def test_reset_policies(reset, times):
    adapter = Watched(Oracle())
    evaluate(adapter, make_stream(domains(10, 7), batch_size=4), reset=reset)
    assert adapter.resets == times


def test_reset_per_domain_undoes_what_was_learned():
    results = evaluate(Worsening(Oracle()), make_stream(domains(10, 7), batch_size=4), reset="domain")
    assert values(results, "error") == [pytest.approx(20), 0]


def test_forgetting_is_clean_error_after_minus_before():
    results = evaluate(Worsening(Oracle()), make_stream(domains(12), batch_size=4), probe=Pictures(9))
    assert values(results, "clean_error_before") == [0]
    assert values(results, "clean_error_after") == [100]
    assert values(results, "forgetting") == [100]
    assert "forgetting" not in {r.metric for r in evaluate(Worsening(Oracle()), make_stream(domains(4))).rows}


def test_the_probe_changes_nothing():
    def answers(probe):
        results = evaluate(Worsening(Oracle()), make_stream(domains(10), batch_size=3), probe=probe)
        return results.records["worsening-0"]["prediction"].tolist()

    assert answers(None) == answers(Pictures(8))


def test_records_hold_every_image_in_the_order_of_the_stream():
    stream = make_stream(domains(10, 7), batch_size=4, seed=2)
    records = evaluate(Worsening(Oracle()), stream).records["worsening-0"]
    batches = list(stream)
    for field in ("index", "domain"):
        assert records[field].tolist() == torch.cat([getattr(b, field) for b in batches]).tolist()
    assert records["label"].tolist() == torch.cat([b.y for b in batches]).tolist()
    assert records["position"].tolist() == [0] * 10 + [1] * 7
    assert (records["prediction"] != records["label"]).sum() == 9
    certain = math.exp(5) / (math.exp(5) + CLASSES - 1)
    assert records["confidence"] == pytest.approx(certain, rel=1e-5)


def test_on_step_sees_every_batch_and_the_rows_of_a_domain_when_it_ends():
    steps = []
    results = evaluate(wrap(Oracle(), "source"), make_stream(domains(5, 4), batch_size=4), on_step=steps.append)
    assert [(s.step, s.steps, s.position, len(s.logits)) for s in steps] == [(1, 3, 0, 4), (2, 3, 0, 1), (3, 3, 1, 4)]
    assert [bool(s.rows) for s in steps] == [False, True, True]
    assert [r for s in steps for r in s.rows] == [r for r in results.rows if r.position >= 0]


def test_passes_are_counted_in_images():
    class Twice(Adapter):
        """Two forwards and one backward of each image."""

        name = "twice"

        def prepare(self, model):
            return []

        def step(self, x):
            logits = self.model(x)
            again = self.model(x.clone().requires_grad_())
            self.model.scale.requires_grad_(True)
            torch.autograd.grad(self.model(x).sum(), self.model.scale)
            return logits + 0 * again.detach(), StepInfo(used=len(x))

    results = evaluate(Twice(Oracle()), make_stream(domains(10, 7), batch_size=4), probe=Pictures(9))
    assert values(results, "forwards") == [3]
    assert values(results, "backwards") == [1]
    assert values(results, "forward_equivalents") == [5]


def test_passes_of_real_methods():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    stream = make_stream(domains(9), batch_size=4)
    costs = {m: values(evaluate(wrap(model, m), stream), "forward_equivalents") for m in ("source", "bn", "tent")}
    assert costs == {"source": [1], "bn": [1], "tent": [3]}


def test_a_counter_leaves_no_hooks_behind():
    net = nn.Linear(2, 2)
    with PassCounter([net]) as counter:
        net(torch.zeros(3, 2)).sum().backward()
        with torch.inference_mode():
            net(torch.zeros(4, 2))
    net(torch.zeros(3, 2)).sum().backward()
    assert counter.passes == (7, 3)
    assert not net._forward_hooks


def test_stopwatch_and_quantiles():
    watch = Stopwatch("cpu")
    for _ in range(3):
        with watch.step():
            pass
    assert len(watch.read()) == 3
    assert all(0 <= seconds < 1 for seconds in watch.read())
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.95) == pytest.approx(3.85)
    assert math.isnan(quantile([], 0.5))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_the_time_that_is_spent_waiting_for_images_is_told():
    class Slow(Pictures):
        def images(self, index):
            time.sleep(0.02)
            return super().images(index)

    stream = make_stream([Domain("slow", 5, Slow(12))], batch_size=4)
    (waited,) = values(evaluate(wrap(Oracle(), "source"), stream), "seconds_images")
    assert waited >= 3 * 0.02


def test_peak_memory_is_the_growth_since_the_start_and_starts_anew():
    memory = PeakMemory("cpu")
    block = torch.ones(40_000_000)
    assert 150 < memory.read() < 400
    del block
    assert PeakMemory("cpu").read() < 50


def failing(answer):
    class Failing(Adapter):
        """Answers as told."""

        name = "failing"

        def forward(self, x):
            return answer(x)

    return Failing(Oracle())


def explode(x):
    raise RuntimeError("the\nmatrix is singular")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            explode,
            r"failing raised RuntimeError on batch 1 of the stream, images \(4, 3, 4, 4\): the matrix is singular",
        ),
        (
            lambda x: torch.full((len(x), 4), float("nan")),
            "failing returned logits that are not finite by visit 1 of 2",
        ),
        (lambda x: torch.zeros(len(x), 4, 2), r"failing must return logits of shape \(4, K\).* got shape \(4, 4, 2\)"),
        (lambda x: torch.zeros(3, 4), r"got shape \(3, 4\)"),
        (lambda x: None, "got NoneType"),
    ],
)
def test_an_adapter_that_fails_is_named(answer, message):
    with pytest.raises(AdapterFailed, match=message):
        evaluate(failing(answer), make_stream(domains(5, 4), batch_size=4))


def test_labels_without_a_class_are_refused():
    data = Pictures(6)
    data.labels = torch.arange(6)
    with pytest.raises(TTAError, match=r"labels of pictures run from 0 to 5, but the model has 4 classes \(0 to 3\)"):
        evaluate(wrap(Oracle(), "source"), make_stream([Domain("fog", 5, data)]))


def test_unknown_reset_policy():
    with pytest.raises(TTAError, match="did you mean 'never'"):
        evaluate(wrap(Oracle(), "source"), make_stream(domains(3)), reset="nver")


def test_provenance_says_what_was_run():
    stream = make_stream(domains(5), batch_size=4, seed=3)
    results = evaluate(wrap(Oracle(), "source", seed=3), stream, probe=Pictures(4))
    (cell,) = results.provenance["cells"]
    assert (cell["method"], cell["seed"], cell["answers"]) == ("source", 3, "before")
    protocol = results.provenance["protocols"][cell["protocol"]]
    assert protocol["sequence"] == stream.definition["sequence"]
    assert protocol["reset"] == "never"
    assert protocol["probe"]["n"] == 4
    environment = results.provenance["environments"][cell["environment"]]
    assert environment["torch"].startswith(torch.__version__.partition("+")[0])
    assert {"python", "torchvision", "timm", "numpy", "platform", "device", "threads", "command"} <= set(environment)


def test_nobody_is_scored_on_the_images_of_an_unscored_domain():
    odd = Pictures(8)
    odd.labels = odd.labels + 100  # no class of the model's
    stream = make_stream([Domain("fog", 5, Pictures(10)), Domain("odd", 0, odd, scored=False)], "mixed", 4)
    results = evaluate(wrap(Oracle(), "source"), stream)
    assert {(r.domain, r.value, r.n) for r in results.rows if r.metric == "error"} == {("fog", 0, 10), ("all", 0, 10)}
    labels = results.records["source-0"]["label"]
    assert [(labels == -1).sum(), (labels >= 0).sum()] == [8, 10]
    assert {r.n for r in results.rows if r.metric == "forwards"} == {18}  # cost is that of all images
