"""The server over the loopback address: answers, refusals, admin routes, numbers, and a crowd of clients."""

import io
import json
import re
import socket
import threading
import time

import numpy as np
import pytest
import torch
from loopback import TOKEN, ask, crowd, operate, predict, serving
from PIL import Image
from torch import nn

import tta
from tta.adapter import Adapter, StepInfo
from tta.contract import NETS, images, source_images
from tta.deployment import Guard
from tta.serving.app import Limits
from tta.serving.images import Format
from tta.serving.kept import OneProcess
from tta.serving.served import Served

FORM = Format(32)
NET = NETS["group_norm"]()
NAMES = tuple("abcdefghij")
PICTURES = [(image * 255).byte().numpy() for image in images(0)]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(pixels, 0, 2)).save(file, "PNG")
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def deployed(method="source", model=NET, **settings):
    return tta.deploy(model, method, guard=settings.pop("guard", Guard.off()), **settings)


@pytest.fixture
def served():
    return Served(deployed(), FORM, NAMES)


def test_one_image_and_several(served):
    x = torch.stack([torch.from_numpy(p) for p in PICTURES]) / 255
    with torch.no_grad():
        probabilities, classes = NET(x).softmax(1).max(1)
    with serving(served) as port:
        one = predict(port, png(PICTURES[0]), "image/png")
        many = predict(port, npy(np.stack(PICTURES)))["answers"]
    assert (one["class"], one["probability"]) == (many[0]["class"], many[0]["probability"])
    assert [a["class"] for a in many] == classes.tolist()
    assert [a["label"] for a in many] == [NAMES[k] for k in classes]
    assert np.allclose([a["probability"] for a in many], probabilities, atol=1e-5)
    assert all(a["by_adapter"] is True for a in many)
    assert len({a["id"] for a in (one, *many)}) == 7


def test_what_is_refused_is_told_in_json(served):
    with serving(served, Limits(max_batch=4, max_body=20_000)) as port:
        for method, path, body, headers, status in (
            ("POST", "/predict", b"GIF89a", {"Content-Type": "image/gif"}, 415),
            ("POST", "/predict", b"nothing known", {}, 415),
            ("POST", "/predict", png(PICTURES[0])[:500], {}, 422),
            ("POST", "/predict", bytes(20_001), {}, 413),
            ("POST", "/predict", (bytes(1000) for _ in range(25)), {}, 413),  # chunked, without a length
            ("POST", "/predict", (bytes(1000) for _ in range(90)), {}, 413),
            ("POST", "/predict", npy(np.zeros((40, 3, 8, 8), np.uint8)), {}, 413),
            ("POST", "/predict", png(PICTURES[0]), {"Origin": "http://elsewhere.example"}, 403),
            ("GET", "/predict", None, {}, 405),
            ("GET", "/nothing", None, {}, 404),
            ("GET", "/docs", None, {}, 404),
        ):
            came, answer, _ = ask(port, method, path, body, headers)
            assert came == status, answer
            assert [*answer] == ["error"]
        assert predict(port, png(PICTURES[0]))["id"].endswith("-0"), "nothing of that has reached the model"


