"""Convolutions and pooling."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Conv, MaxPool
from ..mixers import GlobalAvgPool


class ConvModule(nn.Conv2d):
    """A convolution; a plain 1x1 runs as a matrix product over channels (free views in channels_last memory)."""

    def __init__(self, layer: Conv, channels: int) -> None:
        super().__init__(
            channels,
            layer.out,
            layer.kernel,
            stride=layer.stride,
            padding=layer.padding or 0,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias,
        )
        self.pointwise = layer.kernel == 1 and layer.stride == 1 and layer.groups == 1 and not layer.padding

    def forward(self, input: Tensor) -> Tensor:
        if self.pointwise:
            return F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(input)


class MaxPoolModule(nn.MaxPool2d):
    """Max pooling with "same" padding."""

    def __init__(self, layer: MaxPool, channels: int) -> None:
        super().__init__(layer.kernel, layer.stride, (layer.kernel - 1) // 2)


class GlobalAvgPoolModule(nn.Module):
    """The mean over H and W: `(N, C, 1, 1)`."""

    def __init__(self, layer: GlobalAvgPool, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)
