"""`tta.deploy`: puts a model into production, adapting, behind a guard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from tta import provenance
from tta.answering import Answer
from tta.checkpoints import state_sha256
from tta.deployed import Deployed
from tta.errors import TTAError
from tta.guard.background import WhenFull, Worker
from tta.guard.guard import Guard
from tta.guard.learner import Lesson
from tta.guard.log import AuditLog
from tta.guard.rehearsal import Rehearsal
from tta.guard.snapshots import Snapshots
from tta.registry import wrap
from tta.source_data import SourceData

__all__ = ["Answer", "Deployed", "Guard", "Rehearsal", "deploy"]


def deploy(
    model: nn.Module,
    method: str = "cotta",
    config: Any = None,
    *,
    guard: Guard | None = None,
    source_data: Any = None,
    folder: str | Path | None = None,
    snapshot_every: int = 100,
    keep: int = 3,
    background: bool = False,
    queue: int = 8,
    when_full: WhenFull = "drop_oldest",
    preset: str | None = None,
    seed: int = 0,
    **overrides: Any,
) -> Deployed:
    """Deploys a model behind an adaptation method and a guard; the model itself is copied and never touched.

    Args:
        model: Images (B, C, H, W) in [0, 1] to logits (B, K), preprocessing inside.
        method: As in `wrap`.
        config: As in `wrap`.
        guard: What watches; `Guard.usual` if not given, `Guard.off()` for none. One guard for each deployment.
        source_data: Images like those the model was trained on, best with labels, and best none of these themselves: a
            few hundred, anything `SourceData.of` takes. The usual guard rehearses on them before the first answer,
            which takes a while. Without them it has no canary and no choice.
        folder: For snapshots and the audit log. If there are snapshots, the newest is gone on from. None keeps nothing.
        snapshot_every: Committed updates from snapshot to snapshot.
        keep: Snapshots that are kept.
        background: Learn in a thread, so that answers do not wait for it. A second adapter is made for that.
        queue: Batches that may wait to be learned from.
        when_full: What happens to a batch that finds the queue full: "drop_oldest" forgets the one that has waited
            longest, "block" lets the caller wait.
        preset: As in `wrap`.
        seed: As in `wrap`.
        overrides: As in `wrap`; `robust_statistics=True` where users may be hostile.

    Returns:
        The deployment: call it like the model, and close it at the end (or use it in a `with` statement).

    Raises:
        TTAError: As `wrap`; the guard needs what is not there; or the snapshots in the folder are of something else.

    >>> import torch, tta
    >>> from tta.deployment import Guard, Rehearsal
    >>> data = tta.load_data("digits", split="train", limit=300)
    >>> guard = Guard.usual(rehearsal=Rehearsal(images=4))  # a short one, which leaves much doubt
    >>> deployed = tta.deploy(tta.load_source("digits"), "tent", guard=guard, source_data=data)
    >>> deployed(torch.rand(8, 3, 32, 32)).shape
    torch.Size([8, 10])
    >>> deployed.report()["batches"]
    1
    """
    if snapshot_every < 1:
        raise TTAError(f"snapshot_every is a number of updates, at least 1, got {snapshot_every}")
    data = SourceData.of(source_data)
    watch = guard or Guard.usual(labelled=data is not None and data.labels is not None)

    def made() -> Any:
        return wrap(model, method, config, preset=preset, seed=seed, source_data=data, **overrides)

    shadow = made() if background else None
    log = AuditLog(None if folder is None else Path(folder))
    deployed = Deployed(adapter := made(), model, watch, data, shadow, log)
    if folder is not None:
        identity = {
            "method": f"{method}, robust statistics" if adapter.robust_statistics else method,
            "settings": provenance.digest(provenance.plain(adapter.config)),
            "weights": state_sha256(model),
            "guard": " ".join(part.name for part in watch.parts) + (" choice" * bool(watch.choice)),
        }
        deployed._snapshots, deployed._snapshot_every = Snapshots(Path(folder), keep, identity), snapshot_every
        if (latest := deployed._snapshots.latest()) is not None:
            deployed._set_state(*latest)
    if deployed._rehearse() and folder is not None:
        deployed.snapshot()  # so that it is rehearsed once only
    if background:

        def dropped(_: Lesson) -> None:
            with deployed._answering:
                deployed.metrics.count("skipped")

        deployed._worker = Worker(deployed._learn_later, queue, when_full, dropped)
    return deployed
