"""Every command and every Python block of the README runs."""

import re
import shlex

import pytest
from places import ROOT
from rehearsals import SHORT

from tta import registry
from tta.cli import main

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
FILES = dict(re.findall(r"<!-- (\w+\.py) -->\n```python\n(.*?)```", README, re.DOTALL))
PYTHON = [text for language, text in BLOCKS if language == "python"]
BASH = [[line for line in text.splitlines() if line[:4] == "tta "] for language, text in BLOCKS if language == "bash"]
COMMANDS = [lines for lines in BASH if lines]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """In a folder with the files that the README shows; what they register is forgotten."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    yield
    for name in [name for name in registry._registered if name not in registry._BUILT_IN]:
        del registry._registered[name]


def test_the_readme_has_its_commands():
    assert "tta bench" in README
    assert PYTHON
    assert COMMANDS


@pytest.mark.parametrize("text", PYTHON, ids=range(len(PYTHON)))
def test_python_block(text, monkeypatch):
    monkeypatch.setattr("tta.guard.choice.Rehearsal", lambda: SHORT)
    exec(compile(text, "README.md", "exec"), {})


def test_the_main_job(capsys):
    (job,) = re.findall(r"<!-- main job -->\n```bash\n(.*?)\n```", README, re.DOTALL)
    assert job.split(" && ")[-1] == ".venv/bin/tta bench"
    assert main(["bench"]) == 0
    table = capsys.readouterr().out
    assert all(f"|{method:<7}|" in table for method in ("source", "bn", "tent", "cotta", "ttaug"))


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda commands: commands[0])
def test_commands_of_a_block(commands, capsys):
    """In one folder, in their order: some read what others have written."""
    own = [words for words in (shlex.split(line, comments=True)[1:] for line in commands) if runs_anywhere(words)]
    if not own:
        pytest.skip("all commands name folders of the reader's")
    for words in own:
        assert main(words) == 0, words


def runs_anywhere(words):
    """Whether a command names no folder or file that only the reader has."""
    return not any(word.startswith(("DIR", "path/")) for word in words)
