"""The command line: what works, what it says where something is wrong, and Ctrl-C."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tta.cli import main
from tta.results import Results

ROOT = Path(__file__).parents[1]
QUICK = ["bench", "--domains", "fog", "brightness", "--limit", "48", "--batch-size", "16"]


def command(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tta", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def run(*arguments):
    process = command(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_help_methods_and_corruptions(capsys):
    for arguments, words in (
        ([], ("bench", "methods", "corruptions", "examples")),
        (["bench", "--help"], ("--methods", "--out", "examples:", "tta bench --dataset cifar10")),
        (["methods"], ("source", "bn", "tent", "cotta", "ttaug", "batch norm", "1F 1B")),
        (["corruptions"], ("fog", "weather", "jpeg_compression")),
        (["--version"], ("tta 0.",)),
    ):
        assert main(arguments) == 0
        shown = capsys.readouterr()
        assert all(word in shown.out for word in words)
        assert shown.err == ""


def test_a_method_is_told_with_its_settings_and_presets(capsys):
    assert main(["methods", "cotta"]) == 0
    told = capsys.readouterr().out
    for part in ("Memory: six models", "Wang et al.", "    restore = 0.01\n", "    cotta:fast  ", "gate=0.72"):
        assert part in told, part
    assert main(["methods", "+recurring"]) == 0
    assert "    every = 1000\n" in capsys.readouterr().out
    assert main(["methods", "source"]) == 0
    assert "Settings" not in capsys.readouterr().out
    assert main(["methods", "cota"]) == 2
    assert "did you mean 'cotta'" in capsys.readouterr().err


def test_methods_take_one_line_each(capsys):
    import tta
    from tta.registry import list_wrappers

    main(["methods"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == [*tta.list_methods(), *(f"+{name}" for name in list_wrappers())]


def test_corruptions_take_one_line_each_under_their_suite(capsys):
    import corruptions

    main(["corruptions"])
    lines = capsys.readouterr().out.splitlines()[1:]
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(listed) == sorted(corruptions.names())
    assert lines[0] == "imagenet-c:"
    assert lines[-1] == f"suites: {', '.join(corruptions.suites())}"
    main(["corruptions", "--suite", "imagenet-c-holdout"])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert tuple(line.split()[0] for line in lines[1:]) == corruptions.HOLDOUT
    assert main(["corruptions", "--suite", "imagenet-d"]) == 2
    assert "did you mean 'imagenet-c'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import tta", ("torch", "timm", "robustbench", "pandas", "sklearn", "tyro", "rich")),
        ("from tta.cli import main; main(['--help'])", ("torch", "timm", "robustbench", "pandas", "sklearn")),
        ("from tta.cli import main; main(['bench', '--help'])", ("torch", "timm", "robustbench", "pandas", "sklearn")),
        ("from tta.cli import main; main(['methods'])", ("timm", "robustbench", "pandas", "sklearn")),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code, absent):
    check = f"{code}; import sys; sys.exit(', '.join(m for m in {absent} if m in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_bench_shows_a_table_and_writes_results(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main([*QUICK, "--methods", "source", "bn", "--seeds", "0", "1", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [word.strip() for word in lines[0].strip("|").split("|")] == [
        "method", "fog", "brig", "mean", "worst", "+harm", "ECE", "forget", "ms", "F",
    ]  # fmt: skip
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["source", "bn"]
    assert "n = 48 images per domain" in shown.out
    assert "2 seeds" in shown.out
    assert len(shown.err.splitlines()) == 4
    results = Results.from_json(out / "results.json")
    assert results.methods() == ["source", "bn"]
    assert {row.metric for row in results.rows} >= {"error", "ece", "nll", "brier", "forgetting", "forward_equivalents"}
    (environment,) = results.provenance["environments"].values()
    assert environment["frost_textures"] == "procedural"
    cell = results.provenance["cells"][0]
    assert len(cell["model"]["sha256"]) == 64
    assert (
        (out / "results.csv").read_text().startswith("method,seed,order,batch_size,reset,position,domain,severity,n,")
    )
    assert main([*QUICK, "--methods", "source", "bn", "--seeds", "0", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("kept from an earlier run") == 4


@pytest.mark.parametrize(
    "options",
    [
        ["--order", "mixed"],
        ["--order", "gradual", "--severity", "3"],
        ["--reset", "batch", "--arrangement", "stored"],
        ["--severity", "2.5"],
        ["--severity", "0"],
        ["--batch-size", "47"],
    ],
)
def test_protocols(options, capsys):
    assert main([*QUICK, "--methods", "bn", *options]) == 0
    assert "bn" in capsys.readouterr().out


MODEL = """
import torch
from torch import nn

def plain():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))

def maps():
    return nn.Conv2d(3, 10, 3)

