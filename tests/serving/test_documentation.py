"""What docs/serve.md shows is run: the commands are read, the curl lines asked, the Python executed."""

import json
import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
import torch
from loopback import TOKEN, serving
from PIL import Image
from places import ROOT
from safetensors.torch import save_file

from tta.cli import parse
from tta.digits import digits
from tta.serve_command import Serve

TEXT = (ROOT / "docs" / "serve.md").read_text()
BLOCKS = re.findall(r"(?:<!-- (\S+) -->\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for _, language, text in BLOCKS if language == "bash" for line in text.splitlines()]
PYTHON = [text for name, language, text in BLOCKS if language == "python" and not name]


def test_every_command_can_be_read():
    commands = [shlex.split(line)[1:] for line in LINES if line.startswith("tta ")]
    assert len(commands) >= 5
    assert all(isinstance(parse(words), Serve) for words in commands)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_line_is_answered(tmp_path):
    x = digits("test")[0].numpy()
    Image.fromarray(np.moveaxis(x[0], 0, 2)).resize((300, 200)).save(tmp_path / "picture.png")
    np.save(tmp_path / "pictures.npy", x[:5])
    served = Serve(method="bn", folder=tmp_path / "state", rehearsal=4, split="test").served()
    lines, said = [line for line in LINES if line.startswith("curl ")], []
    with serving(served) as port:
        for line in lines:
            line = line.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            done = subprocess.run(
                ["sh", "-c", line.replace("curl", "curl -sS", 1)],
                cwd=tmp_path, capture_output=True, text=True, env={"TTA_ADMIN_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    served.close()
    answers = {line: json.loads(text) for line, text in zip(lines, said, strict=True) if text.startswith("{")}
    assert len(answers) == len(lines) - 1, "all but the metrics are JSON"
    assert not [line for line, answer in answers.items() if "error" in answer]
    (example,) = [json.loads(text) for _, language, text in BLOCKS if language == "json"]
    assert [*answers[lines[0]]] == [*example]
    assert "tta_images_total 6" in said[-1]


@pytest.fixture
def known(tmp_path, monkeypatch):
    """The files and the names that the text takes for granted."""
    monkeypatch.chdir(tmp_path)
    for name, _, text in BLOCKS:
        if name:
            (tmp_path / name).write_text(text)
    import timm
    import torchvision

    torch.manual_seed(0)
    names = {}
    exec((tmp_path / "model.py").read_text(), names)
    save_file(names["build"]().state_dict(), "model.safetensors")
    save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), "timm.safetensors")
    save_file(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict(), "torchvision.safetensors")
    x = torch.rand(24, 3, 32, 32)
    return {"images": x, "labels": torch.arange(24) % 10, "x": x[:4], "pictures": torch.rand(2, 3, 200, 160),
            "batches": x.split(12)}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(PYTHON)))
@pytest.mark.filterwarnings("ignore")
def test_the_python_runs(known, number):
    text = PYTHON[number]
    if "onnx" in text:
        for module in ("onnx", "onnxscript"):
            pytest.importorskip(module, reason=f"{module} is not installed: pip install 'tta-harness[onnx]'")
    exec(compile(text, "docs/serve.md", "exec"), known)
    if "logits" in known:
        assert known["logits"].shape == (2, 1000)
        assert known["logits"].isfinite().all()
    if "answer" in known:
        assert known["answer"].logits.shape == (4, 10)


def test_the_models_of_the_text_are_own_timm_and_torchvision():
    assert ["model.py:" in text for text in PYTHON].count(True) == 1
    assert ["timm:" in text for text in PYTHON].count(True) == 1
    assert ["torchvision:" in text for text in PYTHON].count(True) == 1
