"""Every system trains: at micro scale it fits 512 images. (That a gradient reaches every parameter is tested beside each system.)"""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from vitnas.roadmap.model import build
from vitnas.roadmap.zoo import VARIANTS, variant

from .zoo_checks import check_training

FAST = ("convnext-micro", "mixer-micro", "spach-micro")
MICROS = sorted({v.micro for v in VARIANTS})
IMAGES, BATCH, EPOCHS = 512, 64, 40


def images() -> tuple[Tensor, Tensor]:
    """512 handwritten digits `(N, 3, 32, 32)` with their labels."""
    digits = load_digits()
    x = torch.tensor(digits.images[:IMAGES], dtype=torch.float32)[:, None] / 8 - 1
    x = F.interpolate(x, size=32, mode="bilinear", align_corners=False)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last), torch.tensor(digits.target[:IMAGES])


def fitted(name: str) -> float:
    """Training accuracy (%) in eval mode, once it has reached 99 or after 40 epochs of AdamW."""
    x, labels = images()
    network = build(variant(name).spec(), init="kaiming", layer_scale_init=1.0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(0)
    steps, accuracy = EPOCHS * IMAGES // BATCH, 0.0
    for epoch in range(EPOCHS):
        network.train()
        for i, part in enumerate(torch.randperm(IMAGES, generator=generator).view(-1, BATCH)):
            step = epoch * IMAGES // BATCH + i
            optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 16) * (1 + math.cos(math.pi * step / steps)) / 2
            out = network(x[part])
            logits = out if isinstance(out, tuple) else (out,)
            torch.stack([F.cross_entropy(each, labels[part]) for each in logits]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        network.eval()
        with torch.no_grad():
            accuracy = 100 * float((network(x).argmax(1) == labels).float().mean())
        if accuracy >= 99:
            break
    return accuracy


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.full) for n in MICROS])
def test_512_images_are_fitted(name: str) -> None:
    """The micro variant reaches 99 % training accuracy on 512 digits without augmentation."""
    assert fitted(name) >= 99


@pytest.mark.parametrize("name", ["convnext-micro", "resnet-50-micro", "resnext-micro"])
def test_gradients_reach_every_parameter(name: str) -> None:
    """The systems without a file of their own for it."""
    check_training(name)
