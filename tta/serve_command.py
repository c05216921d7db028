"""The command `tta serve`: a model that adapts behind a guard, over HTTP."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tta.commands import OK, complain
from tta.errors import TTAError
from tta.setup import File, Folder, Name, Number, Setup

if TYPE_CHECKING:
    from tta.data.images import ImageData
    from tta.models import SourceModel
    from tta.serving.served import Served

SERVE = """Serve a model that adapts behind a guard: images are sent to /predict, answers come back as JSON. Alone, it
serves the embedded digits.

examples:
  tta serve
  tta serve --folder state --port 8080
  tta serve --model resnet50.a1_in1k --dataset imagenet --data DIR --method rotta:imagenet --folder state
  tta serve --model model.py:build --weights model.safetensors --dataset images.npz --labels names.txt --folder state
  curl --data-binary @picture.png http://127.0.0.1:8000/predict"""


@dataclass(frozen=True)
class Serve:
    """Serve a model that adapts behind a guard, over HTTP."""

    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """timm name, torchvision:NAME, robustbench:DATASET/THREAT/NAME, FILE.py:FUNCTION, checkpoint or digits."""
    weights: File = None
    """Checkpoint of the model, best as .safetensors."""
    method: Name = "rotta"
    """NAME, NAME:PRESET or FILE.py:CLASS. Batches are what the traffic makes them, often of one image: take a method
    that can do with that."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Source data, as tta bench takes them: images with labels. Without them the guard cannot choose between adapter
    and source model. The embedded digits with the embedded model."""
    split: Literal["train", "val", "test"] = "train"
    """Which part of the source data. The guard judges best on images that the model was not trained on."""
    data: Folder = None
    """Folder in which the data set lies; the environment variable TTA_DATA if not given."""
    size: Number = None
    """Side of the images in pixels: they are resized and cropped to it; that of the model or the source data if not
    given."""
    labels: File = None
    """Names of the classes, one per line; those of the model or the source data if not given."""
    guard: Literal["usual", "off"] = "usual"
    """off learns from everything and always lets the adapter answer."""
    rehearsal: Annotated[int, tyro.conf.arg(metavar="N")] = 96
    """Images of each of two dozen shifts that the guard rehearses before the first answer; with --folder once only.
    Fewer start sooner, and leave it in doubt more often."""
    folder: Folder = None
    """Folder for snapshots and the audit log; the same command goes on from the newest. None keeps nothing."""
    snapshot_every: Annotated[int, tyro.conf.arg(metavar="N")] = 100
    """Committed updates from snapshot to snapshot; what kill -9 loses at most."""
    keep: Annotated[int, tyro.conf.arg(metavar="N")] = 3
    """Snapshots that are kept."""
    background: bool = False
    """Learn in a second thread, so that answers do not wait for it; takes the memory of a second adapter."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen on. There is no TLS, and no login for /predict: before it is another one, put a proxy in
    front."""
    port: Annotated[int, tyro.conf.arg(metavar="N")] = 8000
    """Port; 0 takes any that is free."""
    token_file: File = None
    """File with the token of the admin routes; the environment variable TTA_ADMIN_TOKEN if not given. They are off
    without one."""
    max_batch: Annotated[int, tyro.conf.arg(metavar="N")] = 32
    """Images that are answered together, and most images of a request."""
    max_wait_ms: Annotated[float, tyro.conf.arg(metavar="MS")] = 5.0
    """How long an image waits for others."""
    max_body_mb: Annotated[float, tyro.conf.arg(metavar="MB")] = 10.0
    """Largest body of a request."""
    max_pixels: Annotated[int, tyro.conf.arg(metavar="N")] = 25_000_000
    """Most pixels of a request, before they are resized."""
    queue: Annotated[int, tyro.conf.arg(metavar="N")] = 256
    """Images that may wait for an answer; more are refused with 503."""
    timeout: Annotated[float, tyro.conf.arg(metavar="S")] = 30.0
    """Seconds for a body to come, and for an answer to be given."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of the method's own randomness."""
    device: Name = "auto"
    """auto (CUDA if there is a device), cpu, cuda, cuda:1, mps."""
    threads: Number = None
    """CPU threads for the network; as many as torch likes if not given, one for the embedded digits."""

    def run(self) -> int:
        """Serves until SIGTERM or Ctrl-C; the state is kept then."""
        for module in ("fastapi", "uvicorn"):
            if find_spec(module) is None:
                raise TTAError(f"tta serve needs {module}: pip install 'tta-harness[serve]'")
        from tta.serving.admin import TOKEN, find_token
        from tta.serving.app import Limits, make_app
        from tta.serving.kept import OneProcess
        from tta.serving.shutdown import BACKLOG, bind, serve

        token = find_token(self.token_file)
        limits = Limits(
            self.max_batch, self.max_wait_ms / 1000, round(self.max_body_mb * 1e6), self.queue, self.timeout
        )
        bound, held = bind(self.host, self.port), None if self.folder is None else OneProcess(self.folder)
        try:
            served = self.served()
            try:
                app = make_app(served, limits, token)
                host, port = bound.getsockname()[:2]
                admin = "admin routes with the token" if token else f"no admin routes (no {TOKEN})"
                address = f"[{host}]" if ":" in host else host
                bound.listen(BACKLOG)  # whoever reads the line may connect
                sys.stdout.write(f"http://{address}:{port}  version {served.deployed.version}, {admin}\n")
                sys.stdout.flush()  # whoever has started this in a pipe waits for it
                serve(app, bound, self.timeout)
            finally:
                served.close()
            kept = f"; the state is kept in {self.folder}" if self.folder else ""
            complain(f"stopped at version {served.deployed.version}{kept}")
            return OK
        finally:
            bound.close()
            if held is not None:
                held.close()

    def served(self) -> Served:
        """The deployment that the options describe, as a server takes it.

        Raises:
            TTAError: They describe none.
        """
        from PIL import Image

        from tta.deployment import Guard, deploy
        from tta.guard.rehearsal import Rehearsal
        from tta.registry import split_preset
        from tta.serving.images import Format
        from tta.serving.served import Served

        # The header of every picture is checked against --max-pixels instead.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        names = self._names()
        method, preset = split_preset(self.method)
        model, data = self._load()
        if names and len(names) != model.num_classes:  # before the rehearsal, which takes a while
            raise TTAError(f"{len(names)} names of classes for a model with {model.num_classes}; give one for each")
        form = Format(self._size(model, data), 1 if model.channels == 1 else 3, self.max_pixels)
        deployed = deploy(
            model, method, preset=preset, seed=self.seed, source_data=data, folder=self.folder,
            guard=Guard.off() if self.guard == "off" else Guard.usual(data is not None, Rehearsal(self.rehearsal)),
            snapshot_every=self.snapshot_every, keep=self.keep, background=self.background,
        )  # fmt: skip
        classes = names or model.classes or (data.classes if data is not None else ())
        return Served(deployed, form, classes if names or len(classes) == model.num_classes else (), self.folder)

    def _load(self) -> tuple[SourceModel, ImageData | None]:
        from tta.class_subset import fit_classes
        from tta.commands import choose_device
        from tta.models import load_source
        from tta.setup_lab import SetupLab

        if self.dataset is None and self.model not in (None, "digits"):
            complain("warning: no --dataset with source data, so the guard cannot tell whether the adapter helps")
            device = choose_device(self.device, self.threads)
            return load_source(self.model, weights=self.weights, device=device), None
        setup = Setup(
            dataset=self.dataset or "digits", data=self.data, model=self.model, weights=self.weights, size=self.size,
            device=self.device, threads=self.threads,
        )  # fmt: skip
        lab = SetupLab(setup, source_split=self.split)
        return fit_classes(lab.whole_model, lab.source_data), lab.source_data

    def _size(self, model: SourceModel, data: ImageData | None) -> int:
        sides = data.shape[1:] if data is not None and data.shape is not None else (None,)
        size = self.size or model.size or (sides[0] if len({*sides}) == 1 else None)
        if size is None or size < 1:
            raise TTAError("the model takes images of any size: give --size, the side in pixels that it was trained on")
        return size

    def _names(self) -> tuple[str, ...]:
        if self.labels is None:
            return ()
        if not self.labels.is_file():
            raise TTAError(f"--labels {self.labels} is not there; expected a text file with one name per line")
        return tuple(line.strip() for line in self.labels.read_text(encoding="utf-8").splitlines() if line.strip())
