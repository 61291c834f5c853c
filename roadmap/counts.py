"""Parameters and MACs of many networks: as `cost` counts them, each distinct layer once.

A network is the sum of its layers, and networks of one space share most of theirs. A layer is counted on the meta device the first time
it is met with an input of that shape; a network whose layers are known is a walk over its table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from .blocks.residual import make
from .layers import Conv, Gate, Layer, Layers, Residual, Shape
from .spec import Block, NetSpec


class Count(NamedTuple):
    """Parameters, and multiply-adds of one image in eval mode."""

    params: int
    macs: int


def count(spec: NetSpec, input_size: int) -> Count:
    """`cost(spec, input_size)` without its table: the same parameters and MACs. ValueError where the size does not fit the network."""
    shape: Shape = (spec.in_channels, input_size, input_size)
    params = macs = 0
    for path, layers in spec.sections():
        try:
            p, m, shape = _sequence(layers, shape)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        params, macs = params + p, macs + m
    head, n = spec.head, spec.head.classifiers
    p, m, vector = _sequence(head.after, (shape[0], 1, 1))
    linear = vector[0] * head.classes
    params += p + n * (linear + head.classes + (2 * vector[0] if head.classifier_norm else 0))
    macs += m * (n if head.pool == "tokens" else 1) + n * linear
    return Count(params, macs)


@lru_cache(maxsize=65536)
def _sequence(layers: Layers, shape: Shape) -> tuple[int, int, Shape]:
    """(parameters, MACs, output shape) of layers one after another."""
    params = macs = 0
    for layer in layers:
        p, m = count_layer(layer, shape)
        params, macs, shape = params + p, macs + m, layer.output(shape)
    return params, macs, shape


def count_layer(layer: Layer, shape: Shape) -> tuple[int, int]:
    """(parameters, MACs) of a layer for an input of `shape`."""
    if isinstance(layer, Block | Residual | Gate):  # the layers inside see the map as it is
        inner = [_sequence(layers, shape) for layers in layer.children()]
        scale = layer.out_channels(shape[0]) if isinstance(layer, Residual) and layer.layer_scale else 0
        return scale + sum(p for p, _, _ in inner), sum(m for _, m, _ in inner)
    if isinstance(layer, Conv):
        _, height, width = layer.output(shape)
        weights = layer.out * (shape[0] // layer.groups) * layer.kernel**2
        return weights + (layer.out if layer.bias else 0), weights * height * width
    return _measured(layer, shape)


@lru_cache(maxsize=65536)
def _measured(layer: Layer, shape: Shape) -> tuple[int, int]:
    layer.output(shape)
    with torch.device("meta"):
        module = make(layer, shape[0]).eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            module(torch.empty(1, *shape))
    return sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2
