"""The offline weights on real photographs: what a network that learned ImageNet must still know."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from nunbit.data.decode import decode
from nunbit.models.catalog import find_entry
from nunbit.models.head import find_head
from nunbit.models.pretrained import LITE0
from nunbit.models.registry import build_model
from nunbit.models.surgery import replace
from nunbit.zoo import load_pretrained

pytestmark = pytest.mark.real
PER_CLASS, SIDE = 40, 96  # pictures to learn from, as many again to measure; pixels


def choose(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Return pictures of each class in a random order that is always the same, and their labels."""
    files, labels = [], []
    for label, name in enumerate(sorted(p.name for p in folder.iterdir() if p.is_dir())):
        known = sorted((folder / name).glob("*.jpg"))
        order = np.random.default_rng(0).permutation(len(known))[: 2 * PER_CLASS]
        files += [known[i] for i in order]
        labels += [label] * len(order)
    return files, np.array(labels)


def separation(module: nn.Module, pixels: torch.Tensor, labels: np.ndarray) -> float:
    """Return the accuracy of a logistic regression on a network's features."""
    replace(module, find_head(module), nn.Identity())
    preprocess = find_entry(LITE0).preprocess
    with torch.no_grad():
        parts = [module.eval()(preprocess.normalize(part)) for part in pixels.split(20)]
    features = torch.cat(parts).numpy()
    learned = np.tile(np.arange(2 * PER_CLASS) < PER_CLASS, labels.max() + 1)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=3e-3, max_iter=500))
    model.fit(features[learned], labels[learned])
    return float(model.score(features[~learned], labels[~learned]))


def test_features_separate_flowers_as_random_ones_do_not(real_data: Path) -> None:
    """Chance is 0.2; these pictures hold no detail finer than 32x32, so that much is blurred."""
    files, labels = choose(real_data / "flowers")
    preprocess = find_entry(LITE0).preprocess.resized(SIDE)
    arrays = [preprocess.to_pixels(decode(f, "RGB", preprocess.near_side)) for f in files]
    pixels = torch.from_numpy(np.stack(arrays))
    torch.manual_seed(0)
    random = build_model(LITE0, num_classes=2, in_channels=3, image_size=(SIDE, SIDE))
    known, unknown = (separation(m, pixels, labels) for m in (load_pretrained().module, random))
    assert known > 0.55
    assert known > unknown + 0.15


def test_pixels_of_real_files_are_those_of_timm(real_data: Path) -> None:
    files, _ = choose(real_data / "flowers")
    preprocess = find_entry(LITE0).preprocess
    name = LITE0.partition(":")[2]
    data = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**data, normalize=False)
    for file in files[::20]:
        image = decode(file, "RGB", preprocess.near_side)
        assert np.array_equal(preprocess.to_pixels(image), transform(image).permute(1, 2, 0))