def few():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5))
"""


class Malicious:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self):
        return os.system, (f"touch {Malicious.mark}",)


@pytest.fixture
def place(tmp_path):
    """A folder with a model file, broken checkpoints and broken data."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "garbage.pt").write_bytes(b"no checkpoint at all")
    Malicious.mark = tmp_path / "executed"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious()))
    x, y = np.zeros((6, 32, 32, 3), np.float32), np.arange(6)
    np.savez(tmp_path / "nan.npz", x=np.where(np.arange(32)[:, None, None] == 3, np.nan, x), y=y)
    np.savez(tmp_path / "range.npz", x=x - 3.5, y=y)
    np.savez(tmp_path / "channels.npz", x=np.zeros((6, 32, 32, 5), np.uint8), y=y)
    np.savez(tmp_path / "good.npz", x=np.zeros((6, 32, 32, 3), np.uint8), y=y)
    np.savez(tmp_path / "counts.npz", x=np.zeros((6, 32, 32, 3), np.uint8), y=y[:5])
    np.savez(tmp_path / "labels.npz", x=np.zeros((6, 32, 32, 3), np.uint8), y=y * 3)
    (tmp_path / "torn.npz").write_bytes((tmp_path / "counts.npz").read_bytes()[:200])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("bnch", "unknown command 'bnch': did you mean 'bench'"),
        ("bench --sed 3", "unknown option --sed: did you mean --seeds"),
        ("bench --seeds x", "Error parsing --seeds"),
        ("bench extra", "unknown option extra"),
        ("bench --methods cota", "unknown method 'cota': did you mean 'cotta'"),
        ("bench --methods cotta:imagnet", "did you mean 'imagenet'"),
        ("bench --methods tent tent", "each once"),
        ("bench --methods", "give methods"),
        ("bench --dataset digit", "did you mean 'digits'"),
        ("bench --model digts", "unknown model 'digts': did you mean 'digits'"),
        ("bench --domains fgo", "unknown corruption 'fgo': did you mean 'fog'"),
        ("bench --domains fog fog", "given twice"),
        ("bench --order gradul", "unknown order 'gradul': did you mean 'gradual'"),
        ("bench --order gradual --severity 2.5", "gradual order"),
        ("bench --reset domains", "unknown reset policy 'domains': did you mean 'domain'"),
        ("bench --severity 6", "severity"),
        ("bench --severity -1", "severity"),
        ("bench --severity nan", "severity"),
        ("bench --batch-size 0", "batch size is 0"),
        ("bench --limit 0", "limit"),
        ("bench --threads 0", "--threads is 0"),
        ("bench --device warp", "device 'warp'"),
        ("bench --out {}/file", "is a file"),
        ("bench --frost {}/empty", "frost"),
        ("bench --data {} --dataset cifar10 --model digits", "cifar10"),
        ("bench --dataset {}/good.npz", "needs a --model"),
        ("bench --dataset {}/empty --model digits", "empty"),
        ("bench --dataset {}/missing.npz --model digits", "not there"),
        ("bench --dataset {}/nan.npz --model digits", "expected uint8"),
        ("bench --dataset {}/range.npz --model digits", "expected uint8"),
        ("bench --dataset {}/channels.npz --model digits", "5"),
        ("bench --dataset {}/counts.npz --model digits", "5"),
        ("bench --dataset {}/torn.npz --model digits", "torn.npz"),
        ("bench --dataset {}/labels.npz --model digits", "16 classes|labels"),
        ("bench --model {}/model.py:maps", "shape"),
        ("bench --model {}/model.py:few", "5 classes"),
        ("bench --model {}/model.py:none", "none"),
        ("bench --model {}/missing.py:build", "missing.py"),
        ("bench --model {}/model.py:plain --methods source tent", "tent adapts the scale and shift"),
        ("bench --model {}/model.py:plain --methods bn", "bn adapts the statistics"),
        ("bench --weights {}/garbage.pt", "garbage.pt"),
        ("bench --weights {}/evil.pt", "evil.pt"),
        ("bench --weights {}/missing.safetensors", "missing.safetensors"),
        ("bench --stored {}/empty --domains fog", "stored"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, place, capsys):
    code = main(arguments.format(*[place] * 5).split())
    shown = capsys.readouterr()
    assert (code, shown.out) == (2, "")
    assert len(shown.err.splitlines()) == 1
    assert shown.err.startswith("tta: ")
    assert any(word in shown.err for word in message.split("|")), shown.err
    assert not (place / "executed").exists()


@pytest.mark.parametrize(
    "arguments", ["bench --methods cota", "bench --weights {}/evil.pt", "bench --out {}/file", "x"]
)
def test_wrong_input_in_a_process_of_its_own(arguments, place):
    code, out, err = run(*arguments.format(place).split())
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_continues(tmp_path):
    arguments = [*QUICK, "--methods", "source", "cotta", "bn", "--batch-size", "2", "--out", tmp_path]
    # Whoever runs the tests in the background has SIGINT ignored, and a child inherits that.
    process = command(*arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("cells/source-*-0-*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        f"tta: interrupted: 1 of 3 cells are kept in {tmp_path}; the same command again runs the rest"
    )
    assert "|source" in out
    assert Results.from_json(tmp_path / "results.json").methods() == ["source"]
    code, out, err = run(*arguments)
    assert code == 0
    assert "kept from an earlier run" in err
    assert Results.from_json(tmp_path / "results.json").methods() == ["source", "cotta", "bn"]


def test_a_reader_that_goes_away_is_no_error():
    process = command("corruptions")
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
