"""The torch modules. A constructor takes the layer and its number of input channels; maps are `(N, C, H, W)`."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from vitnas.roadmap.blocks.residual import Sequence

from .layers import Highway, Spin


class SpinModule(nn.Module):
    init_rules: ClassVar = {"weight": "ones"}  # where the scheme of the recipe would not do

    def __init__(self, layer: Spin, channels: int) -> None:
        super().__init__()
        self.by = layer.by
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        moves = ((2, self.by), (2, -self.by), (3, self.by), (3, -self.by))
        moved = [part.roll(by, axis) for part, (axis, by) in zip(x.tensor_split(4, 1), moves, strict=True)]
        return torch.cat(moved, 1) * self.weight.view(1, -1, 1, 1)


class HighwayModule(nn.Module):
    def __init__(self, layer: Highway, channels: int) -> None:
        super().__init__()
        self.body = Sequence(layer.body, channels)
        self.gate = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate.sigmoid().view(1, -1, 1, 1) * (self.body(x) - x)
