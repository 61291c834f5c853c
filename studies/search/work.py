"""What a network's time goes by, for predictions before it is measured."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...roadmap.counts import count
from ...roadmap.layers import Layers, Shape
from ...roadmap.spec import Head, NetSpec
from ..latency.deploy import deployed_spec

BARE = Head(classes=1)


def work(spec: NetSpec, input_size: int) -> NDArray[np.float64]:
    """Of the deployment form, as logarithms (6,): multiply-adds, parameters, numbers in all maps, layers, those numbers in maps of grouped
    convolutions, and these times their kernels' areas. ValueError where the size does not fit the network."""
    deployed = deployed_spec(spec)
    found = count(deployed, input_size)
    shape: Shape = (deployed.in_channels, input_size, input_size)
    sums = np.zeros(4)
    for _, layers in deployed.sections():
        sums += _maps(layers, shape)
        for layer in layers:
            shape = layer.output(shape)
    return np.log1p([found.macs, found.params, *sums])


@lru_cache(maxsize=65536)
def _maps(layers: Layers, shape: Shape) -> NDArray[np.float64]:
    """Numbers in the maps that layers give, layers, numbers in maps of grouped convolutions, and these times the kernels' areas."""
    out = np.zeros(4)
    for layer in layers:
        inner = layer.children()
        for child in inner:
            out += _maps(child, shape)
        given = layer.output(shape)
        if not inner:
            numbers = math.prod(given)
            grouped = numbers if getattr(layer, "groups", 1) > 1 else 0
            out += (numbers, 1, grouped, grouped * layer.taps()[0] ** 2)
        shape = given
    return out
