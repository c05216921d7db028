"""Poison: images of malicious users, made so that a model that adapts to them fails for everybody else.

What the attacker knows: the source model, weights and all; images of their own, and the classes of these. What they do
not: how the model has adapted since, its answers, and anybody else's images. They change every value of an image by
`eps` at most, by projected gradient ascent on the source model under the statistics of their own batch.

That is the grey box of Su et al. (ICLR 2025), of which this is the variant with a fixed surrogate. Differs from it:

- theirs also asks the deployed model for its answers, and learns from them how it has moved. A stream is a value, the
  same for every method, so that its poison is made before anything has run. This makes it the weaker attack;
- their poison comes in whole batches, every other one; ours is spread over the images (see `tta.intruders`);
- poison is stored in 8 bits, as images are.

The same holds for attacks that were published under other assumptions, which are run here under these: TePA (Cong et
al., IEEE S&P 2024), which poisons the model before the others come, with 32/255 and momentum; and DIA (Wu et al., ICML
2023), which knows the model as it is and the very images that it wants to be misread, and may change its own without
bound in 500 steps of 1/255. Here it knows neither, and practises on other images of its own.
"""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from corruptions.randomness import Keyed, image_keys
from tta import norms
from tta.checkpoints import state_sha256
from tta.data.images import Index, positions, sha256
from tta.errors import TTAError, unknown
from tta.evaluation import check_labels
from tta.intruders import BLOCK, fixed_sequence
from tta.poison_objectives import OBJECTIVES, FeatureStatistics, confused_with
from tta.streams import to_unit

if TYPE_CHECKING:
    from tta.streams import Data

#: Growth of the weights of feature statistics, for the attacks that mind them.
STEALTH = {"nhe": 0.1, "ble": 1.0}
#: As many own images tell an attacker what the source model confuses with what.
STUDIED = 1024
#: Bytes of poison that an attacker keeps; what was made first is made again when it is needed.
KEPT = 2**29


@dataclass(frozen=True)
class Attack:
    """What is done to an image; the defaults are those of Su et al. for images, and for all attacks that they compare.

    Attributes:
        name: "nhe", "ble", "maxce", "tepa" or "dia", see `tta.poison_objectives`.
        eps: Largest change of a value in [0, 1], rounded down to grey levels.
        steps: Of the ascent.
        step: Change of a value per step.

    Raises:
        TTAError: No such attack, or numbers that make none.
    """

    name: str = "nhe"
    eps: float = 0.3
    steps: int = 40
    step: float = 0.01

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise unknown("attack", self.name, OBJECTIVES)
        if not (0 < self.eps <= 1 and self.steps >= 1 and self.step > 0):
            raise TTAError(
                f"an attack with eps {self.eps:g} and {self.steps} steps of {self.step:g} is none; give an eps up to 1"
                " and positive steps"
            )


