"""Normalisations over channels, and activations."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import Act, ActKind, Norm


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of `(N, C, H, W)`."""

    def forward(self, input: Tensor) -> Tensor:
        x = input.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def norm_module(layer: Norm, channels: int) -> nn.Module:
    """The module of a Norm."""
    if layer.norm == "layer":
        return ChannelNorm(channels, eps=layer.eps)
    if layer.norm == "group":
        return nn.GroupNorm(1, channels, eps=layer.eps)
    return nn.BatchNorm2d(channels, eps=layer.eps)


ACTIVATIONS: dict[ActKind, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def act_module(layer: Act, channels: int) -> nn.Module:
    """The module of an Act."""
    return ACTIVATIONS[layer.act]()
