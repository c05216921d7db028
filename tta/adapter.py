"""The adapter: a deployed model that learns from the batches it predicts.

A method gives `prepare` (what is adapted), `step` (predict and adapt) and, if it does not answer with the adapted model
itself, `answer`. Copying, gradients, optimiser, reset, saving and input checks are here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tta import norms
from tta.acceleration import PLAIN, Acceleration, bare
from tta.cost import PassCounter, SourceCost, Stopwatch
from tta.errors import TTAError
from tta.source_data import SourceData
from tta.vit import vision_transformer


class StepInfo(NamedTuple):
    """What happened in one step. Tensors stay on the device, so that nobody has to wait for them."""

    #: The objective, a scalar tensor; None if nothing was minimised.
    loss: Tensor | None = None
    #: Number of images that taught the model.
    used: int | Tensor = 0
    #: Whether parameters were changed.
    updated: bool = False
    #: Whether the method reset the model by itself.
    reset: bool = False


@dataclass(frozen=True)
class Requirements:
    """What a method needs of the model and its surroundings; checked when an adapter is made."""

    batch_norm: bool = False
    affine_norm: bool = False
    source_data: bool = False
    vision_transformer: bool = False

    def check(self, model: nn.Module, method: str, source_data: object) -> None:
        """Raises TTAError, with the remedy, if the model or the source data are not what the method needs."""
        kinds = sorted({type(layer).__name__ for _, layer in norms.layers(model)})
        if self.batch_norm and not norms.batch_norms(model):
            raise TTAError(
                f"{method} adapts the statistics of batch norm layers, and this model has none"
                f" ({', '.join(kinds) or 'no normalisation layers'}): choose a method without that need"
                " (`tta methods` lists the needs), such as cotta or ttaug"
            )
        if self.affine_norm and not norms.affine_parameters(model):
            raise TTAError(
                f"{method} adapts the scale and shift of normalisation layers, and this model has none"
                f" ({', '.join(kinds) or 'no normalisation layers'}): choose a method that adapts other"
                " parameters or none, such as cotta or ttaug"
            )
        if self.vision_transformer and vision_transformer(model) is None:
            raise TTAError(
                f"{method} puts prompts into a timm vision transformer with a class token, and this model is none"
                f" ({', '.join(kinds) or 'no normalisation layers'}): choose a method without that need, such as neo or"
                " cotta"
            )
        if self.source_data and source_data is None:
            raise TTAError(f"{method} needs source data: pass source_data=, images the source model was trained on")

    def __str__(self) -> str:
        words = {
            "batch_norm": "batch norm",
            "affine_norm": "affine norm layers",
            "vision_transformer": "vision transformer",
            "source_data": "source data",
        }
        return ", ".join(word for field, word in words.items() if getattr(self, field)) or "-"


@dataclass(frozen=True)
class NoConfig:
    """A method without hyper-parameters."""


class Adapter(nn.Module):
    """A model that answers batches and learns from them, without labels.

    The source model is copied; the caller's is never touched. `reset()` and `state_dict()` cover everything that can
    change. An adapter works under `inference_mode`, `no_grad` and autocast, adapts in train and in eval mode alike, and
    keeps its networks in eval mode (dropout off).

    Args:
        source: The source model: images (B, C, H, W) in [0, 1] to logits (B, K) or, for label maps, (B, K, H, W).
        config: Hyper-parameters, an instance of the method's `Config`.
        seed: Seed of the adapter's own random generator.
        source_data: Source images for methods that require them: anything `SourceData.of` takes.

    Raises:
        TTAError: The method cannot run on this model; the message says why and what to do.
    """

    #: Name under which the method is registered.
    name: ClassVar[str] = ""
    #: Frozen dataclass of every hyper-parameter, with defaults; published settings are class methods of it.
    Config: ClassVar[type] = NoConfig
    requires: ClassVar[Requirements] = Requirements()
    #: Whether an answer is given before or after the model learns from the same batch.
    answers: ClassVar[Literal["before", "after"]] = "before"
    #: What is updated, and the cost in forwards (F) and backwards (B) per image, for the list of methods.
    updates: ClassVar[str] = "nothing"
    cost: ClassVar[str] = "1F"
    #: How the networks are run; `wrap` says so.
    acceleration: Acceleration = PLAIN
    #: Whether its batch statistics are robust ones, see `tta.wrap`.
    robust_statistics: bool = False

    def __init__(self, source: nn.Module, config: Any = None, *, seed: int = 0, source_data: Any = None) -> None:
        super().__init__()
        if not isinstance(source, nn.Module):
            raise TTAError(f"the source model must be a torch.nn.Module, got {type(source).__name__}")
        self.config = self.Config() if config is None else config
        if not isinstance(self.config, self.Config):
            raise TTAError(f"{self.name} takes a {self.name} Config, got {type(self.config).__name__}")
        source_data = SourceData.of(source_data)
        self.requires.check(source, self.name, source_data)
        self.seed, self.info = seed, StepInfo()
        #: State of a method that is not a tensor; anything that can be deep-copied and saved.
        self.memory: dict[str, Any] = {}
        with torch.inference_mode(False), torch.no_grad():
            self.model = copy.deepcopy(source).eval()
            device = next((t.device for t in (*source.parameters(), *source.buffers())), torch.device("cpu"))
            #: Two sources of randomness: pixels and weights on the model's device, small parameters on the host.
            self.generator, self.host_generator = torch.Generator(device), torch.Generator()
            self._seed_generators()
            parameters = list(self.prepare(self.model))
            self.model.requires_grad_(False)
            for parameter in parameters:
                parameter.requires_grad_(True)
            #: What was spent on source data: nothing, for methods that need none.
            self.source_cost = self._started(source_data)
            self._parameters_adapted = parameters
            self._source_state = self._remember()
            self._source_memory = copy.deepcopy(self.memory)
            self._seed_generators()  # what the start has drawn does not count: reset() begins here too
        self.optimiser = self._fresh_optimiser()

    # What a method says

    def prepare(self, model: nn.Module) -> list[nn.Parameter]:
        """Configures the private copy of the source model and returns the parameters to adapt."""
        return []

    def start(self, source_data: SourceData | None) -> None:
        """Makes what the method keeps besides the model: teachers, anchors, memories, as modules and buffers."""

    def step(self, x: Tensor) -> tuple[Tensor, StepInfo]:
        """Answers a batch and learns from it. Gradients are enabled."""
        return self.answer(x), StepInfo()

    def answer(self, x: Tensor) -> Tensor:
        """The logits that `step` would return, without learning."""
        return self.network(x)

    @property
    def network(self) -> nn.Module:
        """The network that answers; what `export` exports."""
        return self.model

    # What every adapter does

    def forward(self, x: Tensor) -> Tensor:
        """Predicts a batch and adapts to it.

        Args:
            x: Images, float in [0, 1], shape (B, C, H, W). Not written to.

        Returns:
            Logits, shape (B, K) or (B, K, H, W), detached. What happened is in `self.info`.

        Raises:
            TTAError: `x` is not such a batch, or the model returned no such logits.
        """
        with torch.inference_mode(False), torch.enable_grad():
            x = self._checked(x)
            try:
                logits, self.info = self.step(x)
            except (RuntimeError, LookupError, TypeError, AttributeError):
                with torch.no_grad():  # if the model does not return logits, say so instead
                    self._answer_checked(self.network(x), x)
                raise
        return self._answer_checked(logits, x)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Predicts a batch as `forward` would, and changes nothing: arguments and result as in `forward`."""
        states = self._generator_states()
        with torch.inference_mode(False), torch.no_grad():
            logits = self.answer(self._checked(x))
        self._set_generator_states(states)
        return self._answer_checked(logits, x)

    def reset(self) -> None:
        """Back to the source, bit for bit: weights, buffers, teachers, memories, optimiser and random generator."""
        with torch.no_grad():
            for name, tensor in self._changing():
                tensor.copy_(self._source_state[name])
        self.memory = copy.deepcopy(self._source_memory)
        self._seed_generators()
        self.optimiser = self._fresh_optimiser()
        self.info = StepInfo()

    def export(self) -> nn.Module:
        """A copy of the answering network with its adapted weights: a plain module in eval mode that learns no more."""
        network = getattr(self.network, "_orig_mod", self.network)  # of torch.compile: what was compiled
        return copy.deepcopy(bare(network)).requires_grad_(False).eval()

    def update(self, loss: Tensor) -> None:
        """One optimiser step down the gradient of a scalar loss."""
        assert self.optimiser is not None, "prepare() returned no parameters to adapt"
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def copy_of(self, network: nn.Module) -> nn.Module:
        """A frozen copy of a network (teacher, anchor) that shares the parameters which are not adapted with it."""
        shared = {id(p): p for p in network.parameters() if not p.requires_grad}
        return copy.deepcopy(network, shared).requires_grad_(False)

    def networks(self) -> list[nn.Module]:
        """Every network that images can go through, for counting passes."""
        return list(self.children())

    def train(self, mode: bool = True) -> Adapter:
        """Changes nothing: an adapter learns whatever the mode, and keeps its networks in eval mode."""
        return self

    def get_extra_state(self) -> dict[str, Any]:
        """The part of `state_dict` that is no parameter or buffer: optimiser, random generator, memory."""
        return {
            "optimiser": self.optimiser.state_dict() if self.optimiser else None,
            "generators": self._generator_states(),
            "memory": copy.deepcopy(self.memory),
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_extra_state` returned."""
        self.optimiser = self._fresh_optimiser()
        if self.optimiser:
            self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self._set_generator_states(state["generators"])
        self.memory = copy.deepcopy(state["memory"])

    # How

    def _started(self, source_data: SourceData | None) -> SourceCost:
        """Runs `start`, and tells what it did with the source data."""
        if source_data is None or not self.requires.source_data:
            self.start(source_data)
            return SourceCost()
        counter, watch = PassCounter([self.model]), Stopwatch(self.generator.device)
        with counter, watch.step():
            self.start(source_data)
        counter.leave(self.children())  # teachers and anchors were copied from the model while it was counted
        return SourceCost(len(source_data), *counter.passes, sum(watch.read()))

    def _fresh_optimiser(self) -> torch.optim.Optimizer | None:
        return self.config.optimiser.build(self._parameters_adapted) if self._parameters_adapted else None

    def _seed_generators(self) -> None:
        self.generator.manual_seed(self.seed)
        self.host_generator.manual_seed(self.seed + 1)

    def _generator_states(self) -> list[Tensor]:
        return [self.generator.get_state(), self.host_generator.get_state()]

    def _set_generator_states(self, states: list[Tensor]) -> None:
        self.generator.set_state(states[0].cpu())
        self.host_generator.set_state(states[1].cpu())

    def _changing(self) -> list[tuple[str, Tensor]]:
        """Every tensor that a step may change: all but the anchor and the model's parameters that are not adapted."""
        frozen = {id(p) for p in self.model.parameters() if not p.requires_grad}
        tensors = [*self.named_parameters(), *self.named_buffers()]
        return [(name, t) for name, t in tensors if id(t) not in frozen and not name.startswith("anchor.")]

    def _remember(self) -> dict[str, Tensor]:
        """The source's value of everything that may change; what several networks have in common is kept once."""
        kept = {name.split(".", 1)[-1]: t.detach() for name, t in self.named_parameters() if name.startswith("anchor.")}
        state = {}
        for name, tensor in self._changing():
            inner = name.split(".", 1)[-1]
            if inner not in kept or not torch.equal(kept[inner], tensor):
                kept[inner] = tensor.detach().clone()
            state[name] = kept[inner]
        return state

    def _checked(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 4 or not x.is_floating_point():
            what = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise TTAError(f"{self.name} takes float images in [0, 1], shape (B, C, H, W); got {what}")
        if len(x) == 0:
            raise TTAError(f"{self.name} got an empty batch, shape {tuple(x.shape)}; skip empty batches")
        return x.clone() if x.is_inference() else x

    def _answer_checked(self, logits: Tensor, x: Tensor) -> Tensor:
        if not isinstance(logits, Tensor) or logits.ndim < 2 or len(logits) != len(x) or logits.shape[1] < 2:
            what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise TTAError(
                f"the model must return logits of shape ({len(x)}, K) with K >= 2, got {what}:"
                " wrap it in a module that does"
            )
        return logits.detach()
