"""Self-attention in (shifted) windows with a relative position bias, and the rearrangement of patch merging (Swin, 2103.14030)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..mixers import SpaceToDepth, WindowAttention
from .attention import AttentionProduct

MASKED = -100.0  # the official value, not minus infinity: it enters the softmax


def partition(x: Tensor, window: int) -> Tensor:
    """`(N, H, W, C)` to windows `(N, H/window * W/window, window * window, C)`."""
    n, h, w, c = x.shape
    tiles = x.reshape(n, h // window, window, w // window, window, c).permute(0, 1, 3, 2, 4, 5)
    return tiles.reshape(n, (h // window) * (w // window), window * window, c)


def merge(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `partition`: `(N, H, W, C)`."""
    n, _, _, c = windows.shape
    tiles = windows.reshape(n, height // window, width // window, window, window, c).permute(0, 1, 3, 2, 4, 5)
    return tiles.reshape(n, height, width, c)


def relative_position_index(window: int) -> Tensor:
    """For every pair of a window's positions (T, T), T = window^2, the row of the bias table that holds their offset."""
    line = torch.arange(window)
    offsets = line[:, None] - line[None, :] + window - 1
    rows = offsets[:, None, :, None] * (2 * window - 1) + offsets[None, :, None, :]
    return rows.reshape(window * window, window * window)


def shift_mask(size: int, window: int, shift: int) -> Tensor:
    """(windows, T, T): 0 where two positions of a window are neighbours, MASKED where the cyclic shift brought them together."""
    line = torch.arange(size)
    part = (line >= size - window).long() + (line >= size - shift).long()
    regions = partition((3 * part[:, None] + part[None, :]).view(1, size, size, 1), window).squeeze(-1).squeeze(0)
    return torch.where(regions[:, :, None] == regions[:, None, :], 0.0, MASKED)


class WindowAttentionModule(nn.Module):
    """Multi-head self-attention in each window of `(N, C, H, W)`; with a shift, in windows moved by that many pixels."""

    mask: Tensor | None
    index: Tensor

    def __init__(self, layer: WindowAttention, channels: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = layer.heads, layer.window, layer.shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.position_bias = nn.Parameter(torch.zeros((2 * layer.window - 1) ** 2, layer.heads))
        self.product = AttentionProduct()
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("index", relative_position_index(layer.window), persistent=False)
        mask = shift_mask(layer.size, layer.window, layer.shift) if layer.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def bias(self, windows: int) -> Tensor:
        """Position bias and mask `(1, windows * heads, T, T)`."""
        table = self.position_bias[self.index].permute(2, 0, 1)
        by_window = table.expand(windows, -1, -1, -1) if self.mask is None else table + self.mask[:, None].to(table.dtype)
        return by_window.flatten(0, 1).unsqueeze(0)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1)
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        tokens = partition(x, self.window)
        m, t = tokens.shape[1:3]
        # Windows go beside the heads, not the images, so that one bias serves all images without a copy.
        q, k, v = self.qkv(tokens).view(n, m, t, 3, self.heads, c // self.heads).permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        out = self.product(q, k, v, self.bias(m)).view(n, m, self.heads, t, c // self.heads)
        out = merge(self.proj(out.transpose(2, 3).reshape(n, m, t, c)), self.window, h, w)
        if self.shift:
            out = out.roll((self.shift, self.shift), (1, 2))
        return out.permute(0, 3, 1, 2)


class SpaceToDepthModule(nn.Module):
    """`(N, C, H, W)` to `(N, f * f * C, H/f, W/f)`: a tile's channels come pixel after pixel, down its columns."""

    def __init__(self, layer: SpaceToDepth, channels: int) -> None:
        super().__init__()
        self.factor = layer.factor

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        f = self.factor
        tiles = x.permute(0, 2, 3, 1).reshape(n, h // f, f, w // f, f, c).permute(0, 1, 3, 4, 2, 5)
        return tiles.reshape(n, h // f, w // f, f * f * c).permute(0, 3, 1, 2)
