"""What one operation of a network does, in the words of a learner: label, window, cost.

Names and arguments are those of ATen, the layer below `torch.nn.functional`: about thirty kinds of
operation, whether a network calls modules, functions or methods.

Shapes: B batch, C channels, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from nunbit.language import mark, tr

Role = Literal["conv", "linear", "pool", "norm", "activation", "combine", "other"]
Pair = tuple[int, int]

ACTIVATIONS = {
    "relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "gelu": "GELU", "silu": "SiLU",
    "elu": "ELU", "leaky_relu": "leaky ReLU", "hardswish": "hard swish", "hardtanh": "hard tanh",
    "hardsigmoid": "hard sigmoid", "softmax": "softmax", "log_softmax": "log softmax",
}  # fmt: skip  # a list of words
NORMS = {
    "native_batch_norm": mark("batch norm"),
    "cudnn_batch_norm": mark("batch norm"),
    "native_layer_norm": mark("layer norm"),
    "native_group_norm": mark("group norm"),
}
# Operations that give the same numbers in another shape, order or memory.
PLUMBING = {
    "view", "unsafe_view", "permute", "transpose", "t", "detach", "alias", "expand", "clone",
    "as_strided", "select", "slice", "unbind", "split", "split_with_sizes", "unsqueeze", "squeeze",
    "lift_fresh", "to_copy", "copy", "empty", "empty_like", "roll", "chunk", "constant_pad_nd",
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One operation on activations."""

    role: Role
    label: str
    kernel: Pair = (1, 1)
    """Rows and columns of its input that one output sees, with dilation."""
    stride: Pair = (1, 1)
    sees_all: bool = False
    """One output sees the whole input: mean over the picture, attention, a linear layer of all."""
    multiply_adds: int = 0


def describe(name: str, args: Sequence[Any], output: Tensor, streams: int) -> Operation | None:
    """Describe an ATen operation; None if it only moves or renames numbers.

    Args:
        name: ATen's, without the underscores around it: "convolution", "relu".
        args: its positional arguments.
        output: its first result, with the batch.
        streams: how many of its inputs depend on the picture.
    """
    if name in PLUMBING:
        return _reshaping(args, output)
    if name == "convolution":
        return _convolution(args, output)
    if "pool2d" in name:
        return _pooling(name, args, output)
    if name == "mean" and args[0].ndim == 4:
        return Operation("pool", tr("mean over the picture"), sees_all=True)
    axes = sorted(axis % 4 for axis in args[1]) if name == "amax" and len(args) > 1 else []
    if axes == [2, 3] and args[0].ndim == 4:
        label = tr("{word} to {size}", word=tr("max pool"), size=_times((1, 1)))
        return Operation("pool", label, sees_all=True)
    if name == "hardtanh" and args[1:] == (0.0, 6.0):
        return Operation("activation", "ReLU6")
    if name in ACTIVATIONS:
        return Operation("activation", ACTIVATIONS[name])
    if name in NORMS:
        return Operation("norm", tr(NORMS[name]))
    return _product(name, args, output, streams)


def _reshaping(args: Sequence[Any], output: Tensor) -> Operation | None:
    """Return the flatten before a linear layer, the one reshaping that a learner has to know."""
    given = next(a for a in args if isinstance(a, Tensor))
    is_flat = given.ndim == 4 and output.ndim == 2 and len(given) == len(output)
    if is_flat and given.shape[1] != output.shape[1]:  # 1x1 pixels are flat already
        return Operation("other", tr("flatten"))
    return None


