"""AdaContrast: pseudo-labels refined by neighbours, and contrastive learning (Chen et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta import norms, teacher
from tta.adapter import Adapter, StepInfo
from tta.features import classifier, features_and_logits
from tta.moco_views import MocoViews
from tta.optimisers import SGD, Optimiser
from tta.registry import register
from tta.source_data import SourceData
from tta.views import ShiftViews


@register("adacontrast")
class AdaContrast(Adapter):
    """Learns refined pseudo-labels on strong views, contrasted with a queue of teacher features.

    The pseudo-label of an image is the vote of the stored images whose features are most like those of its weak view.
    A strong view learns it, is drawn to the teacher's features of another strong view and away from queued features of
    other pseudo-labels, and the mean prediction is kept diverse.

    Updates: every weight and bias; running statistics, as in training. State: student, teacher, optimiser, a queue of
    features and a bank of features and predictions (2 x `queue` x features). Answers: after the update, with the
    running statistics. Cost: student 3F 1B (weak, strong, answer), teacher 2F. Needs: a linear classifier.
    Memory: five models (student, teacher, source value, gradient, momentum), queue and bank; the activations of
    a batch.
    Differs from the published code (that of Doebler et al.'s benchmark, without a projection head): the weak pass has
    no gradient, as none was used; dropout is off; a bank that is full drops the rest of the batch that filled it
    instead of growing; the strong blur is a true Gaussian. As published, the first entries to be replaced in a full
    bank are those of the batch that filled it, and the weak view is only mirrored.
    """

    @dataclass(frozen=True)
    class Config:
        """The published setting of CIFAR10-C and CIFAR100-C (batches of 200) and ImageNet-C (64)."""

        optimiser: Optimiser = SGD(lr=2e-4, momentum=0.9, nesterov=True, weight_decay=1e-4)
        #: Weight of the teacher's past in its moving average.
        momentum: float = 0.999
        #: Entries of the queue and of the bank; neighbours that vote.
        queue: int = 16384
        neighbours: int = 10
        #: Images before neighbours vote; until then the student's own predictions are the pseudo-labels.
        warm_up: int = 1024
        #: Of the contrastive loss.
        temperature: float = 0.07
        #: Weights of the losses.
        classification: float = 1.0
        contrastive: float = 1.0
        diversity: float = 1.0
        #: Whether half of the views are mirrored.
        flip: bool = True

    config: Config
    answers = "after"
    updates = "all weights, norm statistics"
    cost = "5F 1B"

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Everything is learned; the running statistics stay in use."""
        classifier(model)
        return list(model.parameters())

    def start(self, source_data: SourceData | None) -> None:
        """Makes the teacher; queue and bank are made with the first batch."""
        self.teacher = self.copy_of(self.model)
        self.weak, self.strong = ShiftViews(shift=0.0, flip=self.config.flip), MocoViews(flip=self.config.flip)
        self.memory = {"queue": None, "bank": None, "seen": 0}

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """One round on weak and strong views, then the answer."""
        weak, query, key = self.views(x)
        if self.memory["queue"] is None:
            self.memory["queue"], self.memory["bank"] = self.first_queue(), self.first_bank()
        queue = self.memory["queue"]
        with norms.updating_statistics(self.model, self.teacher):
            labels = self.pseudo_labels(weak)
            features, logits = features_and_logits(self.model, query)
            teacher.follow_network(self.teacher, self.model, self.config.momentum)
            with torch.no_grad():
                keys = F.normalize(features_and_logits(self.teacher, key)[0], dim=1)
            # The queue is updated here, as published: the labels first, the features once their gradient is through.
            place = _ring(queue["next"], len(x), self.config.queue, x.device)
            queue["labels"][place] = labels[-len(place) :]
            loss = self.loss(features, logits, keys, labels)
            self.update(loss)
            queue["features"][place] = keys[-len(place) :].to(queue["features"].dtype)
            queue["next"] = (queue["next"] + len(x)) % self.config.queue
            self.store(weak)
        with torch.no_grad():
            logits = self.model(x)
        return logits, StepInfo(loss=loss.detach(), used=len(x), updated=True)

    @torch.no_grad()
    def views(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A weak and two strong views of the batch: the second strong one is for the teacher."""
        weak = self.weak.apply(x, self.weak.draw(1, x, self.host_generator))
        query, key = self.strong.apply(x, self.strong.draw(2, x, self.host_generator)).chunk(2)
        return weak, query, key

    @torch.no_grad()
    def pseudo_labels(self, weak: Tensor) -> Tensor:
        """The classes to learn, shape (B,): voted by neighbours once enough images have been seen."""
        features, logits = features_and_logits(self.model, weak)
        bank = self.memory["bank"]
        if self.memory["seen"] < self.config.warm_up:
            self.memory["seen"] += len(weak)
            return logits.argmax(1)
        if not bank["filled"]:
            return logits.argmax(1)
        stored, probs = bank["features"][: bank["filled"]], bank["probs"][: bank["filled"]]
        likeness = F.normalize(features.to(stored.dtype), dim=1) @ F.normalize(stored, dim=1).T
        neighbours = likeness.topk(min(self.config.neighbours, len(stored)), 1).indices
        return probs[neighbours].mean(1).argmax(1)

    def loss(self, features: Tensor, logits: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
        """Classification, contrast and diversity of the strong view, a scalar."""
        config, queue = self.config, self.memory["queue"]
        query = F.normalize(features, dim=1)
        positive = (query * keys).sum(1, keepdim=True)
        negative = query @ queue["features"].to(query.dtype).T
        negative = negative.masked_fill(labels[:, None] == queue["labels"], -torch.inf)
        similarity = torch.cat([positive, negative], 1) / config.temperature
        contrast = (similarity.logsumexp(1) - similarity[:, 0]).mean()
        mean = logits.softmax(1).mean(0)
        diversity = (mean * (mean + 1e-8).log()).sum()
        loss = config.classification * F.cross_entropy(logits, labels)
        return loss + config.contrastive * contrast + config.diversity * diversity

    @torch.no_grad()
    def store(self, weak: Tensor) -> None:
        """Puts the teacher's features and predictions of the weak views into the bank."""
        bank, size = self.memory["bank"], self.config.queue
        features, logits = features_and_logits(self.teacher, weak)
        if bank["filled"] < size:
            count = min(len(weak), size - bank["filled"])
            place = torch.arange(bank["filled"], bank["filled"] + count, device=weak.device)
            features, logits = features[:count], logits[:count]
            bank["filled"] += count
            bank["next"] = (bank["next"] + count) % bank["filled"]
        else:
            place = _ring(bank["next"], len(weak), size, weak.device)
            features, logits = features[-len(place) :], logits[-len(place) :]
            bank["next"] = (bank["next"] + len(weak)) % size
        bank["features"][place] = features.to(bank["features"].dtype)
        bank["probs"][place] = logits.softmax(1).to(bank["probs"].dtype)

    def first_queue(self) -> dict[str, Tensor | int]:
        """A queue of random directions with random labels, as published."""
        head = classifier(self.model)
        size, device = (self.config.queue, head.in_features), head.weight.device
        directions = torch.randn(size, generator=self.generator, device=device, dtype=torch.float32)
        labels = torch.randint(head.out_features, size[:1], generator=self.generator, device=device)
        return {"features": F.normalize(directions, dim=1).to(head.weight.dtype), "labels": labels, "next": 0}

    def first_bank(self) -> dict[str, Tensor | int]:
        """An empty bank."""
        head = classifier(self.model)
        features = head.weight.new_zeros(self.config.queue, head.in_features)
        probs = head.weight.new_zeros(self.config.queue, head.out_features)
        return {"features": features, "probs": probs, "filled": 0, "next": 0}


def _ring(start: int, count: int, size: int, device: torch.device) -> Tensor:
    """Where the last of `count` entries go that are written round a ring of `size`, beginning at `start`."""
    return torch.arange(start + max(0, count - size), start + count, device=device) % size
