"""Three small networks, one for each kind of normalisation, that the contract of adapters is checked on.

Images (B, 3, 32, 32) in [0, 1] to logits (B, 10). Their weights are random but always the same, and making them leaves
the global random generator as it was.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10


class Block(nn.Module):
    """Two normalised convolutions around which the input is carried on."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width)
        self.second, self.second_norm = nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, width, H, W), as the input."""
        y = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(x + y)


class ResNet(nn.Module):
    """Two residual blocks behind a strided convolution; takes images of any size."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int = 16) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), norm(width)
        self.blocks = nn.Sequential(Block(width, norm), Block(width, norm))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Images to logits."""
        return self.head(self.blocks(F.relu(self.stem_norm(self.stem(x)))).mean((2, 3)))


def batch_norm(seed: int = 0) -> nn.Module:
    """A ResNet whose batch norm layers have seen images, so that their statistics are not the initial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ResNet(nn.BatchNorm2d)
        with torch.no_grad():
            net.train()
            net(torch.rand(32, 3, 32, 32))
    return net.eval()


def layer_norm(seed: int = 0) -> nn.Module:
    """A vision transformer of two layers."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.models.VisionTransformer(
            img_size=32, patch_size=8, num_classes=CLASSES, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2
        ).eval()


def group_norm(seed: int = 0) -> nn.Module:
    """A ResNet with group norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(lambda width: nn.GroupNorm(4, width)).eval()


#: The networks by the kind of their normalisation layers.
NETS: dict[str, Callable[[], nn.Module]] = {
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
}
