"""Global self-attention (1706.03762), and the attention product that every kind of attention shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mixers import Attention


class AttentionProduct(nn.Module):
    """`softmax(q k^T / sqrt(d) + bias) v` for q, k `(N, heads, T, d)` and v `(N, heads, T, d')`; `bias` broadcasts to `(N, heads, T, T)`.

    It has no parameters and stands apart so that its multiply-adds can be counted apart.
    """

    is_attention_product = True

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        if bias is not None:
            bias = bias.to(q.dtype)
        if q.device.type == "meta":  # torch's counter sees matrix products on every backend, fused attention on some
            scores = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
            if bias is not None:
                scores = scores + bias
            return torch.matmul(scores.softmax(-1), v)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


class AttentionModule(nn.Module):
    """Multi-head self-attention over all pixels or tokens of `(N, C, H, W)`."""

    def __init__(self, layer: Attention, channels: int) -> None:
        super().__init__()
        self.heads = layer.heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.product = AttentionProduct()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        q, k, v = self.qkv(tokens).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = self.product(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        projected: Tensor = self.proj(out)
        return projected.view(n, h, w, c).permute(0, 3, 1, 2)
