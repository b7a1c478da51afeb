"""The texts' AlexNet for CIFAR-10: five convolutions, three poolings, dropout, three linear layers.

Sources: Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep CNNs (2012); the small
version with its numbers of channels is that of the Korean PyTorch tutorials on CIFAR-10.
Differences: the first linear layer follows the picture's size, where the text fixes 32 pixels
(2304). From the paper: 3x3 convolutions with stride 1 for 11x11 with stride 4 and 5x5 (pictures
have 32 pixels, not 224), 2x2 pooling for overlapping 3x3, the last convolution is 1x1, no local
response normalisation, one path for two graphics cards, smaller linear layers. The large one is
`torchvision:alexnet`.

Shapes: B batch, C channels, H and W pixels, K classes.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, flat_features, require_side
from nunbit.models.registry import register_model

LEAST_SIDE = 10  # pixels; the first convolution takes 2, three poolings leave one


class AlexNetSmall(Network):
    """The network; see the module's text."""

    head_name = "fc3"

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__(num_classes, 512)
        inside = (image_size[0] - 2, image_size[1] - 2)  # what an unpadded 3x3 leaves
        self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3)
        self.conv2 = nn.Conv2d(64, 192, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(192, 384, kernel_size=3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, kernel_size=3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, kernel_size=1)
        self.dropout1 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(flat_features(256, inside, 3), 1024)
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(1024, 512)
        self.fc3 = nn.Linear(512, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (B, 512) of pictures x (B, C, H, W)."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # (B, 64, 15, 15) of 32 pixels
        x = F.relu(F.max_pool2d(self.conv2(x), 2))  # (B, 192, 7, 7)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))  # (B, 256, 7, 7)
        x = F.relu(F.max_pool2d(self.conv5(x), 2))  # (B, 256, 3, 3)
        x = F.relu(self.fc1(self.dropout1(x.flatten(1))))  # (B, 1024)
        return F.relu(self.fc2(self.dropout2(x)))


@register_model("alexnet-small")
def alexnet_small(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The texts' AlexNet for pictures of 32 pixels."""
    require_side("alexnet-small", image_size, LEAST_SIDE)
    return AlexNetSmall(num_classes, in_channels, image_size)
