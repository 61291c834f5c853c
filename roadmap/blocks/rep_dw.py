"""Structural re-parameterisation of a depthwise convolution (RepVGG, 2101.03697, as RepViT uses it, 2307.09283)."""

from __future__ import annotations

from torch import Tensor, nn

from ..mixers import RepDepthwise


class RepDepthwiseModule(nn.Module):
    """`norm_sum(norm(conv(x)) + scale(x) + x)`: k x k depthwise, 1x1 depthwise with a bias, and the identity."""

    def __init__(self, layer: RepDepthwise, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, layer.kernel, padding=layer.kernel // 2, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.Conv2d(channels, channels, 1, groups=channels)
        self.norm_sum = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm_sum(self.norm(self.conv(x)) + self.scale(x) + x)
        return out
