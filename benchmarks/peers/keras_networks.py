"""The same networks in Keras layers, from nunbit's `net`, `mnist_cnn` and `resnet`.

The same layers in the same order, so as many weights and multiplications; initial weights are
Keras's own (Glorot), and "same" padding of a stride of 2 puts the odd pixel at the other side.
Batch norm gets PyTorch's constants. The last layer is float32 in mixed precision, as
https://keras.io/api/mixed_precision/ asks for.

Shapes: B batch, H and W pixels, C channels, K classes; Keras's order is (B, H, W, C).
"""

from typing import Any

import keras
from keras import layers

Shape = tuple[int, int, int]


def build(model: str, shape: Shape, num_classes: int, args: dict[str, Any]) -> keras.Model:
    """Return a network by nunbit's name for it.

    Args:
        model: net, mnist-cnn or resnet18.
        shape: (H, W, C) of the pictures.
        num_classes: K.
        args: options of nunbit's builder.
    """
    builders = {"net": _net, "mnist-cnn": _mnist_cnn, "resnet18": _resnet18}
    x = keras.Input(shape)
    features = builders[model](x, **args)
    return keras.Model(x, layers.Dense(num_classes, dtype="float32")(features))


def _net(x: Any, width: int = 16) -> Any:
    for channels in (width, width // 2):
        x = layers.Conv2D(channels, 3, padding="same")(x)
        x = layers.Activation("tanh")(layers.MaxPooling2D(2)(x))
    return layers.Dense(32, activation="tanh")(layers.Flatten()(x))


def _mnist_cnn(x: Any) -> Any:
    x = layers.Conv2D(16, 5, activation="relu")(x)
    for channels in (32, 64):
        x = layers.Conv2D(channels, 5)(x)
        x = layers.Activation("relu")(layers.MaxPooling2D(2)(x))
    return layers.Dense(100, activation="relu")(layers.Flatten()(x))


def _resnet18(x: Any, width: int = 64) -> Any:
    x = layers.Activation("relu")(_norm(_conv(x, width, 3, 1)))
    for stage, stride in enumerate((1, 2, 2, 2)):
        channels = width << stage
        x = _block(_block(x, channels, stride), channels, 1)
    return layers.GlobalAveragePooling2D()(x)


def _block(x: Any, channels: int, stride: int) -> Any:
    """Return two convolutions with a skip around both."""
    out = layers.Activation("relu")(_norm(_conv(x, channels, 3, stride)))
    out = _norm(_conv(out, channels, 3, 1))
    if stride != 1 or x.shape[-1] != channels:
        x = _norm(_conv(x, channels, 1, stride))
    return layers.Activation("relu")(layers.Add()([out, x]))


def _conv(x: Any, channels: int, size: int, stride: int) -> Any:
    return layers.Conv2D(channels, size, strides=stride, padding="same", use_bias=False)(x)


def _norm(x: Any) -> Any:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
