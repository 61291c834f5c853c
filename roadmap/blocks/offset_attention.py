"""LeViT's attention (2104.01136): a learned bias for every offset between two positions, no other position information."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..mixers import OffsetAttention, ShrinkingAttention
from .attention import AttentionProduct
from .residual import Sequence


class OffsetBias(nn.Module):
    """A bias `(heads, queries, keys)` by the absolute offset (|dy|, |dx|); queries are every `stride`-th position of the grid."""

    init_rules: ClassVar[dict[str, str]] = {"table": "zeros"}
    index: Tensor

    def __init__(self, heads: int, grid: tuple[int, int], stride: int = 1) -> None:
        super().__init__()
        height, width = grid
        self.table = nn.Parameter(torch.zeros(heads, height * width))
        y, x = torch.arange(height), torch.arange(width)
        dy = (y[::stride, None] - y[None, :]).abs()
        dx = (x[::stride, None] - x[None, :]).abs()
        index = dy[:, None, :, None] * width + dx[None, :, None, :]  # (query y, query x, key y, key x)
        self.register_buffer("index", index.reshape(len(dy) * len(dx), height * width), persistent=False)

    def forward(self) -> Tensor:
        return self.table[:, self.index]


class OffsetAttentionModule(nn.Module):
    """`(N, heads * (2 * key + value), H, W)` to `(N, heads * value, H, W)`."""

    def __init__(self, layer: OffsetAttention, channels: int) -> None:
        super().__init__()
        self.heads = layer.heads
        self.split = [layer.key, layer.key, layer.value]
        self.bias = OffsetBias(layer.heads, layer.grid)
        self.product = AttentionProduct()

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = torch.split(x.reshape(n, self.heads, sum(self.split), h * w).transpose(2, 3), self.split, dim=3)
        out: Tensor = self.product(q, k, v, self.bias())
        return out.transpose(2, 3).reshape(n, -1, h, w)


class ShrinkingAttentionModule(nn.Module):
    """`(N, C, H, W)` to `(N, heads * value, H', W')` with the queries' height and width."""

    def __init__(self, layer: ShrinkingAttention, channels: int) -> None:
        super().__init__()
        self.heads = layer.heads
        self.split = [layer.key, layer.value]
        self.query = Sequence(layer.query, channels)
        self.key_value = Sequence(layer.key_value, channels)
        stride = -(-layer.grid[0] // layer.out_size(*layer.grid)[0])
        self.bias = OffsetBias(layer.heads, layer.grid, stride)
        self.product = AttentionProduct()

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x)
        n, _, h, w = query.shape
        q = query.reshape(n, self.heads, self.split[0], h * w).transpose(2, 3)
        k, v = torch.split(self.key_value(x).reshape(n, self.heads, sum(self.split), -1).transpose(2, 3), self.split, dim=3)
        out: Tensor = self.product(q, k, v, self.bias())
        return out.transpose(2, 3).reshape(n, -1, h, w)
