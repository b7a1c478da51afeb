"""The texts' fully connected networks: linear layers with tanh between them, no convolution.

They are what the convolutions are measured against: a pixel's neighbours mean nothing to them.

Source: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 7.
Differences: the text ends in LogSoftmax and trains with NLLLoss. Here as everywhere networks give
logits, and cross entropy of logits is the same loss, computed without overflow. The first layer
follows the picture's size, where the text fixes 32 pixels and 3 channels (3072).

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

from itertools import pairwise

from torch import Tensor, nn

from nunbit.models.base import Network, require_count
from nunbit.models.registry import register_model

DEEP_WIDTHS = (1024, 512, 128)  # hidden layers of the text's deeper version


class MLP(Network):
    """The network; see the module's text."""

    def __init__(self, num_classes: int, num_inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__(num_classes, widths[-1])
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((num_inputs, *widths)):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (B, F) of pictures x (B, C, H, W)."""
        features: Tensor = self.hidden(x.flatten(1))  # (B, C*H*W) to (B, F)
        return features


@register_model("mlp")
def mlp(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 512
) -> nn.Module:
    """The texts' fully connected network with one hidden layer of tanh."""
    require_count("width", width)
    return MLP(num_classes, in_channels * image_size[0] * image_size[1], (width,))


@register_model("mlp-deep")
def mlp_deep(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The texts' fully connected network with three hidden layers of tanh."""
    return MLP(num_classes, in_channels * image_size[0] * image_size[1], DEEP_WIDTHS)
