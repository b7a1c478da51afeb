"""The texts' deeper network with one skip: the third convolution's input is added to its output.

Sources: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 8 (NetRes);
skip connections arXiv 1512.03385.
Differences: the first linear layer follows the picture's size, where the text fixes 32 pixels.
From the paper: the sum comes after the ReLU, as in the text, where the paper adds before it.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import require_count, require_side
from nunbit.models.net_depth import LEAST_SIDE, NetDepth
from nunbit.models.registry import register_model


class NetRes(NetDepth):
    """The layers of `NetDepth`, with a way around the third convolution."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 32) of pictures x (B, C, H, W)."""
        x = torch.relu(F.max_pool2d(self.conv1(x), 2))  # (B, n, H/2, W/2)
        x = torch.relu(F.max_pool2d(self.conv2(x), 2))  # (B, n/2, H/4, W/4)
        x = F.max_pool2d(torch.relu(self.conv3(x)) + x, 2)  # (B, n/2, H/8, W/8)
        return torch.relu(self.fc1(x.flatten(1)))


@register_model("net-res")
def net_res(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 32
) -> nn.Module:
    """The texts' deeper network with a skip around the third convolution."""
    require_count("width", width, even=True)
    require_side("net-res", image_size, LEAST_SIDE)
    return NetRes(num_classes, in_channels, image_size, width)
