"""The texts' network with dropout: whole channels are zeroed at random after each pooling.

Sources: Stevens, Antiga and Viehmann, Deep Learning with PyTorch (2020), chapter 8 (NetDropout);
dropout of channels arXiv 1411.4280.
Differences: the first linear layer follows the picture's size, where the text fixes 32 pixels;
the share that is dropped is an option.

Shapes: B batch, C channels, H and W pixels, K classes; n is `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.errors import UsageError
from nunbit.models.base import require_count, require_side
from nunbit.models.net import LEAST_SIDE, Net
from nunbit.models.registry import register_model


class NetDropout(Net):
    """The layers of `Net`, with channels dropped while training."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: tuple[int, int],
        width: int,
        dropout: float,
    ) -> None:
        super().__init__(num_classes, in_channels, image_size, width)
        self.dropout1 = nn.Dropout2d(dropout)
        self.dropout2 = nn.Dropout2d(dropout)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the hidden layer (B, 32) of pictures x (B, C, H, W)."""
        x = self.dropout1(torch.tanh(F.max_pool2d(self.conv1(x), 2)))  # (B, n, H/2, W/2)
        x = self.dropout2(torch.tanh(F.max_pool2d(self.conv2(x), 2)))  # (B, n/2, H/4, W/4)
        return torch.tanh(self.fc1(x.flatten(1)))


@register_model("net-dropout")
def net_dropout(
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    width: int = 32,
    dropout: float = 0.4,
) -> nn.Module:
    """The texts' network, twice as wide, with dropout of channels after each pooling."""
    require_count("width", width, even=True)
    require_side("net-dropout", image_size, LEAST_SIDE)
    if not 0 <= dropout < 1:
        raise UsageError("model.dropout is {dropout}; allowed: 0 to below 1", dropout=dropout)
    return NetDropout(num_classes, in_channels, image_size, width, dropout)
