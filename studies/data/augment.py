"""Augmentation of batches on the device that trains, as a function of one seed.

Each technique draws from a stream of its own, keyed by that seed and its name, with generators of its own: switching one on
or off changes no other's draws, and torch's and numpy's global generators are never touched. Draws are made on the CPU and
so are the same on every device, but for the noise that fills erased rectangles.

kornia supplies the colour operations, the mirroring and the masks of boxes. Plain torch are the crops (kornia's functions
solve for a homography: 1.5 against 0.5 ms for 64 images of 32x32 on one core) and cutmix (kornia's RandomCutMixV2 keeps its
box inside the image, where the paper clips it, draws from the global generator, and takes 3.5 against 0.2 ms). kornia's
RandomErasing fills with a constant before normalisation; the recipes here want noise after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...roadmap.model import stream
from ..recipe import Recipe
from .randaugment import Floats, draw, randaugment, warp

Ints = NDArray[np.int64]
Rows = Ints | slice  # of a batch
PAD = 1 / 8  # of the size: the largest shift of the padded crop
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
TRIES = 10  # draws of a box until one fits


@dataclass(frozen=True)
class Part:
    """What one of several processes has of a batch of `of` images: `images` of them, from `first` on."""

    first: int
    images: int
    of: int


class Augment:
    """The augmentations of a recipe. `mean` and `std` are of the channels in [0, 1]."""

    def __init__(self, recipe: Recipe, *, mean: Sequence[float], std: Sequence[float], classes: int) -> None:
        self.recipe, self.classes = recipe, classes
        self.mixes = bool(recipe.mixup or recipe.cutmix)
        self._mean = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(3, 1, 1)

    def normalise(self, images: Tensor) -> Tensor:
        """Images `(N, 3, H, W)`, uint8 or float in [0, 1], as float32 with the mean taken off and divided by the sd."""
        return self._normalise(_unit(images))

    def rows(self, part: Part) -> Ints:
        """The images of the batch that `part` is made of: its own and, where the recipe mixes, the partner of each."""
        own = np.arange(part.first, part.first + part.images)
        return np.concatenate([own, part.of - 1 - own]) if self.mixes else own

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor, *, seed: int, part: Part | None = None) -> tuple[Tensor, Tensor]:
        """Augmented, normalised float32 images `(N, 3, H, W)` and targets, from images as for `normalise` and labels `(N,)`.

        Targets are soft `(N, classes)` where the recipe mixes images or smooths labels, else the labels. With `part`, `images` and `labels`
        are its `rows` alone, and it comes out as it does within the whole batch.
        """
        recipe = self.recipe
        n, rows = (len(images), slice(None)) if part is None else (part.of, self.rows(part))
        x = self._flip(_unit(self._crop(images, seed, n, rows)), seed, n, rows)
        if recipe.randaugment:
            draws = draw(
                _generator(seed, "randaugment"),
                n,
                operations=recipe.randaugment_ops,
                magnitude=recipe.randaugment,
                noise=recipe.randaugment_noise,
            )
            x = randaugment(x, draws.of(rows), fill=self._on(x.device)[0])
        x = self._normalise(x)
        if recipe.erasing:
            x = erase(x, recipe.erasing, seed=stream(seed, "erasing"), batch=n, rows=rows)
        if not self.mixes:
            return x, self._targets(labels) if recipe.label_smoothing else labels
        targets = self._targets(labels)
        if part is None:
            partner, others = x.flip(0), targets.flip(0)
        else:
            x, partner = x[: part.images], x[part.images :]
            targets, others = targets[: part.images], targets[part.images :]
        share = self._mix(x, partner, seed)
        return x, torch.lerp(others, targets, share)

    def _crop(self, images: Tensor, seed: int, n: int, rows: Rows) -> Tensor:
        height, width = images.shape[-2:]
        rng = _generator(seed, "crop")
        if self.recipe.crop == "pad":
            return shift(images, rng.integers(0, 2 * _pad(height, width) + 1, size=(2, n))[:, rows])
        if self.recipe.crop == "resized":
            return warp(_unit(images), crop_matrices(rng, n, height, width)[rows], beyond="border")
        return images

    def _flip(self, x: Tensor, seed: int, n: int, rows: Rows) -> Tensor:
        from kornia.geometry.transform import hflip

        if not self.recipe.flip:
            return x
        chosen = np.flatnonzero(_generator(seed, "flip").random(n)[rows] < 0.5)
        index = torch.from_numpy(chosen).to(x.device)
        return x.index_copy_(0, index, hflip(x.index_select(0, index)))

    def _mix(self, x: Tensor, partner: Tensor, seed: int) -> float:
        """Mix every image with its partner (the batch in reverse), in place; returns the share of an image in its mixture."""
        mixup, cutmix = self.recipe.mixup, self.recipe.cutmix
        if cutmix and (not mixup or _generator(seed, "mix").random() < 0.5):
            rng = _generator(seed, "cutmix")
            top, bottom, left, right = cut_box(rng, float(rng.beta(cutmix, cutmix)), *x.shape[-2:])
            x[:, :, top:bottom, left:right] = partner[:, :, top:bottom, left:right]
            return 1 - (bottom - top) * (right - left) / (x.shape[-2] * x.shape[-1])
        share = float(_generator(seed, "mixup").beta(mixup, mixup))
        x.lerp_(partner, 1 - share)
        return share

    def _targets(self, labels: Tensor) -> Tensor:
        """Soft targets `(N, classes)`: label smoothing spread over all classes."""
        smoothing = self.recipe.label_smoothing
        low = smoothing / self.classes
        targets = torch.full((len(labels), self.classes), low, device=labels.device)
        return targets.scatter_(1, labels.view(-1, 1), 1 - smoothing + low)

    def _normalise(self, x: Tensor) -> Tensor:
        mean, std = self._on(x.device)
        return x.sub_(mean).div_(std)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if self._mean.device != device:
            self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self._mean, self._std


def _unit(images: Tensor) -> Tensor:
    """A new float32 tensor in [0, 1]."""
    x = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return x if images.is_floating_point() else x.div_(255)


def _generator(seed: int, technique: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(stream(seed, technique)))


def _pad(height: int, width: int) -> int:
    return max(1, int(min(height, width) * PAD))


def shift(images: Tensor, offsets: Ints) -> Tensor:
    """Crops of images `(N, C, H, W)` padded with zeros by an eighth of their size, at `offsets` `(2, N)` from top and left."""
    n, _, height, width = images.shape
    pad = _pad(height, width)
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    top, left = torch.from_numpy(offsets).to(images.device)
    return windows[torch.arange(n, device=images.device), :, top, left]


def boxes(
    rng: np.random.Generator, n: int, height: int, width: int, *, area: tuple[float, float], ratio: tuple[float, float], limit: int
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Heights and widths `(n,)` in pixels of boxes of uniform area and log-uniform ratio (see callers), and which boxes fit.

    A box fits where its sides are between 1 and the image's less `limit`; the first of ten draws that does is taken.
    """
    areas = height * width * rng.uniform(*area, size=(n, TRIES))
    ratios = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), size=(n, TRIES)))
    heights, widths = np.rint(np.sqrt(areas * ratios)).astype(np.int64), np.rint(np.sqrt(areas / ratios)).astype(np.int64)
    fits = (heights >= 1) & (widths >= 1) & (heights <= height - limit) & (widths <= width - limit)
    first = np.arange(n), fits.argmax(1)
    return heights[first], widths[first], fits[first]


