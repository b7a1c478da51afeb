"""The default network: a small residual CNN that fits any picture size and number of channels.

A stem, then stages that each halve the picture, double the channels and add one residual block,
until 4 pixels a side are left; then global pooling and one linear layer.

Sources: residual blocks arXiv 1512.03385, batch norm arXiv 1502.03167, the stage of convolution,
pooling and residual block from D. Page, "How to train your ResNet" (2018).
Differences: the number of stages follows the picture, and large pictures enter through a stem with
stride, so that the cost per picture stays near that of 32 pixels.

Shapes: B batch, C channels, H and W pixels, K classes, n `width`.
"""

from torch import Tensor, nn

from nunbit.models.base import Network, require_count, require_side
from nunbit.models.registry import register_model

STEM_SIDE = 32  # pixels; larger pictures are halved in the stem until they are at most this
LAST_SIDE = 4  # pixels; below this a 3x3 convolution sees mostly padding
MAX_STAGES = 3


class ConvNorm(nn.Sequential):
    """Convolution without bias (the norm has one), batch norm, ReLU.

    It is 3x3 and keeps H and W; with a stride, by which H and W are divided, it is larger.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        size = 3 if stride == 1 else stride + 3  # overlap, so that no pixel is seen only once
        super().__init__(
            nn.Conv2d(
                channels_in, channels_out, size, stride=stride, padding=(size - 1) // 2, bias=False
            ),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class Stage(nn.Module):
    """Halve the picture, change the channels, add one residual block of two convolutions."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.change = ConvNorm(channels_in, channels_out)
        self.residual = nn.Sequential(
            ConvNorm(channels_out, channels_out), ConvNorm(channels_out, channels_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, H/2, W/2) of x (B, C_in, H, W)."""
        x = self.change(self.pool(x))
        return x + self.residual(x)  # type: ignore[no-any-return]  # modules are untyped calls


class CNN(Network):
    """The network; see the module's text."""

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int
    ) -> None:
        side = min(image_size)
        stride = 1
        while side // stride > STEM_SIDE:
            stride *= 2
        side //= stride
        halvings = 0
        while side >> (halvings + 1) >= LAST_SIDE and halvings < MAX_STAGES:
            halvings += 1
        super().__init__(num_classes, width << halvings)
        self.stem = ConvNorm(in_channels, width, stride)
        stages = [Stage(width << i, width << (i + 1)) for i in range(halvings)]
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(self.num_features, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return pooled features (B, F) of pictures x (B, C, H, W)."""
        features: Tensor = self.pool(self.stages(self.stem(x))).flatten(1)
        return features


@register_model("cnn")
def cnn(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 32
) -> nn.Module:
    """The default: a small residual CNN that adapts to the pictures."""
    require_count("width", width)
    require_side("cnn", image_size, LAST_SIDE)
    return CNN(num_classes, in_channels, image_size, width)
