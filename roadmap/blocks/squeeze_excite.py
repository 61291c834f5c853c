"""Squeeze-and-excitation (1709.01507)."""

from __future__ import annotations

from torch import Tensor, nn

from ..layers import SqueezeExcite
from .norm import ACTIVATIONS


class SqueezeExciteModule(nn.Module):
    """`x * gate(fc2(act(fc1(mean over H, W of x))))`."""

    def __init__(self, layer: SqueezeExcite, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, layer.hidden, 1)
        self.act = ACTIVATIONS[layer.act]()
        self.fc2 = nn.Conv2d(layer.hidden, channels, 1)
        self.gate = ACTIVATIONS[layer.gate]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(self.fc2(self.act(self.fc1(x.mean((2, 3), keepdim=True)))))
        return out