def _convolution(args: Sequence[Any], output: Tensor) -> Operation:
    x, weight, _, stride, padding, dilation, *_, groups = args
    side, channels_in, channels_out = tuple(weight.shape[2:]), x.shape[1], output.shape[1]
    conv = tr("conv")
    words = [f"{conv} {_times(side)}, {channels_in} → {channels_out}"]
    if max(stride) > 1:
        words.append(tr("stride {n}", n=_once(stride)))
    if max(side) > 1 and max(padding) == 0:
        words.append(tr("no padding"))
    if max(dilation) > 1:
        words.append(tr("dilation {n}", n=_once(dilation)))
    if groups > 1:
        words.append(tr("depthwise") if groups == channels_in else tr("{n} groups", n=groups))
    reach = tuple((k - 1) * d + 1 for k, d in zip(side, dilation, strict=True))
    cost = output[0].numel() * weight[0].numel()
    return Operation("conv", ", ".join(words), _pair(reach), _pair(stride), multiply_adds=cost)


def _pooling(name: str, args: Sequence[Any], output: Tensor) -> Operation:
    word = tr("max pool") if "max" in name else tr("average pool")
    if "adaptive" not in name:
        side = _pair(args[1])
        stride = _pair(args[2]) if len(args) > 2 and args[2] else side
        further = [tr("stride {n}", n=_once(stride))] if stride != side else []
        return Operation("pool", ", ".join([f"{word} {_times(side)}", *further]), side, stride)
    before, after = tuple(args[0].shape[-2:]), tuple(output.shape[-2:])
    stride = _pair([b // a or 1 for b, a in zip(before, after, strict=True)])
    side = _pair([b - (a - 1) * s for b, a, s in zip(before, after, stride, strict=True)])
    return Operation(
        "pool",
        tr("{word} to {size}", word=word, size=_times(after)),
        side,
        stride,
        sees_all=after == (1, 1),
    )


def _product(name: str, args: Sequence[Any], output: Tensor, streams: int) -> Operation:
    if name in ("addmm", "mm", "addmv", "mv", "linear") and streams == 1:
        weight = next(a for a in reversed(args) if isinstance(a, Tensor) and a.ndim == 2)
        is_transposed = name in ("addmv", "mv", "linear")
        first, last = weight.shape[::-1] if is_transposed else weight.shape
        rows = output.numel() // output.shape[-1]
        cost = rows * first * last
        linear = tr("linear")
        label = f"{linear} {first:,} → {last:,}"
        # A row for each token or pixel, or a single one that holds the whole picture.
        return Operation("linear", label, sees_all=rows == 1, multiply_adds=cost)
    if "scaled_dot_product" in name:
        query, key, value = args[:3]  # (B, heads, N, d), (B, heads, M, d) and (B, heads, M, e)
        cost = query[..., 0].numel() * key.shape[-2] * (key.shape[-1] + value.shape[-1])
        return Operation("combine", tr("attention"), sees_all=True, multiply_adds=cost)
    if name in ("bmm", "matmul", "baddbmm", "mm", "addmm"):
        cost = output.numel() * args[-1].shape[-2]
        label = tr("matrix product")
        return Operation("combine", label, sees_all=True, multiply_adds=cost)
    if name in ("add", "mul", "sub", "div"):
        sign = {"add": "+", "mul": "×", "sub": "-", "div": "÷"}[name]
        words = {"+": tr("sum of both"), "×": tr("product of both")}
        if streams > 1:
            return Operation("combine", words.get(sign) or tr("one {sign} the other", sign=sign))
        has_weight = sum(isinstance(a, Tensor) for a in args) > streams
        factor = tr("a weight") if has_weight else tr("a constant")
        return Operation("other", f"{sign} {factor}")
    if name == "cat":
        count = f" {streams}" if streams > 1 else ""
        return Operation("combine", tr("concatenate") + count)
    return Operation("other", name.replace("_", " "))


def _pair(numbers: Sequence[int]) -> Pair:
    """Return (rows, columns); ATen gives one number where both are equal."""
    return numbers[0], numbers[-1]


def _times(pair: Sequence[int]) -> str:
    return f"{pair[0]}×{pair[-1]}"


def _once(pair: Sequence[int]) -> str:
    return f"{pair[0]}" if pair[0] == pair[-1] else _times(pair)
