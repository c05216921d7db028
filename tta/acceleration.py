"""Cheaper passes through the same networks: bf16 autocast, the channels_last layout, torch.compile.

None of these is ever chosen silently: they are arguments of `tta.wrap` and options of `tta bench`, part of the key of a
cell and of its provenance.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib import util
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tta.errors import TTAError, unknown
from tta.features import LearningLayer

PRECISIONS = ("float32", "bf16")
#: Arguments of torch.compile by their names on the command line; "cudagraphs" replays the steady state of a GPU.
COMPILERS: dict[str, dict[str, Any]] = {"none": {}, "default": {}, "cudagraphs": {"mode": "reduce-overhead"}}


@dataclass(frozen=True)
class Acceleration:
    """How the networks of an adapter are run.

    Raises:
        TTAError: There is no such precision or compiler.
    """

    #: "bf16" runs the passes under autocast; weights, statistics of batch norms, logits and losses stay in float32.
    precision: Literal["float32", "bf16"] = "float32"
    #: Weights of convolutions with the channels last: on most machines the faster layout. Same results up to rounding.
    channels_last: bool = False
    #: What compiles the networks: "none", "default" (torch.compile) or "cudagraphs" (its mode "reduce-overhead").
    compile: str = "none"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.compile not in COMPILERS:
            raise unknown("compiler", self.compile, list(COMPILERS))

    def __bool__(self) -> bool:
        return self != PLAIN

    def __str__(self) -> str:
        """The options that are not as usual, joined by a plus.

        >>> str(Acceleration("bf16", channels_last=True))
        'bf16+channels_last'
        """
        words: list[str] = [self.precision] if self.precision != "float32" else []
        words += ["channels_last"] if self.channels_last else []
        words += [f"compile_{self.compile}"] if self.compile != "none" else []
        return "+".join(words)

    def around(self, model: nn.Module) -> nn.Module:
        """The model as it is to be adapted: itself, or inside of what makes its passes cheaper; it is not copied.

        Raises:
            TTAError: The options cannot be had here, or not with this model.
        """
        device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
        if self.channels_last and not channels_last_is_safe(model):
            raise TTAError(
                f"channels_last: the backward pass of group norm crashes in that layout with torch {torch.__version__};"
                " use torch 2.7 or later, or leave channels_last out"
            )
        if self.compile == "cudagraphs" and device.type != "cuda":
            raise TTAError(f"compile='cudagraphs' needs a GPU, the model is on {device}; use compile='default'")
        if self.compile != "none":
            check_compiler(device)
        return Accelerated(model, self) if self.precision != "float32" or self.compile != "none" else model

    def lay_out(self, networks: list[nn.Module]) -> None:
        """Puts the networks of an adapter, and nothing of the caller's, into the layout."""
        for network in networks if self.channels_last else ():
            network.to(memory_format=torch.channels_last)


#: The networks as they are: float32, the layout as it comes, not compiled.
PLAIN = Acceleration()


class Accelerated(nn.Module):
    """A network whose passes run under autocast, compiled, or both; copies of it are as well.

    Args:
        network: Images to logits.
        options: What to do.
    """

    def __init__(self, network: nn.Module, options: Acceleration) -> None:
        super().__init__()
        self.network, self.options = network, options
        for name in ("name", "preprocessing", "sha256"):  # which provenance asks for
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x: Tensor) -> Any:
        """What the network returns; logits in float32 at least."""
        if self.options.compile != "none":
            self._compile()
        if self.options.precision == "float32":
            out = self.network(x)
        else:
            with torch.autocast(x.device.type, torch.bfloat16):
                out = self.network(x)
        if isinstance(out, Tensor) and out.dtype in (torch.bfloat16, torch.float16):
            return out.float()
        if isinstance(out, Tensor) and self.options.compile == "cudagraphs":
            return out.clone()  # the next replay writes to the same memory
        return out

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own: a state that was saved with these options loads without them, and the other way round."""
        return self.network.state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key in [key for key in state_dict if key.startswith(prefix)]:
            state_dict[f"{prefix}network.{key.removeprefix(prefix)}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _compile(self) -> None:
        """Compiles the network once; a copy is compiled again, by the compiler's cache.

        Raises:
            TTAError: Somebody listens inside the network, which compiled code would not tell.
        """
        inside = [*self.network.modules()]
        if any(m._forward_hooks or m._forward_pre_hooks or isinstance(m, LearningLayer) for m in inside):
            raise TTAError(
                "compile: this method looks at layers inside the network, which compiled code does not show; leave"
                " compile out, or choose a method that uses logits only, such as tent or cotta"
            )
        if self.network._compiled_call_impl is None:
            self.network.compile(**COMPILERS[self.options.compile])


def bare(network: nn.Module) -> nn.Module:
    """The network without what makes its passes cheaper."""
    return network.network if isinstance(network, Accelerated) else network


def channels_last_is_safe(model: nn.Module) -> bool:
    """Whether a model can learn in the layout: the backward pass of group norm on the CPU crashed before torch 2.7."""
    old = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 7)
    return not (old and any(isinstance(module, nn.GroupNorm) for module in model.modules()))


def check_compiler(device: torch.device) -> None:
    """Raises TTAError unless torch.compile finds what it needs."""
    if device.type == "cuda":
        if util.find_spec("triton") is None:
            raise TTAError("compile needs Triton for a GPU: install triton, or leave compile out")
    elif not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "cl")):
        raise TTAError("compile needs a C++ compiler, and none is found: install g++ or set CXX, or leave compile out")
