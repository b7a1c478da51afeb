"""A residual-free CNN for the least time to a given accuracy on small pictures.

A frozen whitening convolution, then three blocks of two convolutions, global max pooling and a
linear layer without bias that starts small.

Sources: the network of K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (arXiv
2404.00498), which grew out of D. Page, "How to train your ResNet" (2018), and T. Balsam's
hlb-CIFAR10 (2023): whitening from patches, Dirac initial weights, batch norm that averages over
few updates, GELU, pooling in the middle of a block, small first logits.
Differences: narrow by default, since ordinary computers are slower than that paper's; the whitening
has no bias, so that nothing is computed backward through the largest maps; pictures above 32
pixels are halved by its stride; the last layer starts with weights of deviation
1 / features instead of 1 and a division of the logits by the number of features, so that its rate
is an ordinary one; `prepare` takes the run's own training pictures.

Shapes: B batch, C channels, H and W pixels, K classes, n `width`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nunbit.models.base import Network, require_count, require_side
from nunbit.models.registry import register_model

FULL_SIDE = 32  # pixels; larger pictures are halved by the whitening until they are at most this
LEAST_SIDE = 10  # pixels: 9 after the whitening, and three halvings leave 1
MOMENTUM = 0.4  # of batch norm: weights move fast; torch's 0.1 did as well (docs/log.md)
PATCH_EIGENVALUE_FLOOR = 5e-4  # limits how much the faintest directions are amplified
MOST_FILTERS = 24  # directions kept of larger patches: those with the greatest variance


class Whitening(nn.Module):
    """A convolution that makes patches uncorrelated, each direction with both signs; never trained.

    Its weights are buffers, so that no optimizer, decay or initialiser touches them.
    """

    weight: Tensor

    def __init__(self, channels_in: int, stride: int) -> None:
        super().__init__()
        self.stride, side = stride, 2 * stride
        values = channels_in * side * side
        filters = torch.eye(min(values, MOST_FILTERS), values).view(-1, channels_in, side, side)
        self.channels_out = 2 * len(filters)
        self.register_buffer("weight", torch.cat([filters, -filters]))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Take the directions of the patches of training pictures x (B, C, H, W), normalised."""
        channels, side = self.weight.shape[1:3]
        patches = F.unfold(x.float(), side, stride=side).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        whitened = vectors / (values + PATCH_EIGENVALUE_FLOOR).sqrt()  # a column each
        filters = whitened.T.flip(0)[:MOST_FILTERS].view(-1, channels, side, side)
        self.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, H - 1, W - 1), or half the sides and so on with a stride."""
        return F.conv2d(x, self.weight, stride=self.stride)


class Norm(nn.BatchNorm2d):
    """Batch norm of (B, C, H, W) that shifts and does not scale, as in airbench (K. Jordan)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=MOMENTUM, affine=False)
        self.bias = nn.Parameter(torch.zeros(channels))


class Block(nn.Module):
    """Two 3x3 convolutions, the picture halved after the first."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out)
        self.norm1 = Norm(channels_out)
        self.conv2 = _conv(channels_out, channels_out)
        self.norm2 = Norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C_out, H/2, W/2) of x (B, C_in, H, W)."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


def _conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return a 3x3 convolution whose first filters hand their inputs on unchanged."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[: min(channels_in, channels_out)])
    return conv


class SpeedNet(Network):
    """The network; see the module's text."""

    def __init__(
        self, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int
    ) -> None:
        super().__init__(num_classes, 4 * width)
        stride = 1
        while min(image_size) // stride > FULL_SIDE:
            stride *= 2
        self.whitening = Whitening(in_channels, stride)
        self.blocks = nn.Sequential(
            Block(self.whitening.channels_out, width),
            Block(width, 4 * width),
            Block(4 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, num_classes, bias=False)
        self._start_small()

    def prepare(self, x: Tensor) -> None:
        """Fit the whitening to training pictures x (B, C, H, W)."""
        self.whitening.fit(x)

    def reset_head(self, num_classes: int) -> None:
        """Replace the last layer by a new one with the same kind of random weights."""
        super().reset_head(num_classes)
        self._start_small()

    def _start_small(self) -> None:
        """Draw the last layer's weights so that the first logits say little."""
        nn.init.normal_(self.head.weight, std=1 / self.num_features)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return pooled features (B, F) of pictures x (B, C, H, W)."""
        x = F.gelu(self.whitening(x))  # (B, 24, H-1, W-1) of colour pictures
        return self.blocks(x).amax((2, 3))  # type: ignore[no-any-return]  # an untyped call


@register_model("speednet")
def speednet(
    *, num_classes: int, in_channels: int, image_size: tuple[int, int], width: int = 32
) -> nn.Module:
    """For the least time to an accuracy: whitening, three blocks, batch norm, GELU."""
    require_count("width", width)
    require_side("speednet", image_size, LEAST_SIDE)
    return SpeedNet(num_classes, in_channels, image_size, width)
