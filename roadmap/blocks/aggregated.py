"""Length-scaled cosine attention, global or aggregated from a window and a pooled map (TransNeXt, 2311.17132, Section 3)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mixers import AggregatedAttention, CosineAttention
from .attention import AttentionProduct

CPB_HIDDEN = 512
SOFTPLUS_TEMPERATURE = math.log(math.expm1(1 / 0.24))  # softplus of it is 1 / 0.24


def offsets(size: int, pool: int) -> tuple[list[list[int]], list[float]]:
    """For one axis: the index (size x pool) of every offset between a pixel and a pooled pixel, and the distinct offsets, sorted."""
    # A pooled pixel is the mean of neighbours, so its place is a whole or a half number, exact in floating point.
    places = [((i * size) // pool + -(-((i + 1) * size) // pool) - 1) / 2 for i in range(pool)]
    distinct = sorted({q - k for q in range(size) for k in places})
    row = {offset: i for i, offset in enumerate(distinct)}
    return [[row[q - k] for k in places] for q in range(size)], distinct


class PositionBias(nn.Module):
    """A bias `(heads, size * size, pool * pool)` computed by an MLP from the log-spaced offsets of all pairs."""

    table: Tensor
    index: Tensor

    def __init__(self, heads: int, size: int, pool: int, trained_size: int) -> None:
        super().__init__()
        self.size, self.pool = size, pool
        self.fc1 = nn.Linear(2, CPB_HIDDEN)
        self.fc2 = nn.Linear(CPB_HIDDEN, heads)
        index, distinct = offsets(size, pool)
        line = torch.tensor(distinct) / max(1, trained_size - 1) * 8
        line = line.sign() * torch.log2(line.abs() + 1) / math.log2(8)
        self.register_buffer("table", torch.stack(torch.meshgrid(line, line, indexing="ij"), -1), persistent=False)
        self.register_buffer("index", torch.tensor(index), persistent=False)

    def forward(self) -> Tensor:
        values: Tensor = self.fc2(F.relu(self.fc1(self.table))).permute(2, 0, 1)
        pairs = values[:, self.index[:, None, :, None], self.index[None, :, None, :]]
        return pairs.reshape(-1, self.size**2, self.pool**2)


class AggregatedProduct(nn.Module):
    """All attention products of the two paths, in one softmax; without parameters, so that its multiply-adds are counted apart.

    q0 plain and q scaled: `(N, heads, T, d)`. Window keys and values are `(N, heads, T, d, W)`, pooled ones `(N, heads, P, d)`; biases
    broadcast to `(N, heads, T, W)` and `(N, heads, T, P)`. `q0 tokens + token_bias`, with tokens `(heads, d, W)`, is added to the weights
    of the window after the softmax.
    """

    is_attention_product = True

    def forward(
        self,
        q0: Tensor,
        q: Tensor,
        window: tuple[Tensor, Tensor, Tensor],
        pooled: tuple[Tensor, Tensor, Tensor],
        tokens: Tensor,
        token_bias: Tensor,
    ) -> Tensor:
        near_k, near_v, near_bias = window
        far_k, far_v, far_bias = pooled
        near = (q.unsqueeze(-2) @ near_k).squeeze(-2) + near_bias
        far = q @ far_k.transpose(-2, -1) + far_bias
        weights = torch.cat((near, far), dim=-1).softmax(-1)
        near, far = weights.tensor_split([near.shape[-1]], dim=-1)
        near = near + q0 @ tokens + token_bias
        out: Tensor = (near.unsqueeze(-2) @ near_v.transpose(-2, -1)).squeeze(-2) + far @ far_v
        return out


class CosineAttentionModule(nn.Module):
    """Global cosine attention over `(N, C, H, W)`."""

    init_rules: ClassVar[dict[str, str | float]] = {"temperature": SOFTPLUS_TEMPERATURE, "query": "normal"}

    def __init__(self, layer: CosineAttention, channels: int) -> None:
        super().__init__()
        self.heads = layer.heads
        self.length_scale = math.log(layer.size**2)
        self.qkv = nn.Linear(channels, 3 * channels, bias=layer.bias)
        self.temperature = nn.Parameter(torch.zeros(layer.heads, 1, 1))
        self.query = nn.Parameter(torch.zeros(layer.heads, 1, channels // layer.heads))
        self.position = PositionBias(layer.heads, layer.size, layer.size, layer.trained_size)
        self.product = AttentionProduct()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q = (F.normalize(q, dim=-1) + self.query) * F.softplus(self.temperature) * self.length_scale
        # The product divides by the root of the head's width, as plain attention does; cosine attention does not.
        out = self.product(q * math.sqrt(c // self.heads), F.normalize(k, dim=-1), v, self.position())
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(n, h * w, c))
        return projected.view(n, h, w, c).permute(0, 3, 1, 2)


class AggregatedAttentionModule(nn.Module):
    """Cosine attention of every pixel of `(N, C, H, W)` to its neighbours and to the pooled map."""

    init_rules: ClassVar[dict[str, str | float]] = {
        "temperature": SOFTPLUS_TEMPERATURE,
        "query": "normal",
        "tokens": "normal",
        "token_bias": "zeros",
        "window_bias": "zeros",
    }
    outside: Tensor
    length_scale: Tensor

    def __init__(self, layer: AggregatedAttention, channels: int) -> None:
        super().__init__()
        head = channels // layer.heads
        self.heads, self.window, self.pool = layer.heads, layer.window, layer.pool
        self.q = nn.Linear(channels, channels, bias=layer.bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=layer.bias)
        self.temperature = nn.Parameter(torch.zeros(layer.heads, 1, 1))
        self.query = nn.Parameter(torch.zeros(layer.heads, 1, head))
        self.window_bias = nn.Parameter(torch.zeros(layer.heads, layer.window**2))
        self.tokens = nn.Parameter(torch.zeros(layer.heads, head, layer.window**2))
        self.token_bias = nn.Parameter(torch.zeros(layer.heads, 1, layer.window**2))
        self.reduce = nn.Conv2d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels)
        self.position = PositionBias(layer.heads, layer.size, layer.pool, layer.trained_size)
        self.product = AggregatedProduct()
        self.proj = nn.Linear(channels, channels)
        line = torch.arange(layer.size)[:, None] + torch.arange(layer.window)[None, :] - layer.window // 2
        inside = (line >= 0) & (line < layer.size)
        neighbours = (inside[:, None, :, None] & inside[None, :, None, :]).reshape(layer.size**2, layer.window**2)
        self.register_buffer("outside", ~neighbours, persistent=False)
        self.register_buffer("length_scale", torch.log(neighbours.sum(1, keepdim=True) + layer.pool**2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        heads, d = self.heads, c // self.heads
        tokens = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        q0 = F.normalize(self.q(tokens).view(n, h * w, heads, d).transpose(1, 2), dim=-1)
        q = (q0 + self.query) * F.softplus(self.temperature) * self.length_scale
        k, v = self.kv(tokens).view(n, h * w, 2, heads, d).unbind(2)
        near = torch.cat((F.normalize(k, dim=-1), v), dim=2).flatten(2).transpose(1, 2).reshape(n, 2 * c, h, w)
        near = F.unfold(near, self.window, padding=self.window // 2).view(n, 2, heads, d, self.window**2, h * w)
        near_k, near_v = near.permute(1, 0, 2, 5, 3, 4)
        near_bias = self.window_bias.unsqueeze(1).masked_fill(self.outside, float("-inf"))
        pooled = F.adaptive_avg_pool2d(F.gelu(self.reduce(x)), self.pool)
        pooled = self.norm(pooled.flatten(2).transpose(1, 2))
        far_k, far_v = self.kv(pooled).view(n, self.pool**2, 2, heads, d).permute(2, 0, 3, 1, 4)
        out = self.product(
            q0,
            q,
            (near_k, near_v, near_bias),
            (F.normalize(far_k, dim=-1), far_v, self.position()),
            self.tokens,
            self.token_bias,
        )
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(n, h * w, c))
        return projected.view(n, h, w, c).permute(0, 3, 1, 2)
