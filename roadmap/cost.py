"""Parameters and multiply-adds (MACs), counted on the meta device: nothing is allocated, nothing is estimated.

MACs are for one image in eval mode. Convolutions, linear layers and attention products count; norms, biases,
activations and element-wise products do not (the papers' convention).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from .layers import Shape
from .model import Network
from .spec import NetSpec


@dataclass(frozen=True)
class Row:
    """One row of the per-stage table; `shape` is the section's output (C, H, W)."""

    section: str
    shape: Shape
    params: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """Cost of a network: `macs` with attention products, `macs_conv_linear` without."""

    params: int
    macs: int
    macs_conv_linear: int
    rows: tuple[Row, ...]


def cost(spec: NetSpec, input_size: int) -> Cost:
    """Count `spec` at one image of `input_size` pixels; ValueError where the size does not fit the network."""
    shapes = spec.shapes(input_size)
    with torch.device("meta"):
        network = Network(spec).eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            network(torch.empty(1, spec.in_channels, input_size, input_size))
    flops = {module: sum(ops.values()) for module, ops in counter.get_flop_counts().items()}
    total = flops["Global"] // 2
    attention = (
        sum(flops.get(f"Network.{path}", 0) for path, m in network.named_modules() if getattr(m, "is_attention_product", False)) // 2
    )

    def row(section: str, module: str, shape: Shape) -> Row:
        part = network.get_submodule(module)
        return Row(section, shape, sum(p.numel() for p in part.parameters()), flops.get(f"Network.{module}", 0) // 2)

    rows = [row("stem", "stem", shapes["stem"])]
    rows += [row(f"stage {i + 1}", path, shape) for i, (path, shape) in enumerate(spec.shapes_of_stages(input_size))]
    rows.append(row("head", "head", (spec.head.classes, 1, 1)))
    return Cost(
        params=sum(p.numel() for p in network.parameters()),
        macs=total,
        macs_conv_linear=total - attention,
        rows=tuple(rows),
    )
