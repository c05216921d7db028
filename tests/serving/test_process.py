"""`tta serve` as a process: started, told to stop, killed, and started again; always under load."""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from loopback import ask, crowd
from places import ROOT

from tta.cli import main
from tta.digits import digits
from tta.guard.snapshots import Snapshots

started = []
REQUESTS = 400  # of each of the 8 clients, more than a server answers before it is stopped


def start(folder, *options):
    """A process that serves, its port, and the version that it has begun with."""
    words = ["serve", "--port", "0", "--folder", str(folder), "--snapshot-every", "5", "--rehearsal", "4", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tta", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    started.append(process)
    line = process.stdout.readline()
    assert line, process.stderr.read()
    port, version = re.fullmatch(r"http://127\.0\.0\.1:(\d+)  version (\d+), .*\n", line).groups()
    return process, int(port), int(version)


def newest(folder):
    """The state of the newest snapshot, read as a deployment reads it."""
    return Snapshots(folder, keep=99, identity={}).latest()[1]


class Load:
    """Eight clients that ask until the server is gone."""

    def __init__(self, port):
        x = digits("test")[0].numpy()
        rng = np.random.default_rng(port)
        noisy = np.clip(x[:64] + rng.normal(0, 20, x[:64].shape), 0, 255).astype(np.uint8)
        self.bodies, self.port = [npy(image) for image in noisy], port
        self.answers, self.failures = [], []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        self.answers, self.failures = crowd(self.port, 8, self.bodies, REQUESTS)

    def until(self, version):
        """Waits until the server has come so far."""
        for _ in range(2000):
            if ask(self.port, "GET", "/health")[1]["version"] >= version:
                return
            time.sleep(0.01)
        raise AssertionError("the server learns nothing")

    def end(self):
        """All answers, each with its status."""
        self.thread.join(120)
        assert all(isinstance(failure, OSError | http.client.HTTPException) for failure in self.failures)
        return self.answers


def npy(image):
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


@pytest.mark.slow
def test_kill_9_resumes_and_sigterm_loses_nothing(tmp_path):
    options = ("--method", "tent", "--guard", "off", "--max-wait-ms", "1")
    process, port, version = start(tmp_path, *options)
    assert version == 0
    load = Load(port)
    load.until(12)
    process.kill()
    process.wait(60)
    answers = load.end()
    assert load.failures, "the server was killed in the middle"
    assert {status for _, status, *_ in answers} == {200}
    seen, kept = max(answer["version"] for _, _, answer, _ in answers), newest(tmp_path)

    process, port, version = start(tmp_path, *options)
    assert version == kept["version"] > 0
    assert version % 5 == 0
    assert seen - version <= 5 + 1, "at most the updates since the last snapshot are lost"
    load = Load(port)
    load.until(version + 12)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    answers = load.end()
    assert load.failures, "the server has stopped in the middle"
    assert {status for _, status, *_ in answers} == {200}
    end = newest(tmp_path)
    images = end["counters"]["images"] - kept["counters"]["images"]
    assert images == len(answers), "whatever the model has answered has reached the one who asked"
    assert f"stopped at version {end['version']}" in err
    assert err.count("\n") == 1, err
    assert {answer["id"].partition("-")[0] for _, _, answer, _ in answers} == {
        json.loads((tmp_path / "serving.json").read_text())["epoch"]
    }


def test_what_cannot_be_served_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    short = tmp_path / "token"
    short.write_text("secret\n")
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\n")
    for words, said in (
        (["--token-file", short], "at least 16"),
        (["--token-file", tmp_path / "none"], "is not there"),
        (["--host", "203.0.113.1"], "cannot take 203.0.113.1:8000"),
        (["--port", "0", "--method", "tentt"], "did you mean 'tent'"),
        (["--port", "0", "--max-batch", "0"], "at least 1 image"),
        (["--port", "0", "--labels", names], "2 names of classes"),
        (["--port", "0", "--labels", tmp_path / "none"], "--labels"),
        (["--port", "0", "--size", "0"], "size is 0"),
        (["--port", "0", "--max-pixels", "100"], "allow more"),
    ):
        assert main(["serve", *map(str, words)]) == 2
        shown = capsys.readouterr()
        assert said in shown.err
        assert shown.err.count("\n") == 1
        assert shown.out == ""


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    import tta.serve_command

    monkeypatch.setattr(tta.serve_command, "find_spec", lambda name: None)
    assert main(["serve"]) == 2
    assert "pip install 'tta-harness[serve]'" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _leaves_nothing(monkeypatch):
    monkeypatch.delenv("TTA_ADMIN_TOKEN", raising=False)
    yield
    while started:
        with started.pop() as process:
            process.kill()
