"""A bound on the size of a network while it is built, for descriptions that strangers wrote."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from nunbit.errors import DataError


@contextmanager
def limited_size(most: int) -> Iterator[None]:
    """Stop building a network in the block once it has more than `most` numbers.

    The hooks see each tensor before its first value is written, which is when it begins to take
    memory.

    Raises:
        DataError: the network is larger.
    """
    thread, total = threading.get_ident(), 0

    def count(_owner: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal total
        if tensor is None or threading.get_ident() != thread:
            return
        total += tensor.numel()
        if total > most:
            raise DataError("the network described has more than {most:,} numbers", most=most)

    handles = (
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
