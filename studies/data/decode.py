"""From encoded images to pixels: decoding, the square view every score is taken on, and random crops at decode time."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]  # (H, W, 3)
CROP_AREA = (0.08, 1.0)  # of the image, uniform
CROP_RATIO = (3 / 4, 4 / 3)  # width over height, log-uniform
CROP_TRIES = 10
EXIF_ORIENTATION = 0x0112


def decode_square(encoded: bytes, size: int, *, where: str) -> Pixels:
    """The image upright, in RGB, its central square brought to `(size, size, 3)` by bilinear resizing.

    ValueError, with `where` the image stands, if it cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    except Exception as error:  # Pillow's plugins raise errors of many kinds on damaged files
        raise ValueError(f"cannot decode {where} ({error}): replace the image or remove it from the data") from error
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return _resize(image, size, (left, top, left + side, top + side))


def decode_crop(encoded: bytes, size: int, rng: np.random.Generator) -> Pixels:
    """A random resized crop `(size, size, 3)` of an image known to decode (Inception's, 1409.4842).

    A JPEG much larger than needed is decoded at a half, a quarter or an eighth of its resolution, as far as the crop allows.
    """
    from PIL import Image, ImageOps

    image: Image.Image = Image.open(io.BytesIO(encoded))
    turned = image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)  # those exchange width and height
    width, height = image.size[::-1] if turned else image.size
    left, top, crop_width, crop_height = random_crop(rng, width, height)
    shrink = min(crop_width, crop_height) / size
    if shrink > 1:
        image.draft("RGB", (int(image.width / shrink), int(image.height / shrink)))
    image = ImageOps.exif_transpose(image).convert("RGB")
    x, y = image.width / width, image.height / height
    return _resize(image, size, (left * x, top * y, (left + crop_width) * x, (top + crop_height) * y))


def random_crop(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of a random crop; the central one of extreme ratio where none fits in ten tries."""
    for _ in range(CROP_TRIES):
        area = width * height * rng.uniform(*CROP_AREA)
        ratio = math.exp(rng.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    w = min(width, round(height * CROP_RATIO[1]))
    h = min(height, round(width / CROP_RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def _resize(image: Image.Image, size: int, box: tuple[float, float, float, float]) -> Pixels:
    from PIL.Image import Resampling

    if image.size != (size, size) or box != (0, 0, size, size):
        image = image.resize((size, size), Resampling.BILINEAR, box=box)
    return np.array(image)