def crop_matrices(rng: np.random.Generator, n: int, height: int, width: int) -> Floats:
    """Matrices `(n, 2, 3)` for `warp` that bring random crops (1409.4842) to the whole size; the whole image where none fits."""
    heights, widths, fits = boxes(rng, n, height, width, area=CROP_AREA, ratio=CROP_RATIO, limit=0)
    heights, widths = np.where(fits, heights, height), np.where(fits, widths, width)
    top, left = rng.integers(0, height - heights + 1), rng.integers(0, width - widths + 1)
    matrices = np.zeros((n, 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = widths / width, heights / height
    matrices[:, 0, 2], matrices[:, 1, 2] = (2 * left + widths) / width - 1, (2 * top + heights) / height - 1
    return matrices


def cut_box(rng: np.random.Generator, share: float, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of CutMix's box (1905.04899): an area of 1 - `share`, centred anywhere, clipped at the edges."""
    side = math.sqrt(1 - share)
    box_height, box_width = int(height * side), int(width * side)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, left = y - box_height // 2, x - box_width // 2
    return max(0, top), min(height, top + box_height), max(0, left), min(width, left + box_width)


def erase(x: Tensor, probability: float, *, seed: int, batch: int | None = None, rows: Rows = slice(None)) -> Tensor:
    """Random erasing (1708.04896) of normalised images `(N, C, H, W)`, in place: a rectangle of normal noise in some of them. They may
    be `rows` of a `batch`, and come out as they do within it."""
    from kornia.geometry.bbox import bbox_generator, bbox_to_mask

    channels, height, width = x.shape[1:]
    n = len(x) if batch is None else batch
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = rng.random(n) < probability
    heights, widths, fits = boxes(rng, n, height, width, area=ERASED_AREA, ratio=ERASED_RATIO, limit=1)
    chosen &= fits
    top, left = rng.integers(0, np.maximum(1, height - heights + 1)), rng.integers(0, np.maximum(1, width - widths + 1))
    if not chosen[rows].any():
        return x
    index = torch.from_numpy(np.flatnonzero(chosen[rows])).to(x.device)
    sides = np.stack([left, top, widths, heights])[:, rows][:, chosen[rows]].astype(np.float32)
    mask = bbox_to_mask(bbox_generator(*torch.from_numpy(sides).to(x.device)), width, height).bool().unsqueeze(1)
    shape = (int(chosen.sum()), channels, height, width)
    noise = torch.randn(shape, device=x.device, generator=torch.Generator(x.device).manual_seed(seed))
    if not isinstance(rows, slice):
        noise = noise[torch.from_numpy((np.cumsum(chosen) - 1)[rows][chosen[rows]]).to(x.device)]
    return x.index_copy_(0, index, torch.where(mask, noise, x.index_select(0, index)))
