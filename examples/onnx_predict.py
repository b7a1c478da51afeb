"""Classify pictures with a file that `nunbit export` wrote, without nunbit and without torch.

    pip install onnxruntime pillow
    python examples/onnx_predict.py model.onnx photo.jpg another.png

Pictures are read one at a time, and become the same pixels as in nunbit.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main() -> None:
    """Print the answer for each picture that was named."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    file, *names = sys.argv[1:]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["nunbit"])
    classes, verdicts = about["class_names"], about["verdicts"]
    for name in names:
        images = pixels(name, about["preprocess"])[np.newaxis]
        probabilities, *declined = session.run(None, {"images": images})
        verdict = verdicts[declined[0][0]] if declined else "label"
        best = (-probabilities[0]).argsort(kind="stable")[: 2 if verdict == "unsure" else 1]
        answer = " | ".join(classes[i] for i in best)
        sure = ", ".join(f"{probabilities[0][i]:.1%}" for i in best)
        said = {
            "label": f"{answer} ({sure})",
            "unsure": f"unsure: {answer} ({sure})",
            "foreign": "not one of your classes",
        }
        print(f"{name}: {said[verdict]}")


def pixels(name: str, preprocess: dict) -> np.ndarray:
    """Return a picture as uint8 (H, W, C) of the network's size."""
    width, height, channels = (preprocess[key] for key in ("width", "height", "channels"))
    near = 2 * max(width, height, preprocess["resize_to"])
    image = Image.open(name)
    image.draft(None, (near, near))  # large JPEGs are decoded small, several times faster
    if image.mode[0] in "IF" or image.mode == "CMYK":  # Pillow would cut 16 bits off at 255
        sys.exit(f"{name}: pixels of {image.mode}, which `nunbit predict` can read")
    image = ImageOps.exif_transpose(image)
    if "A" in image.getbands() or "transparency" in image.info:  # on white
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = resized(image.convert("L" if channels == 1 else "RGB"), (width, height), preprocess)
    return np.asarray(image).reshape(height, width, channels)


def resized(image: Image.Image, size: tuple[int, int], preprocess: dict) -> Image.Image:
    """Return a picture in the network's (width, height)."""
    how = Image.Resampling[preprocess["interpolation"].upper()]
    resize, side = preprocess["resize"], preprocess["resize_to"]
    if side:  # as pretrained networks have it: the shorter side first, then the middle
        long = side * max(image.size) // min(image.size)
        wide = (long, side) if image.width > image.height else (side, long)
        image = image.resize((side, side) if resize == "squash" else wide, how)
        return middle(image, size)
    if resize == "squash" or image.size == size:
        return image if image.size == size else image.resize(size, how)
    scales = [wanted / given for wanted, given in zip(size, image.size, strict=True)]
    if resize == "crop":
        w, h = size[0] / max(scales), size[1] / max(scales)
        left, top = max(0, (image.width - w) / 2), max(0, (image.height - h) / 2)
        box = (left, top, min(image.width, left + w), min(image.height, top + h))
        return image.resize(size, how, box=box)
    inner = [max(1, round(given * min(scales))) for given in image.size]
    canvas = Image.new(image.mode, size, "white")
    corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    canvas.paste(image.resize(inner, how), corner)
    return canvas


def middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the middle of a larger picture."""
    left, top = round((image.width - size[0]) / 2), round((image.height - size[1]) / 2)
    return image.crop((left, top, left + size[0], top + size[1]))


if __name__ == "__main__":
    main()
