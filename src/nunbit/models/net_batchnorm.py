"""The texts' network with batch norm between each convolution and its tanh.

Sources: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 8
(NetBatchNorm); batch norm arXiv 1502.03167.
Differences: the first linear layer follows the picture's size, where the text fixes 32 pixels.
The convolutions keep the text's biases, though the norm subtracts them again at once: they learn
nothing.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, flat_features, require_count, require_side
from nunbit.models.net import HIDDEN, LEAST_SIDE
from nunbit.models.registry import register_model


class NetBatchNorm(Network):
    """The layers of `Net`, and one norm after each convolution.

    In the order in which they are called: `optim.layer_decay` goes by it.
    """

    head_name = "fc2"

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int
    ) -> None:
        super().__init__(num_classes, HIDDEN)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width // 2, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(width // 2)
        self.fc1 = nn.Linear(flat_features(width // 2, image_size, 2), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 32) of pictures x (B, C, H, W)."""
        x = torch.tanh(F.max_pool2d(self.norm1(self.conv1(x)), 2))  # (B, n, H/2, W/2)
        x = torch.tanh(F.max_pool2d(self.norm2(self.conv2(x)), 2))  # (B, n/2, H/4, W/4)
        return torch.tanh(self.fc1(x.flatten(1)))


@register_model("net-batchnorm")
def net_batchnorm(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 32
) -> nn.Module:
    """The texts' network, twice as wide, with batch norm before each tanh."""
    require_count("width", width, even=True)
    require_side("net-batchnorm", image_size, LEAST_SIDE)
    return NetBatchNorm(num_classes, in_channels, image_size, width)