def raw(port, text, wait=True):
    """What comes back for bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR) if not wait else None
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_lengths_that_lie_and_bodies_that_do_not_come(served):
    with serving(served, Limits(timeout=0.3, max_body=1000)) as port:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        assert b" 413 " in raw(port, head + b"Content-Length: 99999999999999\r\n\r\nabc")
        assert b" 408 " in raw(port, head + b"Content-Length: 100\r\n\r\nabc")
        assert b" 400 " in raw(port, head + b"Content-Length: many\r\n\r\nabc")
        raw(port, head + b"Content-Length: 100\r\n\r\nabc", wait=False)  # and goes away
        assert predict(port, npy(np.zeros((8, 8), np.uint8)))


class Waits(Adapter):
    """Answers when it is told to."""

    name = "waits"
    gate = threading.Event()

    def answer(self, x):
        assert self.gate.wait(60)
        return self.model(x)


@pytest.fixture
def waits(monkeypatch):
    monkeypatch.setitem(tta.registry._registered, "waits", Waits)
    Waits.gate.set()
    yield Served(deployed("waits"), FORM)
    Waits.gate.set()


def test_a_full_queue_is_503_and_a_late_answer_504_and_all_others_come(waits):
    limits = Limits(max_batch=2, queue=4, max_wait=0.0, timeout=60)
    with serving(waits, limits) as port:
        Waits.gate.clear()
        came = []
        threads = [
            threading.Thread(target=lambda: came.append(ask(port, "POST", "/predict", png(PICTURES[0]))))
            for _ in range(7)
        ]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while len(came) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        assert [status for status, *_ in came] == [503] * 3
        assert came[0][2]["retry-after"] == "1"
        assert ask(port, "GET", "/health/live")[0] == 200, "the event loop does not wait for the model"
        Waits.gate.set()
        for thread in threads:
            thread.join(60)
        assert sorted(status for status, *_ in came) == [200] * 4 + [503] * 3
    with serving(waits, Limits(timeout=0.2)) as port:
        Waits.gate.clear()
        assert ask(port, "POST", "/predict", png(PICTURES[0]))[0] == 504
        Waits.gate.set()
        assert predict(port, png(PICTURES[0]))


class Breaks(nn.Module):
    """Cannot answer dark images, and gives no numbers for bright ones."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, x):
        light = x.mean((1, 2, 3))
        if bool((light < 0.01).any() & (x.max() > 0)):
            raise RuntimeError("too dark")
        return self.layer(light[:, None]).masked_fill((light > 0.99)[:, None], float("nan"))


def test_a_model_that_fails_is_told_and_the_next_image_answered(caplog):
    dark, bright = np.zeros((3, 32, 32), np.uint8), np.full((3, 32, 32), 255, np.uint8)
    dark[0, 0, 0] = 1
    with serving(Served(deployed(model=Breaks()), FORM)) as port:
        status, answer, _ = ask(port, "POST", "/predict", png(dark))
        assert status == 500
        assert "too dark" in answer["error"]
        assert ask(port, "GET", "/health")[0] == 503
        assert "RuntimeError" in caplog.text
        assert predict(port, png(PICTURES[0]))
        assert ask(port, "GET", "/health/ready")[0] == 200
        status, answer, _ = ask(port, "POST", "/predict", png(bright))
        assert status == 500
        assert "finite" in answer["error"]


# What an operator does


def test_admin_routes_need_the_token(served):
    routes = ("/snapshot", "/rollback", "/reset", "/freeze", "/audit")
    with serving(served) as port:
        for path in routes:
            assert operate(port, path, token=None)[0] == 401
            status, answer = operate(port, path, token=TOKEN[:-1] + "x")
            assert (status, [*answer]) == (401, ["error"])
        assert operate(port, "/snapshots", token="", method="GET")[0] == 401
        assert ask(port, "POST", "/freeze", headers={"Authorization": f"Basic {TOKEN}"})[0] == 401
        assert ask(port, "POST", "/audit", b"x" * 30_000_000, {"Authorization": "Bearer no"})[0] == 401
        assert not served.deployed.frozen
    with serving(served, token=None) as port:
        for path in routes:
            status, answer = operate(port, path)
            assert status == 403
            assert "TTA_ADMIN_TOKEN" in answer["error"]


