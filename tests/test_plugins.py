"""Methods from outside: installed packages announce theirs, and users register their own."""

import sys

import pytest
import torch
from nets import resnet

import tta
from tta import registry
from tta.cli import main
from tta.registry import list_methods, method, register

PACKAGE = '''
import tta


class Louder(tta.Adapter):
    """Doubles the logits."""

    updates = "the loudness"

    def answer(self, x):
        return 2 * self.network(x)
'''


@pytest.fixture(autouse=True)
def _forget():
    """What a test registers is forgotten after it."""
    yield
    for name in [name for name in registry._registered if name not in registry._BUILT_IN]:
        del registry._registered[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with entry points where installed packages are found."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(package: str, text: str, **entries: str) -> None:
        (tmp_path / f"{package}.py").write_text(text)
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (about / "entry_points.txt").write_text(f"[tta.adapters]\n{lines}")
        monkeypatch.delitem(sys.modules, package, raising=False)

    return put


def test_a_package_announces_a_method(install, capsys):
    install("tta_louder", PACKAGE, louder="tta_louder:Louder")
    assert "louder" in list_methods()
    model, x = resnet(), torch.rand(2, 3, 32, 32)
    adapter = tta.wrap(model, "louder+recurring", every=3)
    assert adapter.inner.name == "louder"
    torch.testing.assert_close(adapter(x), 2 * tta.wrap(model, "source")(x))
    assert main(["methods"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("louder ")]
    assert "the loudness" in line
    assert line.endswith("Doubles the logits.")
    assert main(["bench", "--methods", "louder", "--domains", "fog", "--limit", "8"]) == 0
    assert main(["bench", "--methods", "loudr"]) == 2
    assert "did you mean 'louder'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "entry", "reason"),
    [
        ("import no_such_module", "tta_broken:Louder", "No module named 'no_such_module'"),
        ("raise RuntimeError('the moon\\nis full')", "tta_broken:Louder", "the moon is full"),
        (PACKAGE, "tta_broken:Quieter", "Quieter"),
        ("Louder = 3", "tta_broken:Louder", "expected a class derived from tta.Adapter"),
    ],
)
def test_a_broken_package_is_named_and_breaks_nothing_else(install, text, entry, reason, capsys):
    install("tta_broken", text, broken=entry)
    install("tta_louder", PACKAGE, louder="tta_louder:Louder")
    with pytest.raises(tta.TTAError, match="package tta_broken") as told:
        tta.wrap(resnet(), "broken")
    assert reason in str(told.value)
    assert main(["methods"]) == 0
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert "package tta_broken" in shown.err
    names = [line.split()[0] for line in shown.out.splitlines()]
    assert {"tent", "louder", "+recurring"} <= {*names}
    assert "broken" not in names
    assert main(["bench", "--methods", "broken"]) == 2
    assert tta.wrap(resnet(), "tent").name == "tent"


def test_a_package_cannot_take_the_name_of_a_built_in_method(install):
    install("tta_tent", PACKAGE, tent="tta_tent:Louder")
    assert method("tent").__name__ == "Tent"
    assert list_methods().count("tent") == 1


def test_a_registered_class_is_a_method():
    @register("quiet")
    class Quiet(tta.Adapter):
        """Halves the logits."""

        def answer(self, x):
            return self.network(x) / 2

    assert method("quiet") is Quiet
    assert list_methods()[-1] == "quiet"
    assert tta.wrap(resnet(), "quiet").name == "quiet"
    with pytest.raises(tta.TTAError, match="built-in method 'tent': register Quiet under another name"):
        register("tent")(Quiet)
    for name in ("tent:fast", "a+b", "", "two words"):
        with pytest.raises(tta.TTAError, match="letters, digits"):
            register(name)
