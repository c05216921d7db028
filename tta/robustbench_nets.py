"""The two networks of RobustBench that the field adapts on CIFAR, without RobustBench: WRN-28-10 and ResNeXt-29.

Their parameters are named as in the published checkpoints, so that these can be loaded into them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tta.preprocessing import Preprocessing


class WideBlock(nn.Module):
    """Two 3 x 3 convolutions after batch norm and ReLU; where the shape changes, the shortcut is a convolution too."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.changes = width_in != width
        if self.changes:
            self.convShortcut = nn.Conv2d(width_in, width, 1, stride, 0, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images of features (B, width_in, H, W) to (B, width, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (self.convShortcut(active) if self.changes else x)


class WideStage(nn.Module):
    """Blocks of one width, of which the first changes the shape."""

    def __init__(self, blocks: int, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        shapes = [(width_in, stride)] + [(width, 1)] * (blocks - 1)
        self.layer = nn.Sequential(*(WideBlock(before, width, step) for before, step in shapes))

    def forward(self, x: Tensor) -> Tensor:
        """Block after block."""
        return self.layer(x)


class WideResNet(nn.Module):
    """A wide residual network for images of 32 pixels.

    Args:
        depth: 6 n + 4, with n blocks per stage.
        widen: Factor of the widths 16, 32 and 64.
        classes: K.

    Reference:
        Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016.
    """

    def __init__(self, depth: int = 28, widen: int = 10, classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.block1 = WideStage(blocks, 16, 16 * widen, 1)
        self.block2 = WideStage(blocks, 16 * widen, 32 * widen, 2)
        self.block3 = WideStage(blocks, 32 * widen, 64 * widen, 2)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.fc = nn.Linear(64 * widen, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to logits (B, K)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class GroupedBottleneck(nn.Module):
    """1 x 1, grouped 3 x 3 and 1 x 1 convolution, each with batch norm, around a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int, groups: int, group_width: int) -> None:
        super().__init__()
        inner, outer = width * group_width // 64 * groups, 4 * width
        self.conv_reduce = nn.Conv2d(width_in, inner, 1, bias=False)
        self.bn_reduce = nn.BatchNorm2d(inner)
        self.conv_conv = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(inner)
        self.conv_expand = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn_expand = nn.BatchNorm2d(outer)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or width_in != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Images of features (B, width_in, H, W) to (B, 4 width, H / stride, W / stride)."""
        out = F.relu(self.bn_reduce(self.conv_reduce(x)))
        out = F.relu(self.bn(self.conv_conv(out)))
        return F.relu(self.bn_expand(self.conv_expand(out)) + self.downsample(x))


class ResNeXt(nn.Module):
    """A ResNeXt for images of 32 pixels.

    Args:
        depth: 9 n + 2, with n blocks per stage.
        groups: Groups of the 3 x 3 convolutions.
        group_width: Their width in the first stage.
        classes: K.

    Reference:
        Xie et al., "Aggregated residual transformations for deep neural networks", CVPR 2017.
    """

    def __init__(self, depth: int = 29, groups: int = 4, group_width: int = 32, classes: int = 100) -> None:
        super().__init__()
        blocks = (depth - 2) // 9
        self.conv_1_3x3 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn_1 = nn.BatchNorm2d(64)
        stages = []
        for width_in, width, stride in ((64, 64, 1), (256, 128, 2), (512, 256, 2)):
            shapes = [(width_in, stride)] + [(4 * width, 1)] * (blocks - 1)
            stages.append([GroupedBottleneck(before, width, step, groups, group_width) for before, step in shapes])
        self.stage_1, self.stage_2, self.stage_3 = (nn.Sequential(*stage) for stage in stages)
        self.classifier = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K)."""
        x = F.relu(self.bn_1(self.conv_1_3x3(x)))
        return self.classifier(self.stage_3(self.stage_2(self.stage_1(x))).mean((2, 3)))


HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
#: Network and preprocessing by the name DATASET/THREAT/NAME.
NETS: dict[str, tuple[Callable[[], nn.Module], Preprocessing]] = {
    "cifar10/corruptions/Standard": (WideResNet, Preprocessing()),
    "cifar10/corruptions/Hendrycks2020AugMix_ResNeXt": (lambda: ResNeXt(classes=10), HALF),
    "cifar100/corruptions/Hendrycks2020AugMix_ResNeXt": (ResNeXt, HALF),
}
#: Constants of the preprocessing, which some checkpoints hold too.
CONSTANTS = ("mu", "sigma")
