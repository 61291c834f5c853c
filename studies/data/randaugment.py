"""RandAugment (1909.13719) in batches, with the operations of increasing severity of timm's `rand-m9-mstd0.5-inc1`.

For each image and each of its operations: one operation of 15 at even odds, applied with probability 1/2, at a magnitude
drawn from a normal distribution and clipped to [0, 10]. All draws are made by numpy on the CPU, so they are the same on every
device; then the images are grouped by operation, and each group is one call.

Colour operations are kornia's, but for solarize-add, which it lacks, and two written here in plain torch for speed (64 images
of 32x32 on one core): sharpness, where kornia convolves in groups (0.8 against 2.6 ms), and posterize, where it goes through
integers (0.15 against 2.0 ms). The five geometric operations are one call of torch's grid_sample together; kornia's
warp_affine samples twice to fill, once for images and once for a mask (16 images: 0.25 against 1.3 ms). Interpolation is
bilinear, where timm draws between bilinear and bicubic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float64]
APPLIED = 0.5  # probability of each chosen operation
TOP = 10.0  # the highest magnitude


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation on images, and how a magnitude in [0, 1] and a sign of -1 or 1 become its argument."""

    name: str
    argument: Callable[[Floats, Floats], Floats]


def _none(magnitude: Floats, sign: Floats) -> Floats:
    return magnitude


def _signed(limit: float, magnitude: Floats, sign: Floats) -> Floats:
    return magnitude * limit * sign


def _factor(magnitude: Floats, sign: Floats) -> Floats:
    """1 leaves an image as it is; farther from 1 is more severe."""
    return np.maximum(0.1, 1 + 0.9 * magnitude * sign)


def _bits(magnitude: Floats, sign: Floats) -> Floats:
    """Bits that posterize keeps of each value."""
    return 4 - np.floor(magnitude * 4)


def _threshold(magnitude: Floats, sign: Floats) -> Floats:
    """Values from here on, on the scale of 0 to 1, are inverted."""
    return (256 - np.floor(magnitude * 256)) / 255


def _addition(magnitude: Floats, sign: Floats) -> Floats:
    return np.floor(magnitude * 110) / 255


COLOUR = (
    Operation(name="auto-contrast", argument=_none),
    Operation(name="equalize", argument=_none),
    Operation(name="invert", argument=_none),
    Operation(name="posterize", argument=_bits),
    Operation(name="solarize", argument=_threshold),
    Operation(name="solarize-add", argument=_addition),
    Operation(name="color", argument=_factor),
    Operation(name="contrast", argument=_factor),
    Operation(name="brightness", argument=_factor),
    Operation(name="sharpness", argument=_factor),
)
GEOMETRIC = (
    Operation(name="rotate", argument=partial(_signed, 30.0)),  # degrees
    Operation(name="shear-x", argument=partial(_signed, 0.3)),
    Operation(name="shear-y", argument=partial(_signed, 0.3)),
    Operation(name="translate-x", argument=partial(_signed, 0.45)),  # fraction of the width
    Operation(name="translate-y", argument=partial(_signed, 0.45)),
)
OPERATIONS = COLOUR + GEOMETRIC


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What was drawn for N images and K operations each; all `(K, N)`."""

    operation: NDArray[np.int64]  # index into OPERATIONS
    applied: NDArray[np.bool_]
    magnitude: Floats  # in [0, 10]
    sign: Floats  # -1 or 1

    def of(self, rows: NDArray[np.int64] | slice) -> Draws:
        """The draws of some of the images."""
        return Draws(
            operation=self.operation[:, rows], applied=self.applied[:, rows], magnitude=self.magnitude[:, rows], sign=self.sign[:, rows]
        )


def draw(rng: np.random.Generator, images: int, *, operations: int, magnitude: float, noise: float) -> Draws:
    """Draw operations and magnitudes; `noise` is the sd of the magnitude before it is clipped."""
    shape = (operations, images)
    return Draws(
        operation=rng.integers(len(OPERATIONS), size=shape),
        applied=rng.random(shape) < APPLIED,
        magnitude=np.clip(magnitude + noise * rng.standard_normal(shape), 0, TOP),
        sign=np.where(rng.random(shape) < 0.5, -1.0, 1.0),
    )


def randaugment(images: Tensor, draws: Draws, *, fill: Tensor) -> Tensor:
    """Apply what was drawn to images `(N, 3, H, W)` in [0, 1], in place. `fill` `(3, 1, 1)` is the colour beyond their edges."""
    for k in range(len(draws.operation)):
        chosen = np.flatnonzero(draws.applied[k])
        chosen = chosen[np.argsort(draws.operation[k, chosen], kind="stable")]
        if not len(chosen):
            continue
        index = torch.from_numpy(chosen).to(images.device)
        kinds = draws.operation[k, chosen]
        arguments = _arguments(kinds, draws.magnitude[k, chosen] / TOP, draws.sign[k, chosen])
        images.index_copy_(0, index, _apply(images.index_select(0, index), kinds, arguments, fill))
    return images


def _groups(kinds: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(kind, start, stop) of every run in sorted kinds."""
    edges = np.searchsorted(kinds, np.arange(len(OPERATIONS) + 1)).tolist()
    return [(kind, start, stop) for kind, (start, stop) in enumerate(pairwise(edges)) if start < stop]


