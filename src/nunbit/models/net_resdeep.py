"""The texts' very deep network: one convolution, 100 residual blocks, two poolings.

Sources: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 8 (NetResDeep);
residual blocks arXiv 1512.03385, initial weights arXiv 1502.01852.
Differences: the blocks are as many objects as there are blocks. The text writes
`n_blocks * [ResBlock(...)]`, which is a list of one block n times: 100 layers deep, but with the
parameters of one. `shared` builds that network. Its block is held once and called n times, so
that a saved file has it once. The first linear layer follows the picture's size, where the text
fixes 32 pixels.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, flat_features, require_count, require_side
from nunbit.models.registry import register_model

HIDDEN = 32  # width of the text's first linear layer
LEAST_SIDE = 4  # pixels; two poolings leave one


class ResBlock(nn.Module):
    """3x3 convolution without bias (the norm has one), batch norm, ReLU, and a skip around all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        # Half the usual scale: a hundred sums of full-sized blocks would grow out of bounds.
        nn.init.constant_(self.norm.weight, 0.5)
        nn.init.zeros_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, H, W) of x of the same shape."""
        return torch.relu(self.norm(self.conv(x))) + x


class NetResDeep(Network):
    """The network; see the module's text."""

    head_name = "fc2"

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        width: int,
        blocks: int,
        shared: bool,
    ) -> None:
        super().__init__(num_classes, HIDDEN)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(width) for _ in range(1 if shared else blocks)))
        self.passes = blocks if shared else 1
        self.fc1 = nn.Linear(flat_features(width, image_size, 2), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 32) of pictures x (B, C, H, W)."""
        x = torch.relu(F.max_pool2d(self.conv1(x), 2))  # (B, n, H/2, W/2)
        for _ in range(self.passes):
            x = self.blocks(x)
        x = F.max_pool2d(x, 2)  # (B, n, H/4, W/4)
        return torch.relu(self.fc1(x.flatten(1)))


@register_model("net-resdeep")
def net_resdeep(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    width: int = 32,
    blocks: int = 100,
    shared: bool = False,
) -> nn.Module:
    """The texts' very deep network: 100 residual blocks; `shared` repeats a single one."""
    require_count("width", width)
    require_count("blocks", blocks)
    require_side("net-resdeep", image_size, LEAST_SIDE)
    return NetResDeep(num_classes, in_channels, image_size, width, blocks, shared)
