"""Every operation of one forward pass, in order, with its module, shapes and receptive field.

Hooks on modules do not see functions such as `F.max_pool2d`, of which the texts' networks are full.
Here one picture runs through, and a dispatch mode notes every ATen operation.

The receptive field of a value is the part of the picture that can change it: a window of k pixels
over values that are j pixels apart adds (k - 1) j, and a stride multiplies j (Araujo, Norris and
Sim, Computing Receptive Fields of CNNs, Distill 2019). Padding does not count.

Shapes: B batch (here 1), C channels, H and W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nunbit.explaining.operations import Operation, Pair, describe
from nunbit.models.mode import eval_mode

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
PICTURE = -1  # the position of the network's input among the steps
TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class Frame:
    """One call of a module that was running when a step was taken."""

    call: int
    """Differs between two calls of one module."""
    name: str
    kind: str
    is_container: bool


@dataclass(frozen=True)
class Step:
    """One operation on activations."""

    operation: Operation
    frames: tuple[Frame, ...]
    """Modules around it, from the network to the innermost."""
    inputs: tuple[int, ...]
    """Positions of the steps whose outputs it takes; -1 is the picture."""
    shape: tuple[int, ...]
    """Of its output, without the batch; (1,) for a single number."""
    weights: tuple[str, ...]
    """Names of the parameters that it uses."""
    parameters: int
    is_repeated: bool
    """An earlier step used the same weights."""
    field: Pair
    """Rows and columns of the picture that one output value sees."""
    jump: Pair
    """Distance in pixels of the picture between neighbouring values."""
    is_map: bool
    """The output is a picture of more than one pixel a side for each channel: (B, C, H, W)."""

    @property
    def name(self) -> str:
        """Dotted name of the innermost module; empty for the network itself."""
        return self.frames[-1].name if self.frames else ""


@dataclass(frozen=True)
class Trace:
    """One forward pass."""

    steps: tuple[Step, ...]
    outputs: tuple[Tensor, ...]
    """One per step, as it was before a later step wrote into it."""
    picture: tuple[int, ...]
    """(C, H, W) of the input."""
    map_layers: tuple[tuple[str, int], ...]
    """Modules with a convolution whose output is a map, in the order in which they end, with the
    position of their last step."""

    def stage_ends(self) -> list[int]:
        """Return the last step at each size of the maps: what a stage hands on."""
        last = {step.shape[1:]: at for at, step in enumerate(self.steps) if step.is_map}
        return sorted(last.values())


def trace(model: nn.Module, x: Tensor) -> Trace:
    """Run one picture through a network in eval mode and note every operation.

    Args:
        model: any module from pictures to a tensor; unchanged afterwards.
        x: (1, C, H, W).
    """
    recorder = _Recorder(model, x)
    with torch.no_grad(), eval_mode(model), _open_attention(), recorder.watching(), recorder:
        model(x)
    steps, outputs = tuple(recorder.steps), tuple(recorder.outputs)
    return Trace(steps, outputs, tuple(x.shape[1:]), tuple(recorder.map_layers))


@contextmanager
def _open_attention() -> Iterator[None]:
    """Keep PyTorch from joining linear layers and attention to one operation in this block."""
    is_joined = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_joined)


class _Recorder(TorchDispatchMode):
    """Notes operations; tensors are told apart by `id`, so it holds all that it has seen."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own has no types
        self.steps: list[Step] = []
        self.outputs: list[Tensor] = []
        self.map_layers: list[tuple[str, int]] = []
        self._model, self._x = model, x
        self._frames: list[Frame] = []
        self._calls = 0
        self._held: list[Tensor] = []
        self._source = {id(x): PICTURE}  # tensor -> the step that it comes from
        self._weights = {id(p): {name} for name, p in model.named_parameters()}
        self._channels_last: set[int] = set()  # tensors (B, H, W, C)
        self._sizes = {name: p.numel() for name, p in model.named_parameters()}
        self._used: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the four seconds that importing torch's compiler takes: nothing is compiled."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note it."""
        del types
        name = func.overloadpacket.__name__
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        if name.endswith("_") and given:  # it overwrites its first argument
            at = self._source.get(id(given[0]), PICTURE)
            if at != PICTURE:
                self.outputs[at] = self.outputs[at].clone()
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if made:
            self._note(name.strip("_"), args, given, made)
        return result

    def _note(
        self, name: str, args: Sequence[Any], given: list[Tensor], made: list[Tensor]
    ) -> None:
        self._held += made
        weights = set().union(*(self._weights.get(id(t), set()) for t in given))
        inputs = list(dict.fromkeys(self._source[id(t)] for t in given if id(t) in self._source))
        if not inputs:
            if weights:  # a transposed or standardised weight is still that weight
                self._weights.update((id(t), weights) for t in made)
            return
        self._note_layout(name, args, given, made)
        operation = describe(name, args, made[0], len(inputs))
        at = inputs[0] if operation is None else self._add(operation, inputs, weights, made[0])
        self._source.update((id(t), at) for t in made)

    def _note_layout(
        self, name: str, args: Sequence[Any], given: list[Tensor], made: list[Tensor]
    ) -> None:
        is_last = any(id(t) in self._channels_last for t in given)
        if name == "permute" and list(args[1]) in (TO_NHWC, TO_NCHW):
            is_last = list(args[1]) == TO_NHWC
        if is_last:
            self._channels_last.update(map(id, made))

    def _add(
        self, operation: Operation, inputs: list[int], weights: set[str], output: Tensor
    ) -> int:
        before = [self.steps[i] for i in inputs if i != PICTURE]
        field, jump = _receptive(before, operation, (self._x.shape[2], self._x.shape[3]))
        if id(output) in self._channels_last and output.ndim == 4:
            output = output.permute(0, 3, 1, 2)
        has_batch = output.ndim > 0 and len(output) == len(self._x)
        shape = tuple(output.shape[1:] if has_batch else output.shape) or (1,)
        comes_from_map = PICTURE in inputs or any(step.is_map for step in before)
        is_map = comes_from_map and output.ndim == 4 and min(shape[1:]) > 1
        step = Step(
            operation=operation,
            frames=tuple(self._frames),
            inputs=tuple(inputs),
            shape=shape,
            weights=tuple(sorted(weights)),
            parameters=sum(self._sizes[name] for name in weights),
            is_repeated=bool(weights) and weights <= self._used,
            field=field,
            jump=jump,
            is_map=is_map and not operation.sees_all,
        )
        self._used |= weights
        self.steps.append(step)
        self.outputs.append(output)
        return len(self.steps) - 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Know in this block which modules are running."""
        names = {module: name for name, module in self._model.named_modules()}
        started: list[int] = []

        def enter(module: nn.Module, _inputs: Any) -> None:
            self._calls += 1
            kind, is_container = type(module).__name__, type(module) in CONTAINERS
            self._frames.append(Frame(self._calls, names[module], kind, is_container))
            started.append(len(self.steps))

        def leave(module: nn.Module, _inputs: Any, output: Any) -> None:
            is_idle = started.pop() == len(self.steps)
            if isinstance(output, Tensor) and id(output) in self._source:
                # In eval mode dropout does nothing that could be noted.
                if is_idle and isinstance(module, _DropoutNd) and module.p:
                    label = f"dropout {module.p:g}"
                    source = self._source[id(output)]
                    operation = Operation("activation", label)
                    self._source[id(output)] = self._add(operation, [source], set(), output)
                self._note_map_layer(module, names[module], output)
            self._frames.pop()

        hooks = [m.register_forward_pre_hook(enter) for m in names]
        hooks += [m.register_forward_hook(leave) for m in names]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _note_map_layer(self, module: nn.Module, name: str, output: Tensor) -> None:
        at = self._source[id(output)]
        is_nchw = output.ndim == 4 and id(output) not in self._channels_last
        is_map = is_nchw and at != PICTURE and self.steps[at].is_map
        if is_map and any(isinstance(m, nn.Conv2d) for m in module.modules()):
            self.map_layers.append((name, at))


def _receptive(before: Sequence[Step], operation: Operation, picture: Pair) -> tuple[Pair, Pair]:
    """Return the field and the jump after an operation; (1, 1) and (1, 1) is the picture's own."""
    field, jump = [], []
    for axis in (0, 1):
        f = max((step.field[axis] for step in before), default=1)
        j = max((step.jump[axis] for step in before), default=1)
        f += (operation.kernel[axis] - 1) * j
        field.append(max(f, picture[axis]) if operation.sees_all else f)
        jump.append(j * operation.stride[axis])
    return (field[0], field[1]), (jump[0], jump[1])
