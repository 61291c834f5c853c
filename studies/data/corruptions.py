"""Corruptions of images (Hendrycks and Dietterich, 1903.12261): eleven of the paper's fifteen, each at five severities.

Left out are frost, which needs photographs of frost, and snow, glass blur and elastic transforms, whose procedures have no counterpart
in batches. Severities up to 64 pixels are those of CIFAR-10-C, above of ImageNet-C (the authors' code, github.com/hendrycks/robustness);
lengths are in pixels. Everything random is drawn by numpy on the CPU from a stream keyed by corruption, severity and the caller's key, so
it is the same for every network and on every device. Images come out in 8 bits, as in the authors' files.

kornia gives the convolutions, the plasma of fog, colour spaces and JPEG. Plain torch are noise, contrast, pixelation, zooming, and
motion blur, where kornia's weights fall linearly and those of the authors' (ImageMagick's) as half a normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ...roadmap.model import stream
from .randaugment import warp

Rng = np.random.Generator
SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64  # pixels: the largest images that take CIFAR-10-C's severities


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way to corrupt images: `apply(images, level, rng)` on float images `(N, 3, H, W)` in [0, 1], which may leave that range.

    `small` and `large` are the five levels for images of up to 64 pixels and above.
    """

    name: str
    kind: Literal["noise", "blur", "weather", "digital"]
    apply: Callable[[Tensor, Any, Rng], Tensor]
    small: tuple[Any, ...]
    large: tuple[Any, ...]


def corrupt(images: Tensor, corruption: Corruption, severity: int, *, key: int) -> Tensor:
    """Corrupted uint8 images `(N, 3, H, W)`, of uint8 ones, at a severity from 1 to 5. `key` tells batches apart."""
    levels = corruption.small if max(images.shape[-2:]) <= SMALL else corruption.large
    rng = np.random.Generator(np.random.PCG64(stream(key, "corruption", corruption.name, severity)))
    x = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
    return corruption.apply(x, levels[severity - 1], rng).clamp(0, 1).mul(255).round().to(torch.uint8)


def _drawn(values: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(like.device)


def gaussian_noise(x: Tensor, sd: float, rng: Rng) -> Tensor:
    """Normal noise, as of poor light."""
    return x + sd * _drawn(rng.standard_normal(tuple(x.shape), dtype=np.float32), x)


def shot_noise(x: Tensor, photons: float, rng: Rng) -> Tensor:
    """Poisson noise of light that comes in `photons` for full white."""
    return _drawn(rng.poisson(x.cpu().numpy() * photons), x) / photons


def impulse_noise(x: Tensor, amount: float, rng: Rng) -> Tensor:
    """Salt and pepper: a share of all values becomes 0 or 1, at even odds."""
    hit = _drawn(rng.random(tuple(x.shape), dtype=np.float32), x) < amount
    salt = _drawn(rng.random(tuple(x.shape), dtype=np.float32), x) < 0.5
    return torch.where(hit, salt.to(x.dtype), x)


def defocus_blur(x: Tensor, level: tuple[float, float], rng: Rng) -> Tensor:
    """A disk of (radius in pixels, sd of the blur that softens its edge)."""
    from kornia.filters import filter2d, gaussian_blur2d

    radius, softening = level
    edge = 3 if radius <= 8 else 5
    reach = math.floor(radius) + edge // 2
    across = torch.arange(-reach, reach + 1, device=x.device)
    disk = (across[:, None] ** 2 + across**2 <= radius**2).to(x.dtype)
    kernel = gaussian_blur2d((disk / disk.sum())[None, None], edge, (softening, softening), border_type="constant")
    blurred: Tensor = filter2d(x, kernel[0])
    return blurred


def motion_blur(x: Tensor, level: tuple[int, float], rng: Rng) -> Tensor:
    """Steady motion of (radius in pixels, sd) at an angle of -45 to 45 degrees, one for each image."""
    radius, sd = level
    n, _, height, width = x.shape
    angles = np.radians(rng.uniform(-45, 45, n))
    taps = min(2 * radius + 1, 1 + math.ceil(4 * sd))
    weights = np.exp(-(np.arange(taps) ** 2) / (2 * sd**2))
    weights /= weights.sum()
    pad = taps - 1
    windows = F.pad(x, (pad, pad, pad, pad), mode="replicate").unfold(2, height, 1).unfold(3, width, 1)
    images = torch.arange(n, device=x.device)
    out = torch.zeros_like(x)
    for i, weight in enumerate(weights):
        down, right = (torch.from_numpy(np.rint(pad + i * f(angles)).astype(np.int64)).to(x.device) for f in (np.sin, np.cos))
        out += float(weight) * windows[images, :, down, right]
    return out


def zoom_blur(x: Tensor, level: tuple[float, float], rng: Rng) -> Tensor:
    """The mean of the image and its zooms from 1 to below (end) by (step)."""
    factors = np.arange(1, *level)
    out = x.clone()
    for factor in factors:
        out += warp(x, np.tile(np.array([[1 / factor, 0, 0], [0, 1 / factor, 0]]), (len(x), 1, 1)), beyond="border")
    return out / (len(factors) + 1)


def fog(x: Tensor, level: tuple[float, float], rng: Rng) -> Tensor:
    """A plasma of (thickness, decay), one for each image, over it; the image keeps its brightest value."""
    from kornia.contrib import diamond_square

    thickness, decay = level
    n, _, height, width = x.shape
    plasma = diamond_square(
        (n, 1, height, width),
        roughness=decay**-2,  # the authors' amplitude falls by the square
        random_fn=lambda shape, **_: torch.from_numpy(rng.random(tuple(shape), dtype=np.float32)),
        normalize_range=(0.0, 1.0),
    ).to(x.device)
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + thickness * plasma) * brightest / (brightest + thickness)