class Attacker:
    """Makes poison with a source model, of which it takes a copy; on the model's device.

    Args:
        model: Images in [0, 1] in, logits (B, K) out.
        attack: What to do.

    Raises:
        TTAError: DIA against a model without batch norm, in which images do not meet.
    """

    def __init__(self, model: nn.Module, attack: Attack | None = None) -> None:
        self.attack, self.sha256 = attack or Attack(), state_sha256(model)
        if self.attack.name == "dia" and norms.per_image(model):
            raise TTAError("the attack dia acts through the statistics of a batch; the model has no batch norm")
        self.surrogate = copy.deepcopy(model).eval().requires_grad_(False)
        norms.use_batch_statistics(self.surrogate)
        stealth = STEALTH.get(self.attack.name)
        self.statistics = None if stealth is None else FeatureStatistics(self.surrogate, stealth)
        self.device = next((p.device for p in self.surrogate.parameters()), torch.device("cpu"))
        self._kept: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def kept(self, images: str, block: int, make: Callable[[], Tensor]) -> Tensor:
        """A block of poison, made if it is not kept.

        Args:
            images: Fingerprint of the poisoned images.
            block: Number of the block.
            make: Makes it.
        """
        if (images, block) not in self._kept:
            self._kept[images, block] = make()
            while len(self._kept) > 1 and sum(made.numel() for made in self._kept.values()) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[images, block]

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """What the surrogate says to a batch: (B, K) for images (B, C, H, W), uint8 or in [0, 1]."""
        return self.surrogate(to_unit(x, "an attacker", self.device)).softmax(1)

    def craft(self, x: Tensor, y: Tensor, start: Tensor, others: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Poison made of a batch of images.

        Args:
            x: The images, (B, C, H, W), uint8 or in [0, 1].
            y: What the objective wants to know: their classes, or for "ble" the wrong ones; int64, shape (B,).
            start: Where to start between -eps and eps, from -1 to 1, shape (B, C, H, W).
            others: Images and classes that share the batch and are to be misread, for "dia".

        Returns:
            uint8, shape (B, C, H, W), on the CPU.
        """
        levels = (to_unit(x, "an attacker", self.device) * 255).round_()
        reach = int(self.attack.eps * 255 + 1e-9)
        low, high = (levels - reach).clamp_(min=0).div_(255), (levels + reach).clamp_(max=255).div_(255)
        clean, y = levels / 255, y.to(self.device)
        poison = (clean + start.to(self.device) * (reach / 255)).maximum(low).minimum(high)
        with torch.inference_mode(False), torch.enable_grad():
            if self.statistics is not None:
                self.surrogate(clean)
                self.statistics.start()
            for _ in range(self.attack.steps):
                poison = poison.clone().requires_grad_(True)
                (gradient,) = torch.autograd.grad(self._objective(poison, y, others), poison)
                poison = (poison.detach() + self.attack.step * gradient.sign()).maximum(low).minimum(high)
        return (poison * 255).round_().to("cpu", torch.uint8)

    def _objective(self, poison: Tensor, y: Tensor, others: tuple[Tensor, Tensor] | None) -> Tensor:
        objective = OBJECTIVES[self.attack.name]
        if others is not None:
            beside = to_unit(others[0], "an attacker", self.device)
            answers = self.surrogate(torch.cat([beside, poison]))
            return objective(answers[: len(beside)], others[1].to(self.device))
        value = objective(self.surrogate(poison), y)
        return value if self.statistics is None else value - self.statistics.penalty()


class Poisoned:
    """The poisoned images of malicious users: data of a domain that intrudes.

    They are made when they are asked for, in blocks that are always the same, and kept in memory in 8 bits. On a CPU
    the same images come out every time; another device may round a gradient to another sign, and its images differ a
    little.

    Args:
        data: The users' own images, labelled with classes of the model.
        attacker: What makes them.
        seed: Of the start of the ascent.

    Raises:
        TTAError: Labels that the model has no class for.
    """

    def __init__(self, data: Data, attacker: Attacker, seed: int = 0) -> None:
        self.data, self.attacker, self.seed = data, attacker, seed
        self.name, self.labels = f"{data.name}/poison_{attacker.attack.name}", data.labels
        self.mirrors = getattr(data, "mirrors", True)
        self.sequence = fixed_sequence(len(data))
        self._place = torch.argsort(self.sequence)
        check_labels(data, attacker.probabilities(data.images(self._own(0)[:2])).shape[1])

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the own images', the weights of the source model, the attack and the seed."""
        what = [self.attacker.sha256, asdict(self.attacker.attack), self.seed, BLOCK]
        return sha256(self.data.fingerprint.encode(), json.dumps(what).encode())

    def images(self, index: Index) -> Tensor:
        """The images at some positions, uint8, shape (B, C, H, W)."""
        places = self._place[positions(index, len(self))]
        blocks = places // BLOCK
        out: Tensor | None = None
        for block in blocks.unique().tolist():
            here = blocks == block
            made = self.attacker.kept(self.fingerprint, block, partial(self._make, block))[places[here] % BLOCK]
            out = made.new_empty(len(places), *made.shape[1:]) if out is None else out
            out[here] = made
        return self.data.images(positions(index, len(self))).to("cpu", torch.uint8) if out is None else out

    def _make(self, block: int) -> Tensor:
        """Images that are poisoned together; they are as many in the last block, with some of the first."""
        own = self._own(block)
        x, y = self.data.images(own), self.data.labels[own]
        keys = Keyed(image_keys(self.seed, f"poison {self.attacker.attack.name}", 0, own), "cpu")
        start = keys.uniform(*x.shape[1:], low=-1.0, high=1.0)
        others = None
        if self.attacker.attack.name == "ble":
            y = self._confusions[y]
        elif self.attacker.attack.name == "dia":
            start = torch.zeros_like(start)  # as published
            beside = self._own(block + 1)
            others = self.data.images(beside), self.data.labels[beside]
        return self.attacker.craft(x, y, start, others)

    def _own(self, block: int) -> Tensor:
        """Positions of the images of a block."""
        places = block * BLOCK + torch.arange(min(BLOCK, len(self)))
        return self.sequence[places % len(self)]

    @cached_property
    def _confusions(self) -> Tensor:
        """The wrong class for each class: what the source model makes of some own images, on the whole."""
        sums: Tensor | float = 0.0
        for block in range(-(-min(STUDIED, len(self)) // BLOCK)):
            own = self._own(block)
            probs = self.attacker.probabilities(self.data.images(own)).cpu()
            member = torch.nn.functional.one_hot(self.data.labels[own], probs.shape[1]).to(probs.dtype)
            sums = sums + member.T @ probs
        assert isinstance(sums, Tensor)
        return confused_with(sums / sums.sum(1, keepdim=True).clamp(min=1e-12))
