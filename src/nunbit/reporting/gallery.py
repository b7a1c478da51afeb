"""Pictures small enough to travel inside a page, with what the network says of them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from nunbit.data.pictures import ImageSet, array_to_image
from nunbit.reporting.render import data_uri
from nunbit.reporting.verdicts import Verdicts

SIDE = 96  # pixels; pages show them at 88 or less
QUALITY = 90  # a 32x32 photograph takes 0.7 kB (PNG: 2.1 kB)


@dataclass(frozen=True)
class Shown:
    """A picture on a page."""

    picture: str
    """Its name in the data."""
    label: str
    predicted: str
    confidence: float
    """Probability of the predicted class."""
    label_confidence: float
    """Probability of the labelled class."""
    uri: str
    saliency: str = ""
    """The address of the picture with the region that spoke for the prediction, if there is one."""


class Gallery:
    """A set of pictures, of which each that is shown is made small once."""

    def __init__(self, pictures: ImageSet, verdicts: Verdicts, class_names: Sequence[str]) -> None:
        self._pictures, self._verdicts, self._class_names = pictures, verdicts, class_names
        self._made: dict[int, str] = {}

    def uri(self, index: int) -> str:
        """Return one picture as a data address."""
        if index not in self._made:
            image = array_to_image(self._pictures.images[index].numpy())
            self._made[index] = thumbnail(image)
        return self._made[index]

    def show(
        self, indices: Sequence[int], saliency: Mapping[int, str] | None = None
    ) -> list[Shown]:
        """Return pictures with their captions' facts.

        Args:
            indices: positions in the set.
            saliency: addresses of drawings by position.
        """
        verdicts, names = self._verdicts, self._class_names
        return [
            Shown(
                picture=self._pictures.names[i],
                label=names[int(verdicts.labels[i])],
                predicted=names[int(verdicts.predicted[i])],
                confidence=float(verdicts.confidence[i]),
                label_confidence=float(verdicts.label_confidence[i]),
                uri=self.uri(i),
                saliency=(saliency or {}).get(i, ""),
            )
            for i in indices
        ]


def thumbnail(image: Image.Image) -> str:
    """Return a picture as a data address: grey as PNG, colour as JPEG with full colour."""
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    if image.mode == "L":
        image.save(stream, "png")
        return data_uri(stream.getvalue(), "png")
    image.save(stream, "jpeg", quality=QUALITY, subsampling=0, optimize=True)
    return data_uri(stream.getvalue(), "jpeg")