def _arguments(kinds: NDArray[np.int64], magnitude: Floats, sign: Floats) -> Floats:
    parts = [OPERATIONS[kind].argument(magnitude[start:stop], sign[start:stop]) for kind, start, stop in _groups(kinds)]
    return np.concatenate(parts)


def _apply(images: Tensor, kinds: NDArray[np.int64], arguments: Floats, fill: Tensor) -> Tensor:
    """Images sorted by kind of operation, each with its operation applied."""
    values = torch.from_numpy(arguments.astype(np.float32)).to(images.device)
    groups = [(kind, start, stop) for kind, start, stop in _groups(kinds) if kind < len(COLOUR)]
    done = [colour(OPERATIONS[kind].name, images[start:stop], values[start:stop]) for kind, start, stop in groups]
    first = groups[-1][2] if groups else 0
    if first < len(kinds):
        height, width = images.shape[-2:]
        matrices = matrix(kinds[first:] - len(COLOUR), arguments[first:], aspect=height / width)
        done.append(warp(images[first:] - fill, matrices, beyond="zeros").add_(fill))
    return torch.cat(done)


def colour(name: str, images: Tensor, argument: Tensor) -> Tensor:
    """The colour operation `name` on images `(N, 3, H, W)` in [0, 1] with an argument `(N,)` each."""
    from kornia import enhance

    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "auto-contrast": lambda x, _: enhance.normalize_min_max(x),
        "equalize": lambda x, _: enhance.equalize(x),
        "invert": lambda x, _: enhance.invert(x),
        "posterize": _posterize,
        "solarize": enhance.solarize,
        "solarize-add": _solarize_add,
        "color": enhance.adjust_saturation_with_gray_subtraction,
        "contrast": enhance.adjust_contrast_with_mean_subtraction,
        "brightness": enhance.adjust_brightness_accumulative,
        "sharpness": _sharpness,
    }
    return functions[name](images, argument)


def _posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` `(N,)` of values taken as 8 bits."""
    step = torch.exp2(8 - bits).view(-1, 1, 1, 1)
    return (images * (255 / step)).floor_().mul_(step / 255)


def _solarize_add(images: Tensor, addition: Tensor) -> Tensor:
    return torch.where(images < 128 / 255, (images + addition.view(-1, 1, 1, 1)).clamp_(max=1), images)


def _sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image: a 3x3 mean in which the centre counts five times. Pixels at the edges stay (as in PIL)."""
    rows = images[..., :-2] + images[..., 1:-1] + images[..., 2:]
    mean = (rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]).mul_(1 / 9)
    out = images.clone()
    out[..., 1:-1, 1:-1].lerp_(mean, ((1 - factor) * (9 / 13)).view(-1, 1, 1, 1))
    return out.clamp_(0, 1)


def matrix(kinds: NDArray[np.int64], argument: Floats, *, aspect: float) -> Floats:
    """Affine matrices `(N, 2, 3)` from output to input coordinates, which run from -1 to 1 across the image.

    `kinds` index GEOMETRIC; `aspect` is height over width. Rotation is about the centre, shear from the top left corner.
    """
    a = argument
    one, zero = np.ones_like(a), np.zeros_like(a)
    cos, sin = np.cos(np.radians(a)), np.sin(np.radians(a))
    rows = np.array(
        [
            [[cos, sin * aspect, zero], [-sin / aspect, cos, zero]],
            [[one, a * aspect, a * aspect], [zero, one, zero]],
            [[one, zero, zero], [a / aspect, one, a / aspect]],
            [[one, zero, 2 * a], [zero, one, zero]],
            [[one, zero, zero], [zero, one, 2 * a]],
        ]
    )  # (kind, 2, 3, N)
    chosen: Floats = rows[kinds, :, :, np.arange(len(kinds))]
    return chosen


def warp(images: Tensor, matrices: Floats, *, beyond: str) -> Tensor:
    """Sample images `(N, C, H, W)` bilinearly through `matrices` `(N, 2, 3)`; beyond the edges "zeros" or the "border" goes on."""
    theta = torch.from_numpy(matrices.astype(np.float32)).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
