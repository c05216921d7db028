"""Small networks for tests, and the two CIFAR networks that the golden numbers were made with."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tta.contract.nets import layer_norm as vit

__all__ = ["CifarResNet", "GroupNormResNet", "Normalised", "group_norm", "resnet", "vit"]


class Normalised(nn.Module):
    """Input normalisation and a network that must be called `net`."""

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        # float64 here, so that a network in float64 is not normalised with constants rounded to float32
        self.mean, self.std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - self.mean.to(x)) / self.std.to(x))


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm; shortcut by striding and zero channels."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.extra = stride, (width - width_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(out + short)


class CifarResNet(nn.Module):
    """The CIFAR ResNet of He et al. (2016) with n blocks per stage: depth 6 n + 2."""

    def __init__(self, blocks: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(*(Block(32 if i else 16, 32, 1 if i else 2) for i in range(blocks)))
        self.layer3 = nn.Sequential(*(Block(64 if i else 32, 64, 1 if i else 2) for i in range(blocks)))
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class PreActBlock(nn.Module):
    """Pre-activation block with group norm; the shortcut takes the raw input."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.GroupNorm(8, width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.stride, self.extra = stride, width - width_in

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))
        if self.stride > 1:
            x = F.pad(F.avg_pool2d(x, self.stride), (0, 0, 0, 0, 0, self.extra))
        return x + out


class GroupNormResNet(nn.Module):
    """The pre-activation group-norm ResNet of MEMO with n blocks per stage: depth 6 n + 2."""

    def __init__(self, blocks: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(*(PreActBlock(16, 16, 1) for _ in range(blocks)))
        self.layer2 = nn.Sequential(*(PreActBlock(32 if i else 16, 32, 1 if i else 2) for i in range(blocks)))
        self.layer3 = nn.Sequential(*(PreActBlock(64 if i else 32, 64, 1 if i else 2) for i in range(blocks)))
        self.bn = nn.GroupNorm(8, 64)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))


def resnet(seed: int = 0) -> nn.Module:
    """A batch-norm ResNet-8 with running statistics that differ from its initial ones."""
    torch.manual_seed(seed)
    net = CifarResNet(blocks=1)
    with torch.no_grad():
        net.train()
        net(torch.rand(32, 3, 32, 32))
    return net.eval()


def group_norm(seed: int = 0) -> nn.Module:
    """A group-norm ResNet-8."""
    torch.manual_seed(seed)
    return GroupNormResNet(blocks=1).eval()
