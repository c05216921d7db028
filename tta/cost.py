"""What adaptation costs: passes through the network, time and memory.

Passes are counted by hooks, so a method cannot misreport them. The unit is the forward-equivalent F: one forward pass
of one image through the source model. A backward pass through the whole network costs about two forwards (it computes
the gradient of the activations and that of the weights), so the total is forwards + 2 x backwards per image. This is
an upper bound for methods that train only a few layers, whose backward skips weight gradients.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tta import heap


class Passes(NamedTuple):
    """Images that went through the networks.

    Attributes:
        forwards: Forward passes, in images.
        backwards: Backward passes, in images.
    """

    forwards: int
    backwards: int


class SourceCost(NamedTuple):
    """What a method did with its source data when its adapter was made.

    Attributes:
        images: Source images that it was given.
        forwards: Forward passes, in images.
        backwards: Backward passes, in images.
        seconds: Time.
    """

    images: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0


class PassCounter:
    """Counts the images that go forward and backward through networks, while it is entered.

    A backward pass is counted when a gradient reaches the output of a network.

    Args:
        networks: Those a method can send images through: student, teacher, anchor.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        self.networks = list(networks)
        self.forwards = self.backwards = 0
        self._handles: list[Any] = []

    def __enter__(self) -> PassCounter:
        for network in self.networks:
            self._handles.append(network.register_forward_hook(self._seen, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def leave(self, copies: Iterable[nn.Module]) -> None:
        """Takes its hooks off networks that were copied while it was entered, and off the copies' modules."""
        for network in copies:
            for module in network.modules():
                for key, hook in list(module._forward_hooks.items()):
                    if getattr(hook, "__self__", None) is self:
                        del module._forward_hooks[key]
                        module._forward_hooks_with_kwargs.pop(key, None)

    def __deepcopy__(self, memo: dict[int, object]) -> PassCounter:
        return self  # a network that is copied while it is counted reports to the same counter

    @property
    def passes(self) -> Passes:
        """The count so far."""
        return Passes(self.forwards, self.backwards)

    def _seen(self, network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        images = next(iter(_tensors((*args, *kwargs.values()))), None)
        self.forwards += 0 if images is None else len(images)
        answer = output if isinstance(output, Tensor) else next(iter(_tensors(output)), None)
        if answer is not None and answer.requires_grad:
            answer.register_hook(self._returned)

    def _returned(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def _tensors(output: Any) -> Iterator[Tensor]:
    values = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return (value for value in values if isinstance(value, Tensor))


class Stopwatch:
    """Times steps; on CUDA with events, so that no step waits for the device.

    Args:
        device: Where the steps run.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.seconds: list[float] = []
        self._events: list[tuple[Any, Any]] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Times the body."""
        if not self.cuda:
            start = time.perf_counter()
            yield
            self.seconds.append(time.perf_counter() - start)
            return
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        yield
        after.record()
        self._events.append((before, after))

    def read(self) -> list[float]:
        """Seconds of every step so far; on CUDA this waits for the device."""
        if self._events:
            torch.cuda.synchronize()
            self.seconds += [before.elapsed_time(after) / 1000 for before, after in self._events]
            self._events.clear()
        return self.seconds


def quantile(values: list[float], q: float) -> float:
    """The q-quantile, linearly interpolated; NaN of nothing.

    >>> quantile([1.0, 2.0, 3.0], 0.5)
    2.0
    """
    return torch.tensor(values, dtype=torch.float64).quantile(q).item() if values else float("nan")


class PeakMemory:
    """The most memory in use above what was in use when it was made, in MB (10^6 bytes).

    On CUDA the allocator's count of the device's memory. On the CPU the resident memory of the process: exact on Linux,
    where the kernel's high-water mark can be reset; on other systems the growth of the process's all-time peak, which
    misses what an earlier run already had reached; NaN where the system tells neither.

    Args:
        device: Whose memory.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.start = float(torch.cuda.memory_allocated(self.device))
        else:
            self.start = _reset_peak()

    def read(self) -> float:
        """MB by now."""
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _peak()
        return max(0.0, (peak - self.start) / 1e6)


def _reset_peak() -> float:
    """Makes the present use the peak, where the system can; bytes of the mark from which growth counts."""
    if heap.kept:
        heap.give_back_freed()  # what earlier runs have left would hide as much of this one
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return _peak()


def _peak() -> float:
    """The highest resident memory of the process in bytes."""
    try:
        return _status("VmHWM")
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(field: str) -> float:
    """A field of the process's status in bytes; OSError where there is none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")
