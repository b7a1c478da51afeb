"""The texts' network for MNIST: three 5x5 convolutions and two linear layers.

Source: the tutorial on a convolutional network for MNIST (Adam 2e-4, ten epochs); no paper.
Differences: the linear layer follows the picture's size, where the text fixes 28 pixels (576).

Shapes: B batch, C channels, H and W pixels, K classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, require_side
from nunbit.models.registry import register_model

HIDDEN = 100
LEAST_SIDE = 20  # pixels; below this nothing is left after the second pooling


class MnistCNN(Network):
    """The network; see the module's text."""

    head_name = "fc2"

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__(num_classes, HIDDEN)
        # Two unpadded 5x5 convolutions cost 4 pixels each, then the pooling halves, and so again.
        height, width = (((side - 8) // 2 - 4) // 2 for side in image_size)
        self.conv1 = nn.Conv2d(in_channels, 16, kernel_size=5)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=5)
        self.conv3 = nn.Conv2d(32, 64, kernel_size=5)
        self.fc1 = nn.Linear(64 * height * width, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 100) of pictures x (B, C, H, W)."""
        x = F.relu(self.conv1(x))  # (B, 16, 24, 24) of 28 pixels
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (B, 32, 10, 10)
        x = F.relu(F.max_pool2d(self.conv3(x), 2))  # (B, 64, 3, 3)
        return F.relu(self.fc1(x.flatten(1)))


@register_model("mnist-cnn")
def mnist_cnn(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The texts' network for MNIST."""
    require_side("mnist-cnn", image_size, LEAST_SIDE)
    return MnistCNN(num_classes, in_channels, image_size)
