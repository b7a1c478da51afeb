"""The texts' network: two convolutions, two poolings, two linear layers; 18,090 parameters.

Written twice on purpose, since the texts teach both ways: as a list of modules and as functions
in `forward`. The parameters have the same shapes in the same order, and the outputs are equal.

Source: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 8.
Differences: the first linear layer follows the picture's size, where the text fixes 32 pixels.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, flat_features, require_count, require_side
from nunbit.models.registry import register_model

HIDDEN = 32  # width of the text's first linear layer
LEAST_SIDE = 4  # pixels; two poolings leave one


class Net(Network):
    """The network in the functional style."""

    head_name = "fc2"

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int
    ) -> None:
        super().__init__(num_classes, HIDDEN)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(width, width // 2, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(flat_features(width // 2, image_size, 2), HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 32) of pictures x (B, C, H, W)."""
        x = torch.tanh(F.max_pool2d(self.conv1(x), 2))  # (B, n, H/2, W/2)
        x = torch.tanh(F.max_pool2d(self.conv2(x), 2))  # (B, n/2, H/4, W/4)
        return torch.tanh(self.fc1(x.flatten(1)))


@register_model("net")
def net(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 16
) -> nn.Module:
    """The texts' bird-or-airplane network; width 32 is their NetWidth."""
    require_count("width", width, even=True)
    require_side("net", image_size, LEAST_SIDE)
    return Net(num_classes, in_channels, image_size, width)


@register_model("net-modules")
def net_modules(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 16
) -> nn.Module:
    """The same network as a list of modules, with nothing in forward."""
    require_count("width", width, even=True)
    require_side("net-modules", image_size, LEAST_SIDE)
    return nn.Sequential(
        nn.Conv2d(in_channels, width, kernel_size=3, padding=1),
        nn.MaxPool2d(2),  # (B, n, H/2, W/2)
        nn.Tanh(),
        nn.Conv2d(width, width // 2, kernel_size=3, padding=1),
        nn.MaxPool2d(2),  # (B, n/2, H/4, W/4)
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(flat_features(width // 2, image_size, 2), HIDDEN),
        nn.Tanh(),
        nn.Linear(HIDDEN, num_classes),
    )
