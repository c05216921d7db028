"""The features that a classifier's last linear layer sees, of any network, without touching its code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from tta.errors import TTAError


def classifier(network: nn.Module) -> nn.Linear:
    """The linear layer that makes the logits: the last one in module order.

    Raises:
        TTAError: The network has no linear layer.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise TTAError(
            "the model has no linear classifier, so it has no features in front of one: choose another method"
        )
    return layers[-1]


def features_and_logits(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """One forward pass that also returns what went into the classifier.

    Args:
        network: A network whose logits come from its last linear layer.
        x: Images, shape (B, C, H, W).

    Returns:
        Features, shape (B, D), and logits, shape (B, K), both attached to the graph.
    """
    seen: list[Tensor] = []
    handle = classifier(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = network(x)
    finally:
        handle.remove()
    return seen[-1].to(logits.dtype), logits  # under autocast in float32, as the logits


def replace_classifier(network: nn.Module, build: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Puts `build(classifier)` in the place of the linear layer that makes the logits; returns the network.

    Raises:
        TTAError: The network has no linear layer.
    """
    layer = classifier(network)
    for module in network.modules():
        for name, child in module.named_children():
            if child is layer:
                setattr(module, name, build(layer))
                return network
    return build(layer)  # the network is that layer


class LearningLayer(nn.Module):
    """A layer that learns from what it sees, but only within `learning`."""

    learning = False


@contextmanager
def learning(network: nn.Module) -> Iterator[None]:
    """Within, every `LearningLayer` of the network learns from what it sees."""
    layers = [module for module in network.modules() if isinstance(module, LearningLayer)]
    for layer in layers:
        layer.learning = True
    try:
        yield
    finally:
        for layer in layers:
            layer.learning = False
