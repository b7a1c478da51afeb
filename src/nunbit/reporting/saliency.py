"""Where a network looked when it was wrong: Grad-CAM of a few pictures, if that is cheap."""

from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor

from nunbit.data.pictures import array_to_image
from nunbit.explaining.layers import cam_layer
from nunbit.explaining.saliency import grad_cam
from nunbit.explaining.trace import trace
from nunbit.finished import Finished
from nunbit.models.dryrun import FAULTS
from nunbit.reporting.gallery import SIDE, thumbnail
from nunbit.runtime import limited_threads

# A map takes about three forward passes; one core does some 3e10 operations a second: 5 s.
MOST_MULTIPLY_ADDS = 75_000_000_000
PASSES = 3  # forward, and backward to weights and inputs
AMBER = (255, 176, 0)  # seen on any grey, in a light and in a dark page
STRONGEST = 0.8  # opacity of the brightest region: the picture still shows through


def saliency_maps(finished: Finished, indices: Iterable[int]) -> dict[int, str]:
    """Return test pictures with the region that spoke for the predicted class, by position.

    None are returned for a network without feature maps, or one so large that its report would keep
    a user waiting; `nunbit explain` draws and explains any.

    Args:
        finished: the run.
        indices: positions of test pictures.
    """
    chosen = sorted(set(indices))
    try:
        with limited_threads(finished.runtime.threads):
            return _maps(finished, chosen) if chosen else {}
    except FAULTS:  # a network of the user's that cannot be traced still gets its report
        return {}


def _maps(finished: Finished, chosen: list[int]) -> dict[int, str]:
    model, preprocess = finished.classifier.module, finished.dataset.preprocess
    images = finished.dataset.test.images[torch.tensor(chosen)]
    x_N = preprocess.normalize(images.to(finished.runtime.device))
    found = trace(model, x_N[:1])
    name = cam_layer(model, found, None).name
    work = PASSES * len(chosen) * sum(step.operation.multiply_adds for step in found.steps)
    if not name or work > MOST_MULTIPLY_ADDS:
        return {}
    drawn = {}
    for at, image, x in zip(chosen, images, x_N.split(1), strict=True):
        target = int(finished.test_logits[at].argmax())
        heat = grad_cam(model, model.get_submodule(name), x, target)
        drawn[at] = thumbnail(lit(array_to_image(image.numpy()), heat))
    return drawn


def lit(image: Image.Image, heat_hw: Tensor) -> Image.Image:
    """Lay a map over a grey picture: the brighter, the larger.

    Args:
        image: any size.
        heat_hw: float (h, w), not below 0.
    """
    shares = STRONGEST * heat_hw.cpu() / heat_hw.max().cpu().clamp(min=1e-12)
    mask = Image.fromarray((255 * shares).byte().numpy())
    size = (SIDE * image.width // max(image.size), SIDE * image.height // max(image.size))
    grey = image.convert("L").resize(size, Image.Resampling.NEAREST).convert("RGB")
    mask = mask.resize(size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", size, AMBER), grey, mask)
