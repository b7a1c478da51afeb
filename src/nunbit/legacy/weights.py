"""Weights of any origin as plain tensors: safetensors, or a state dict of torch.save."""

import tempfile
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError

from nunbit.errors import DataError
from nunbit.legacy.archive import RefusedError, check_archive, snapshot
from nunbit.legacy.child import read_state_dict
from nunbit.legacy.convert import read_in_child
from nunbit.models.pretrained import LITE0_SHA256, Weights


def read_weights(path: Path) -> Weights:
    """Read a weights file safely; what is checked is what is read.

    Args:
        path: a .safetensors file, which is only numbers, or what `torch.save(model.state_dict())`
            wrote, which is read as `nunbit import` reads it. The content decides, not the name.

    Raises:
        MissingInputError: no such file.
        DataError: neither of the two, damaged, or refused.
        UsageError: torch is too old to be trusted with foreign files.
    """
    with tempfile.TemporaryDirectory(prefix="nunbit-weights-") as name:
        copy, target = Path(name) / "source", Path(name) / "target"
        sha256 = snapshot(path, copy)
        try:
            if sha256 == LITE0_SHA256:
                # The format of torch before 1.6, which is refused below; this file is known to the
                # bit, so that it needs no guard. The order of its tensors matters.
                return Weights(path.name, sha256, read_state_dict(copy))
            if _is_safetensors(copy):
                return Weights(path.name, sha256, safetensors.torch.load_file(copy))
            check_archive(copy)
            read_in_child(copy, target)
            return Weights(path.name, sha256, safetensors.torch.load_file(target))
        except RefusedError as error:
            raise DataError("{path} is refused: {error}", path=path, error=error) from error
        except SafetensorError as error:
            raise DataError("{path} is damaged: {error}", path=path, error=error) from error


def _is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"
