"""Sequences, residuals, gates: how layers are put together, and how data becomes modules."""

from __future__ import annotations

from collections import OrderedDict
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn

from ..layers import Gate, Layer, Layers, Residual
from ..spec import Block, named


def make(layer: Layer, channels: int) -> nn.Module:
    """The module of `layer` for inputs of `channels` channels."""
    file, _, attribute = layer.module.partition(":")
    home = import_module(file if "." in file else f"{__package__}.{file}")
    return cast(nn.Module, getattr(home, attribute)(layer, channels))


class Sequence(nn.Sequential):
    """Layers one after another, under their names."""

    def __init__(self, layers: Layers | Block, channels: int) -> None:
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for name, layer in named(layers.body if isinstance(layers, Block) else layers):
            modules[name] = make(layer, channels)
            channels = layer.out_channels(channels)
        super().__init__(modules)


class ResidualModule(nn.Module):
    """`shortcut(x) + scale * body(x)`; in training, `drop_path` is the chance that a sample skips the body."""

    def __init__(self, layer: Residual, channels: int) -> None:
        super().__init__()
        self.body = Sequence(layer.body, channels)
        self.shortcut = Sequence(layer.shortcut, channels) if layer.shortcut else None
        self.scale = nn.Parameter(torch.ones(layer.out_channels(channels))) if layer.layer_scale else None
        self.drop_path = 0.0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        if self.scale is not None:
            out = out * self.scale.view(1, -1, 1, 1)
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            mask = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < keep
            out = out * (mask.to(out.dtype) / keep)
        return out + (x if self.shortcut is None else self.shortcut(x))


class GateModule(nn.Module):
    """`x * body(x)`."""

    def __init__(self, layer: Gate, channels: int) -> None:
        super().__init__()
        self.body = Sequence(layer.body, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.body(x)
        return out
