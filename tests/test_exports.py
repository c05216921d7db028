"""What leaves a deployment as a program: torch.export and ONNX, equal to the plain module at every batch size."""

import pytest
import torch
from small import SETTINGS

import tta
from tta.contract import NETS, images, source_images
from tta.deployment import Guard

METHODS = ("source", "bn", "tent", "eata", "cotta", "rotta", "note", "t3a", "lame", "tent+wise")
CASES = [("batch_norm", name) for name in METHODS] + [("layer_norm", "tent"), ("group_norm", "cotta")]
#: For ONNX: batch norm with its own statistics, with those of the batch, a replaced classifier, and attention.
IN_ONNX = [("batch_norm", "rotta"), ("batch_norm", "cotta"), ("batch_norm", "t3a"), ("layer_norm", "tent")]
BATCHES = [images(7), images(8)[:3], images(9)[:1]]


def exported(kind, name):
    """The plain module of a deployment that has learned, and its program for batches of any size."""
    deployed = tta.deploy(NETS[kind](), name, guard=Guard.off(), source_data=source_images(), **SETTINGS.get(name, {}))
    for seed in range(3):
        deployed(images(seed))
    plain = deployed.export()
    return plain, torch.export.export(plain, (BATCHES[0],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_torch_export(kind, name):
    plain, program = exported(kind, name)
    again = program.module()
    with torch.no_grad():
        for x in BATCHES:
            assert torch.allclose(again(x), plain(x), atol=1e-6), len(x)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), IN_ONNX)
@pytest.mark.filterwarnings("ignore")
def test_onnx(tmp_path, kind, name):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module, reason=f"{module} is not installed: pip install 'tta-harness[onnx]'")
    runtime = pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install 'tta-harness[onnx]'")
    plain, program = exported(kind, name)
    file = tmp_path / "model.onnx"
    torch.onnx.export(program, (), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    with torch.no_grad():
        for x in BATCHES:
            (logits,) = session.run(None, {given.name: x.numpy()})
            assert torch.allclose(torch.from_numpy(logits), plain(x), atol=1e-4), len(x)