def test_snapshot_rollback_freeze_reset_and_audit(tmp_path):
    net = NETS["batch_norm"]()
    own = deployed("tent", model=net, folder=tmp_path)
    served = Served(own, FORM, folder=tmp_path)
    body = npy(np.stack(PICTURES))
    with serving(served) as port:
        assert operate(port, "/rollback")[0] == 409
        predict(port, body)
        assert operate(port, "/snapshot") == (200, {"snapshot": 1, "version": 1})
        kept = own.adapter.predict(images(5))
        old = [answer["id"] for answer in predict(port, body)["answers"]]
        assert not torch.equal(own.adapter.predict(images(5)), kept)
        assert operate(port, "/rollback") == (200, {"snapshot": 1, "version": 1, "snapshots": [1]})
        assert torch.equal(own.adapter.predict(images(5)), kept)
        assert operate(port, "/rollback", {"snapshot": 9})[0] == 409
        status, interval = operate(port, "/audit", {"ids": old, "labels": [0] * 6})
        assert (status, interval["unknown_ids"]) == (200, 6), "the adapter that gave them is gone"
        ids = [answer["id"] for answer in predict(port, body)["answers"]]
        assert not {*ids} & {*old}
        assert operate(port, "/audit", {"ids": ids, "labels": [0] * 6})[1]["unknown_ids"] == 0
        assert operate(port, "/freeze") == (200, {"frozen": True, "version": 2})
        predict(port, body)
        assert own.version == 2
        assert operate(port, "/freeze", {"frozen": False})[1]["frozen"] is False
        assert operate(port, "/reset") == (200, {"version": 3})
        with torch.no_grad():
            assert torch.equal(own.adapter.predict(images(5)), tta.wrap(net, "tent").predict(images(5)))
        assert operate(port, "/snapshots", method="GET") == (200, {"snapshots": [1]})


def test_an_audit_takes_labels_of_both_models(tmp_path):
    net = NETS["batch_norm"]()
    own = tta.deploy(net, "tent", source_data=source_images(), folder=tmp_path)
    served = Served(own, FORM, folder=tmp_path)
    with serving(served) as port:
        ids = [answer["id"] for answer in predict(port, npy(np.stack(PICTURES)))["answers"]]
        status, interval = operate(port, "/audit", {"ids": [*ids, "made-up", f"{ids[0]}0000"], "labels": [3] * 8})
    assert (status, interval["unknown_ids"]) == (200, 1), interval
    assert interval["labels"] in (0, 6)
    assert interval["low"] <= (interval["difference"] or 0) <= interval["high"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/audit", {"ids": ["a"], "labels": []}),
        ("/audit", {"ids": ["a"], "labels": [10]}),
        ("/audit", {"ids": [1], "labels": [1]}),
        ("/audit", {"ids": ["a"], "labels": [True]}),
        ("/audit", {"ids": "a"}),
        ("/audit", [1, 2]),
        ("/rollback", {"snapshot": "newest"}),
        ("/rollback", {"version": 1}),
        ("/freeze", {"frozen": 1}),
        ("/snapshot", {}),  # there is no folder
    ],
)
def test_admin_requests_that_do_not_fit(served, path, values):
    with serving(served) as port:
        status, answer = operate(port, path, values)
    assert status in (409, 422)
    assert [*answer] == ["error"]


