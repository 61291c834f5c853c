"""The gate of the convolutional gated linear unit (TransNeXt, 2311.17132, Section 3.4)."""

from __future__ import annotations

from torch import Tensor, nn

from ..mixers import ConvGlu
from .norm import ACTIVATIONS


class ConvGluModule(nn.Module):
    """`(N, 2C, H, W)` to `(N, C, H, W)`: `act(depthwise(a)) * b` for the halves a, b of the channels."""

    def __init__(self, layer: ConvGlu, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.depthwise = nn.Conv2d(half, half, layer.kernel, padding=layer.kernel // 2, groups=half)
        self.act = ACTIVATIONS[layer.act]()

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=1)
        gated: Tensor = self.act(self.depthwise(gate)) * value
        return gated
