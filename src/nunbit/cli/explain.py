"""The command that shows: `nunbit explain`."""

from pathlib import Path
from typing import Any

from nunbit.cli.app import (
    DEFAULT_OUTPUT,
    Output,
    PictureName,
    Settings,
    command,
    require_no_option,
    say,
)
from nunbit.language import mark, tr
from nunbit.values import Setting

EXPLAIN = mark("""Examples:
  nunbit explain runs/digits-cnn seven.png      where it looks, what each layer makes of it
  nunbit explain runs/photos-cnn holiday/       a folder: also which units never answer
  nunbit explain net                            the architecture as a diagram
  nunbit explain net-resdeep --classes 10 --model.blocks 10
  nunbit explain timm:resnet18 --size 128
  nunbit explain basics/convolution             a lesson: kernels, padding, pooling
  nunbit explain basics/linear                  a lesson: Parameter, Buffer, tensor""")


@command(examples=EXPLAIN)
def explain(
    run: str,
    /,
    *images: PictureName,
    out: Path | None = None,
    layer: str | None = None,
    size: int | None = None,
    channels: int | None = None,
    classes: int | None = None,
    output: Output = DEFAULT_OUTPUT,
    settings: Settings = None,
) -> dict[str, Any]:
    """Show what a network sees in a picture, or how a network is built.

    With a run and pictures: Grad-CAM, integrated gradients, occlusion, feature maps, the first
    kernels, receptive fields, dead units. With a network's name: a diagram of its layers. With
    basics/linear or basics/convolution: a lesson. Writes one HTML page and its drawings.

    Args:
        run: A run folder or model file, a network (`nunbit models`), or a lesson.
        images: Picture files or folders.
        out: A new or empty folder; the default is the next free one beside the run.
        layer: The module whose maps Grad-CAM weighs; the default is the last with a convolution.
        size: Side of the picture in pixels, for a network; the default is 32, or 224 for timm's
            and torchvision's.
        channels: 1 for grey, 3 for colour, for a network.
        classes: Number of classes, for a network; the default is 2.
        output: How to answer.
        settings: Options of a network as --model.OPTION VALUE.
    """
    require_no_option("explain", images)
    from nunbit import api
    from nunbit.asked import gathered

    given = gathered(settings or {}, {"data.size": size, "data.channels": channels})
    direct: dict[str, Setting] = {"layer": layer, "classes": classes}
    given |= {name: value for name, value in direct.items() if value is not None}
    explained = api.explain(run, images, out, quiet=output.quiet, **given)
    say(output, *explained.lines, tr("page: {page}", page=explained.page))
    return explained.to_dict()
