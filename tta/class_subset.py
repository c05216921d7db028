"""A model of ImageNet's 1,000 classes on data of some of them (ImageNet-R, ImageNet-A): only their logits count."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.errors import TTAError
from tta.features import replace_classifier
from tta.streams import to_unit

if TYPE_CHECKING:
    from tta.data.images import ImageData
    from tta.models import SourceModel

IMAGENET = 1000


class ClassSubset(nn.Module):
    """A network that gives only the logits of some of its classes, in the order of `indices`.

    Args:
        net: Images to logits (B, K) or (B, K, *).
        indices: The classes, each in 0 to K-1.

    Reference:
        Hendrycks et al., "The many faces of robustness", ICCV 2021: logits[:, mask] in the published evaluation.
    """

    indices: Tensor

    def __init__(self, net: nn.Module, indices: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("indices", torch.tensor(list(indices), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, len(indices)) of images (B, C, H, W)."""
        return self.net(x).index_select(1, self.indices)


def fit_classes(model: SourceModel, data: ImageData) -> SourceModel:
    """The model, or a copy of it restricted to the classes of the data where these are some of ImageNet's.

    Labels 0 to K-1 of the data then fit the logits (B, K), as in the published protocols. Adapters see the restricted
    model: what they minimise is made of these classes alone. Where the logits are the output of the last linear layer,
    this layer keeps only the rows of these classes, so that methods which look at the classifier meet one of so many
    classes; else the logits are selected behind the network.

    Args:
        model: The source model.
        data: The data; its first image is shown to the model.

    Raises:
        TTAError: The model has another number of classes than the data, and they are not classes of ImageNet.
    """
    if model.num_classes == len(data.classes) or (data.counted and model.num_classes > len(data.classes)):
        return model
    if data.class_indices is None or model.num_classes != IMAGENET:
        raise TTAError(
            f"{model.name} predicts {model.num_classes} classes but {data.name} has {len(data.classes)};"
            " choose a model and data that belong together"
        )
    fitted, indices = copy.deepcopy(model), data.class_indices
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if ends_in_linear(fitted, to_unit(data.images(torch.tensor([0])), data.name, device)):
        replace_classifier(fitted, lambda layer: some_rows(layer, indices))
    else:
        fitted.net = ClassSubset(fitted.net, indices).to(device).eval()
    fitted.num_classes, fitted.classes = len(data.classes), data.classes
    return fitted


@torch.no_grad()
def ends_in_linear(network: nn.Module, x: Tensor) -> bool:
    """Whether the logits of images are the product of the last linear layer's own weights and its input."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers or "weight" not in layers[-1]._parameters:  # computed weights, as under weight normalisation
        return False
    layer, calls = layers[-1], []
    handle = layer.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    try:
        logits = network(x)
    finally:
        handle.remove()
    return (
        len(calls) == 1
        and calls[0][1] is logits
        and torch.allclose(F.linear(calls[0][0], layer.weight, layer.bias), logits)
    )


def some_rows(layer: nn.Linear, indices: Sequence[int]) -> nn.Linear:
    """A linear layer with some of the outputs of another."""
    rows = torch.tensor(list(indices), device=layer.weight.device)
    part = copy.deepcopy(layer)
    part.out_features = len(rows)
    for name in ("weight", "bias"):
        if (whole := getattr(layer, name)) is not None:
            setattr(part, name, nn.Parameter(whole.detach()[rows].clone(), requires_grad=whole.requires_grad))
    return part