def test_admin_bodies_are_limited_and_must_be_json(served):
    with serving(served) as port:
        header = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(port, "POST", "/audit", b"[" * 900_000, header)[0] == 422
        for size in (1_000_001, 30_000_000):  # larger than what the system takes on from a client that is not read
            assert ask(port, "POST", "/audit", b" " * size, header)[0] == 413
            assert ask(port, "POST", "/audit", (b" " * 65_536 for _ in range(size // 65_536 + 1)), header)[0] == 413


def test_numbers_are_text_for_prometheus(served):
    with serving(served) as port:
        predict(port, npy(np.stack(PICTURES)))
        for path in ("/made/up", "/made/up/too"):
            ask(port, "GET", path)
        text = ask(port, "GET", "/metrics")[1]
    assert "tta_images_total 6" in text
    assert 'tta_http_requests_total{method="POST",route="/predict",status="200"} 1' in text
    assert 'tta_http_requests_total{method="GET",route="other",status="404"} 2' in text
    assert 'tta_http_request_seconds_count{route="predict"} 1' in text
    assert "tta_http_batch_images_sum 6" in text
    line = re.compile(r'(# (HELP|TYPE) .+)|([a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [-+.e\dinf]+)')
    assert all(line.fullmatch(one) for one in text.splitlines())
    types = [one.split()[2] for one in text.splitlines() if one.startswith("# TYPE")]
    assert len(types) == len({*types})


# A crowd


class Counts(nn.Module):
    """Two long parameters; the answer tells their common value, or that they are torn."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.zeros(20_000)) for _ in range(2))

    def forward(self, x):
        a = [self.a.min(), self.a.max()]
        time.sleep(0.002)  # long enough for an update to come in between, if it could
        ends = torch.stack([*a, self.b.min(), self.b.max()])
        whole = torch.stack([ends.new_zeros(()), ends.mean() / 100, 100 * (ends.max() - ends.min()) - 50])
        return whole + 0 * x.mean((1, 2, 3))[:, None]


class Slowly(Adapter):
    """Adds 1 to every parameter, in two strokes."""

    name = "slowly"

    def prepare(self, model):
        return [model.a, model.b]

    def _fresh_optimiser(self):
        return None

    def step(self, x):
        logits = self.model(x)
        with torch.no_grad():
            self.model.a += 1
            time.sleep(0.001)
            self.model.b += 1
        return logits, StepInfo(updated=True)


@pytest.mark.parametrize("background", [False, True])
def test_32_clients_get_every_answer_and_none_from_a_half_committed_model(monkeypatch, background):
    monkeypatch.setitem(tta.registry._registered, "slowly", Slowly)
    own = deployed("slowly", model=Counts(), background=background)
    bodies = [png(pixels) for pixels in PICTURES]
    with serving(Served(own, FORM), Limits(max_batch=8)) as port:
        answers, failures = crowd(port, 32, bodies, 12)
        assert not failures
        text = ask(port, "GET", "/metrics")[1]
    assert [status for _, status, *_ in answers] == [200] * (32 * 12)
    given = [answer for _, _, answer, _ in answers]
    assert len({answer["id"] for answer in given}) == 32 * 12
    assert f"tta_images_total {32 * 12}\n" in text
    for answer in given:
        assert answer["class"] < 2, f"torn: {answer}"
        expected = torch.tensor([0.0, answer["version"] / 100]).softmax(0).max()
        assert answer["probability"] == pytest.approx(float(expected), abs=2e-6)
    assert len({answer["version"] for answer in given}) > 10
    own.close()


# What a process keeps


def test_ids_go_on_after_an_orderly_end_and_only_then(tmp_path):
    def begin():
        return Served(deployed("tent", model=NETS["batch_norm"](), folder=tmp_path), FORM, folder=tmp_path)

    first = begin()
    given = first.answer(PICTURES)
    first.close()
    first.close()
    second = begin()
    assert second.epoch == first.epoch
    assert second.answer(PICTURES)[0].id == f"{first.epoch}-6"
    assert given[0].id == f"{first.epoch}-0"
    third = begin()  # the second has not ended in order
    assert third.epoch != first.epoch


def test_a_folder_has_one_process(tmp_path):
    held = OneProcess(tmp_path)
    with pytest.raises(tta.TTAError, match="held by another"):
        OneProcess(tmp_path)
    held.close()
    OneProcess(tmp_path).close()


def test_what_does_not_fit_is_refused():
    with pytest.raises(tta.TTAError, match="names of classes"):
        Served(deployed(), FORM, ("a", "b"))
    with pytest.raises(tta.TTAError, match="room for a batch"), serving(Served(deployed(), FORM), Limits(queue=1)):
        pass


def test_the_schema_is_json(served):
    with serving(served) as port:
        status, schema, _ = ask(port, "GET", "/openapi.json")
    assert status == 200
    assert {"/predict", "/health", "/metrics", "/rollback"} <= {*schema["paths"]}
    assert json.dumps(schema)
