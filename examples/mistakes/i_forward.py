"""(i) `model.forward(x)`.

    python examples/mistakes/i_forward.py [--seeds 3]

Hooks live in the call of the module. Without them nothing differs. What is built on them is left
out in silence: recorded activations, and layers that make their weight anew before each pass, such
as `torch.nn.utils.spectral_norm`, whose real weight then gets no gradient.
"""

from plain import BATCH, Data, Row, accuracy, main, network, train
from torch import Tensor, nn
from torch.nn.utils import spectral_norm


class Wrong(nn.Module):
    """A body, and a head whose `forward` is called."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head.forward(self.body(x))
        return logits


class Right(Wrong):
    """The same, but the head itself is called."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.body(x))
        return logits


KINDS = (Wrong, Right)


def measure(data: Data, seeds: int, epochs: int) -> list[Row]:
    """Train with a plain head and with one that depends on a hook, and count a hook's calls."""
    bare = [[build(kind, data, seed, normed=False) for seed in range(seeds)] for kind in KINDS]
    normed = [[build(kind, data, seed, normed=True) for seed in range(seeds)] for kind in KINDS]
    for models in bare + normed:
        for model in models:
            train(model, data, epochs)
    return [
        Row("calls of a hook in one pass", *(calls(models[0], data) for models in bare)),
        Row("no hooks: test accuracy", *scores(bare, data)),
        Row("spectral norm: test accuracy", *scores(normed, data)),
        Row("spectral norm: parameters without a gradient", *(idle(m[0]) for m in normed)),
    ]


def build(kind: type[Wrong], data: Data, seed: int, *, normed: bool) -> Wrong:
    """Return a network of one kind; the initial weights are those of the seed."""
    model = network(data, seed)
    body, head = model[:-1], model[-1]
    return kind(body, spectral_norm(head) if normed else head)


def calls(model: Wrong, data: Data) -> int:
    """Count how often a hook on the head runs in one forward pass."""
    seen: list[Tensor] = []
    handle = model.head.register_forward_hook(lambda _m, _x, y: seen.append(y))
    model(data.x_test[:BATCH])
    handle.remove()
    return len(seen)


def idle(model: nn.Module) -> int:
    """Count the parameters that no gradient reached."""
    return sum(p.grad is None for p in model.parameters())


def scores(found: list[list[Wrong]], data: Data) -> list[list[float]]:
    """Return test accuracies of each kind."""
    return [[accuracy(m, data.x_test, data.y_test) for m in models] for models in found]


if __name__ == "__main__":
    main(__doc__, measure)