def brightness(x: Tensor, added: float, rng: Rng) -> Tensor:
    """More of the value in hue, saturation and value."""
    from kornia.color import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(x)
    brighter: Tensor = hsv_to_rgb(torch.cat([hsv[:, :2], (hsv[:, 2:] + added).clamp(0, 1)], 1))
    return brighter


def contrast(x: Tensor, factor: float, rng: Rng) -> Tensor:
    """Nearer to the mean of each channel."""
    mean = x.mean((2, 3), keepdim=True)
    return torch.lerp(mean, x, factor)


def pixelate(x: Tensor, factor: float, rng: Rng) -> Tensor:
    """Averaged down to `factor` of the size, and blown up again."""
    height, width = x.shape[-2:]
    down, across = (_drawn(_boxes(int(n * factor), n) @ _boxes(n, int(n * factor)), x) for n in (height, width))
    return down @ x @ across.T


def _boxes(old: int, new: int) -> NDArray[np.float64]:
    """Weights `(new, old)` of Pillow's BOX resizing: the mean of the pixels whose centres lie in the new pixel.

    torch's "area" takes in every pixel that is touched, which at 95 % of the size blurs more than at 65 %.
    """
    scale = max(1.0, old / new)
    centres = (np.arange(new) + 0.5) * (old / new)
    away = (np.arange(old) + 0.5 - centres[:, None]) / scale
    inside = (away > -0.5) & (away <= 0.5)
    weights: NDArray[np.float64] = inside / inside.sum(1, keepdims=True)
    return weights


def jpeg(x: Tensor, quality: float, rng: Rng) -> Tensor:
    """JPEG's losses at a quality of 0 to 100."""
    from kornia.enhance import jpeg_codec_differentiable

    coded: Tensor = jpeg_codec_differentiable(x, torch.tensor([float(quality)], device=x.device))
    return coded


CORRUPTIONS = (
    Corruption(
        name="gaussian-noise",
        kind="noise",
        apply=gaussian_noise,
        small=(0.04, 0.06, 0.08, 0.09, 0.10),
        large=(0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    Corruption(name="shot-noise", kind="noise", apply=shot_noise, small=(500, 250, 100, 75, 50), large=(60, 25, 12, 5, 3)),
    Corruption(
        name="impulse-noise",
        kind="noise",
        apply=impulse_noise,
        small=(0.01, 0.02, 0.03, 0.05, 0.07),
        large=(0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    Corruption(
        name="defocus-blur",
        kind="blur",
        apply=defocus_blur,
        small=((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        large=((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    Corruption(
        name="motion-blur",
        kind="blur",
        apply=motion_blur,
        small=((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        large=((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    Corruption(
        name="zoom-blur",
        kind="blur",
        apply=zoom_blur,
        small=((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        large=((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    Corruption(
        name="fog",
        kind="weather",
        apply=fog,
        small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    Corruption(name="brightness", kind="weather", apply=brightness, small=(0.05, 0.1, 0.15, 0.2, 0.3), large=(0.1, 0.2, 0.3, 0.4, 0.5)),
    Corruption(name="contrast", kind="digital", apply=contrast, small=(0.75, 0.5, 0.4, 0.3, 0.15), large=(0.4, 0.3, 0.2, 0.1, 0.05)),
    Corruption(name="pixelate", kind="digital", apply=pixelate, small=(0.95, 0.9, 0.85, 0.75, 0.65), large=(0.6, 0.5, 0.4, 0.3, 0.25)),
    Corruption(name="jpeg", kind="digital", apply=jpeg, small=(80, 65, 58, 50, 40), large=(25, 18, 15, 10, 7)),
)
