"""ResNet18 and ResNet34 for small pictures: four stages of blocks with a skip around each.

Source: He, Zhang, Ren and Sun, Deep Residual Learning (2015), arXiv 1512.03385; the version for
CIFAR-10 is that of the Korean PyTorch tutorials.
Differences: a 3x3 convolution with stride 1 and no pooling at the start, where the paper halves
224 pixels twice; the paper's own networks for CIFAR-10 are narrower. A skip that changes the shape
is a 1x1 convolution with batch norm (the paper's option B). The mean over the picture takes any
size, where the text fixes 4x4. Initial weights are PyTorch's, as in the text.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, require_count
from nunbit.models.registry import register_model

BLOCKS_18, BLOCKS_34 = (2, 2, 2, 2), (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a skip around both."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.skip = nn.Sequential()  # the identity, unless the shapes differ
        if stride != 1 or channels_in != channels_out:
            self.skip = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, H/stride, W/stride) of x (B, C_in, H, W)."""
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.skip(x))


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a stage whose first block changes the shape."""
    first = BasicBlock(channels_in, channels_out, stride)
    return nn.Sequential(
        first, *(BasicBlock(channels_out, channels_out, 1) for _ in range(blocks - 1))
    )


class ResNet(Network):
    """The network; see the module's text."""

    def __init__(
        self, num_classes: int, in_channels: int, blocks: tuple[int, int, int, int], width: int
    ) -> None:
        super().__init__(num_classes, 8 * width)
        self.conv = nn.Conv2d(in_channels, width, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.stage1 = _stage(width, width, blocks[0], stride=1)
        self.stage2 = _stage(width, 2 * width, blocks[1], stride=2)
        self.stage3 = _stage(2 * width, 4 * width, blocks[2], stride=2)
        self.stage4 = _stage(4 * width, 8 * width, blocks[3], stride=2)
        self.head = nn.Linear(8 * width, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return features (B, 8n) of pictures x (B, C, H, W), the mean over the picture."""
        x = self.stage1(F.relu(self.norm(self.conv(x))))  # (B, n, H, W)
        x = self.stage2(x)  # (B, 2n, H/2, W/2), rounded up, as below
        x = self.stage3(x)  # (B, 4n, H/4, W/4)
        x = self.stage4(x)  # (B, 8n, H/8, W/8)
        return x.mean((2, 3))


@register_model("resnet18")
def resnet18(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 64
) -> nn.Module:
    """ResNet18 for small pictures: a 3x3 convolution at the start, no first pooling."""
    require_count("width", width)
    return ResNet(num_classes, in_channels, BLOCKS_18, width)


@register_model("resnet34")
def resnet34(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 64
) -> nn.Module:
    """ResNet34 for small pictures: a 3x3 convolution at the start, no first pooling."""
    require_count("width", width)
    return ResNet(num_classes, in_channels, BLOCKS_34, width)
