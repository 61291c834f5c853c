"""MobileViT's unfold-transform-fold, and the concatenation that fuses its result with its input (2110.02178)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mixers import Concat, Unfold
from .residual import Sequence


class UnfoldModule(nn.Module):
    """`(N, C, H, W)` as `(N * patch^2, C, H / patch, W / patch)` through the body, and back."""

    def __init__(self, layer: Unfold, channels: int) -> None:
        super().__init__()
        self.patch = layer.patch
        self.body = Sequence(layer.body, channels)

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch
        size = x.shape[2:]
        whole = tuple(-(-s // p) * p for s in size)
        if whole != size:
            x = F.interpolate(x, size=whole, mode="bilinear", align_corners=False)
        n, c, h, w = x.shape
        maps = x.reshape(n, c, h // p, p, w // p, p).permute(0, 3, 5, 1, 2, 4).reshape(n * p * p, c, h // p, w // p)
        maps = self.body(maps)
        c = maps.shape[1]
        x = maps.reshape(n, p, p, c, h // p, w // p).permute(0, 3, 4, 1, 5, 2).reshape(n, c, h, w)
        if whole != size:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x


class ConcatModule(nn.Module):
    """`cat(x, body(x))` along the channels."""

    def __init__(self, layer: Concat, channels: int) -> None:
        super().__init__()
        self.body = Sequence(layer.body, channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.body(x)), dim=1)
