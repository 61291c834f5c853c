"""Class tokens and learned position embeddings (ViT, 2010.11929; the distillation token of DeiT, 2012.12877)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..mixers import ClassTokens


class ClassTokensModule(nn.Module):
    """`(N, C, grid, grid)` to the sequence `(N, C, T, 1)` of class tokens and pixels, row by row, with their position embedding added."""

    def __init__(self, layer: ClassTokens, channels: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, channels)) if layer.distillation else None
        self.position = nn.Parameter(torch.zeros(1, layer.count + layer.grid**2, channels))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = [self.class_token] if self.distillation_token is None else [self.class_token, self.distillation_token]
        pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, c)
        sequence = torch.cat([*(token.expand(n, -1, -1) for token in tokens), pixels], 1) + self.position
        return sequence.transpose(1, 2).unsqueeze(3)
