"""Position aware circular convolution (ParC-Net, 2203.03952, Section 3.1): global, at the price of one row and one column."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mixers import AxialPosition, Axis, CircularConv


def resized(table: Tensor, length: int) -> Tensor:
    """`(A, B, K, 1)` or `(A, B, 1, K)` interpolated linearly to K = `length`, ends on ends; untouched where K fits."""
    shape = (length, 1) if table.shape[3] == 1 else (1, length)
    if tuple(table.shape[2:]) == shape:
        return table
    return F.interpolate(table, shape, mode="bilinear", align_corners=True)


class AxialPositionModule(nn.Module):
    """Adds an embedding along one axis to each half of the channels of `(N, C, H, W)`."""

    init_rules: ClassVar[dict[str, str | float]] = {"height": "normal", "width": "normal"}

    def __init__(self, layer: AxialPosition, channels: int) -> None:
        super().__init__()
        self.first: Axis = layer.first
        self.height = nn.Parameter(torch.zeros(1, channels // 2, layer.size, 1))
        self.width = nn.Parameter(torch.zeros(1, channels // 2, 1, layer.size))

    def forward(self, x: Tensor) -> Tensor:
        down, across = resized(self.height, x.shape[2]), resized(self.width, x.shape[3])
        one, two = x.chunk(2, dim=1)
        if self.first == "height":
            return torch.cat((one + down, two + across), dim=1)
        return torch.cat((one + across, two + down), dim=1)


class CircularConvModule(nn.Module):
    """Convolves each half of the channels of `(N, C, H, W)` around one axis, with a kernel as long as that axis."""

    def __init__(self, layer: CircularConv, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.first: Axis = layer.first
        self.groups = half if layer.depthwise else 1
        self.height = nn.Parameter(torch.zeros(half, half // self.groups, layer.size, 1))
        self.width = nn.Parameter(torch.zeros(half, half // self.groups, 1, layer.size))
        self.height_bias = nn.Parameter(torch.zeros(half)) if layer.bias else None
        self.width_bias = nn.Parameter(torch.zeros(half)) if layer.bias else None

    def down(self, x: Tensor) -> Tensor:
        """Around the height: the map is laid below itself, less its last row, so that every pixel sees all rows once."""
        kernel = resized(self.height, x.shape[2])
        return F.conv2d(torch.cat((x, x[:, :, :-1]), dim=2), kernel, self.height_bias, groups=self.groups)

    def across(self, x: Tensor) -> Tensor:
        """Around the width."""
        kernel = resized(self.width, x.shape[3])
        return F.conv2d(torch.cat((x, x[:, :, :, :-1]), dim=3), kernel, self.width_bias, groups=self.groups)

    def forward(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=1)
        if self.first == "height":
            return torch.cat((self.down(one), self.across(two)), dim=1)
        return torch.cat((self.across(one), self.down(two)), dim=1)
