"""LAME: correct the predictions of a batch by what its neighbours in feature space are (Boudiaf et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tta.adapter import Adapter
from tta.errors import TTAError
from tta.features import features_and_logits
from tta.registry import register


@register("lame")
class LAME(Adapter):
    """Answers with the assignment that agrees with the model's predictions and with the neighbours' assignments.

    The model is not touched: a concave-convex procedure minimises the Laplacian-regularised likelihood over the class
    probabilities of the batch. It wins where neighbours in time share a class, and fails where they do not.

    Updates: nothing. State: none. Answers: from the batch alone. Cost: 1 forward, at most `iterations` products of a
    (B, B) and a (B, K) matrix. Memory: the model and one (B, B) matrix. Needs: a linear classifier.
    Differs from the published code: the answer is the logarithm of the assignment, so that its softmax is the
    assignment; computed in float32 at least.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting for all data sets, batches of 64 images."""

        #: How images resemble each other: by a Gaussian of their distance, by being neighbours, or by their cosine.
        affinity: Literal["rbf", "knn", "linear"] = "rbf"
        #: Neighbours; for "rbf", the width is the mean distance to the neighbour of that rank, the image itself first.
        neighbours: int = 5
        #: Most iterations, and the relative change of the energy at which to stop.
        iterations: int = 100
        tolerance: float = 1e-8

        def __post_init__(self) -> None:
            if self.affinity not in ("rbf", "knn", "linear"):
                raise TTAError(f"lame: affinity is rbf, knn or linear, got {self.affinity!r}")

    config: Config
    cost = "1F"

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:
        """Log-probabilities of the assignment, shape (B, K)."""
        features, logits = features_and_logits(self.model, x)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            kernel = self.kernel(F.normalize(features.to(dtype), dim=1))
            assignment = self.assign(logits.to(dtype).softmax(1), kernel)
        return assignment.clamp_min(torch.finfo(dtype).tiny).log().to(logits.dtype)

    def kernel(self, features: Tensor) -> Tensor:
        """How much each image (row) heeds each other, shape (B, B), from features of length one, shape (B, D)."""
        if self.config.affinity == "linear":
            return features @ features.T
        count, neighbours = len(features), self.config.neighbours
        distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
        if self.config.affinity == "knn":
            nearest = distance.topk(min(neighbours + 1, count), largest=False).indices[:, 1:]
            return torch.zeros_like(distance).scatter_(1, nearest, 1.0)
        width = distance.topk(min(neighbours, count), largest=False).values[:, -1].mean()
        return torch.exp(-(distance / width.clamp_min(torch.finfo(distance.dtype).tiny)).square() / 2)

    def assign(self, probs: Tensor, kernel: Tensor) -> Tensor:
        """The assignment of least energy, shape (B, K); the host looks at the energy to stop, as the method does."""
        likelihood = torch.log(probs + 1e-10)
        assignment, before = likelihood.softmax(1), 0.0
        for iteration in range(self.config.iterations):
            agreement = kernel @ assignment
            assignment = (likelihood + agreement).softmax(1)
            log_assignment = assignment.clamp_min(1e-20).log()
            energy = (assignment * (log_assignment - likelihood - agreement)).sum().item()
            if iteration > 1 and abs(energy - before) <= self.config.tolerance * abs(before):
                break
            before = energy
        return assignment
