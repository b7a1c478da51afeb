"""The texts' deeper network: three convolutions and poolings, with ReLU in place of tanh.

Source: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 8 (NetDepth).
Differences: the first linear layer follows the picture's size, where the text fixes 32 pixels.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, flat_features, require_count, require_side
from nunbit.models.registry import register_model

HIDDEN = 32  # width of the text's first linear layer
LEAST_SIDE = 8  # pixels; three poolings leave one


class NetDepth(Network):
    """The network; see the module's text."""

    head_name = "fc2"

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int
    ) -> None:
        super().__init__(num_classes, HIDDEN)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width // 2, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(width // 2, width // 2, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(flat_features(width // 2, image_size, 3), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 32) of pictures x (B, C, H, W)."""
        x = torch.relu(F.max_pool2d(self.conv1(x), 2))  # (B, n, H/2, W/2)
        x = torch.relu(F.max_pool2d(self.conv2(x), 2))  # (B, n/2, H/4, W/4)
        x = torch.relu(F.max_pool2d(self.conv3(x), 2))  # (B, n/2, H/8, W/8)
        return torch.relu(self.fc1(x.flatten(1)))


@register_model("net-depth")
def net_depth(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 32
) -> nn.Module:
    """The texts' deeper network: three convolutions, ReLU, three poolings."""
    require_count("width", width, even=True)
    require_side("net-depth", image_size, LEAST_SIDE)
    return NetDepth(num_classes, in_channels, image_size, width)
