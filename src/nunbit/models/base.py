"""What every network of nunbit's own promises, and the checks that several of them make.

A network turns pictures into features and features into logits. The two halves can be called
apart, and the last linear layer can be replaced: fine-tuning and explaining rest on this.

Where the texts write pool(tanh(conv(x))), the networks here write tanh(pool(conv(x))). Tanh and
ReLU never decrease, so that the largest value keeps its place: the same function, with a quarter
of the activations to compute (a step of `net` takes 0.76 times as long).

Shapes: B batch, C channels, H and W pixels, F features, K classes.
"""

from torch import Tensor, nn

from nunbit.errors import UsageError
from nunbit.language import tr


class Network(nn.Module):
    """Base of the networks: a subclass builds its layers and writes `forward_features`."""

    head_name = "head"  # attribute of the last linear layer; the texts call theirs fc2

    def __init__(self, num_classes: int, num_features: int) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, num_features

    @property
    def needs_preparing(self) -> bool:
        """Whether the network looks at pictures before its training; most do not."""
        return type(self).prepare is not Network.prepare

    def prepare(self, x: Tensor) -> None:
        """Take what the network wants to know of the data; called once, before the first update.

        Args:
            x: some training pictures (B, C, H, W), normalised.
        """

    def forward_features(self, x: Tensor) -> Tensor:
        """Return features (B, F) of pictures x (B, C, H, W)."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, K) of features (B, F)."""
        logits: Tensor = self.get_submodule(self.head_name)(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) of pictures x (B, C, H, W)."""
        return self.forward_head(self.forward_features(x))

    def reset_head(self, num_classes: int) -> None:
        """Replace the last linear layer by a new one with random weights, on the same device.

        Build the optimizer afterwards: it would go on updating the weights that were thrown away.

        Raises:
            UsageError: fewer than one class.
        """
        if num_classes < 1:
            raise UsageError(
                "num_classes is {num_classes}; allowed: a whole number from 1",
                num_classes=num_classes,
            )
        old = self.get_submodule(self.head_name)
        assert isinstance(old, nn.Linear)
        head = nn.Linear(
            self.num_features,
            num_classes,
            bias=old.bias is not None,
            device=old.weight.device,
            dtype=old.weight.dtype,
        )
        setattr(self, self.head_name, head)
        self.num_classes = num_classes


def flat_features(channels: int, image_size: tuple[int, int], poolings: int) -> int:
    """Return the number of values that are left after halving the picture `poolings` times."""
    height, width = (side >> poolings for side in image_size)
    return channels * height * width


def require_side(name: str, image_size: tuple[int, int], least: int) -> None:
    """Refuse pictures of fewer than `least` pixels a side.

    Raises:
        UsageError: the picture is too small for the network.
    """
    if min(image_size) < least:
        height, width = image_size
        raise UsageError(
            "{name} needs {least} pixels a side or more; the pictures are "
            "{height}x{width}: set data.size to {least} or more",
            name=name,
            least=least,
            height=height,
            width=width,
        )


def require_count(option: str, value: int, *, even: bool = False) -> None:
    """Refuse an option of the network that is no positive (even) number.

    Raises:
        UsageError: the value cannot be a number of channels or blocks.
    """
    least, kind = (2, tr("an even number")) if even else (1, tr("a whole number"))
    if value < least or value % least:
        raise UsageError(
            "model.{option} is {value}; allowed: {kind} from {least}",
            option=option,
            value=value,
            kind=kind,
            least=least,
        )
