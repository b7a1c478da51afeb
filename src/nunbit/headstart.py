"""A last layer that is fitted before the first epoch, on features of a pretrained network."""

import time
from dataclasses import dataclass

import torch
from torch import nn

from nunbit.data.pictures import Track
from nunbit.data.splits import Dataset
from nunbit.evaluation import Outputs
from nunbit.features import FeatureSource, Seen, features_of
from nunbit.models.head import linear_head
from nunbit.runtime import Runtime, limited_threads
from nunbit.start import Start
from nunbit.training.head import Labelled, LinearHead, fit_head


@dataclass(frozen=True)
class HeadStart:
    """A last layer that was fitted before the first epoch, and what it was fitted on."""

    head: LinearHead
    seen: dict[str, Seen]
    """What the network sees in the pictures of each split, by its name."""
    computed: int
    """Pictures whose features were not in the cache."""
    seconds: float

    def outputs(self, part: str, model: nn.Module, runtime: Runtime) -> Outputs:
        """Return the logits (N, K) of a split, and what the stages see in it.

        Args:
            part: the split's name.
            model: the network, whose last layer is computed as it always is: bf16 rounds.
            runtime: where and how to compute.
        """
        seen, last = self.seen[part], linear_head(model)
        with torch.inference_mode(), runtime.autocast():
            logits = last(seen.features.to(last.weight.device))
        return Outputs(logits.float().cpu(), seen.stages)


def fit_start(start: Start, dataset: Dataset, runtime: Runtime, track: Track) -> HeadStart:
    """Fit the last layer on features of the training pictures and put it into the network.

    Raises:
        UsageError: its last layer is no linear layer with a bias.
    """
    began = time.perf_counter()
    linear_head(start.model)  # refused before all features are computed
    splits = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    parts = {name: pictures for name, pictures in splits.items() if pictures is not None}
    origin = start.origin or {"name": "", "sha256": ""}
    source = FeatureSource(
        start.model, dataset.preprocess, runtime, origin["name"], origin["sha256"]
    )
    with limited_threads(runtime.threads):
        found, computed = features_of(source, list(parts.values()), track)
        seen = dict(zip(parts, found, strict=True))
        labelled = {name: Labelled(seen[name].features, parts[name].labels) for name in parts}
        head = fit_head(labelled["train"], labelled.get("val"))
    head.put_into(start.model)
    return HeadStart(head, seen, computed, time.perf_counter() - began)
