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
        if layer.distillation:
            self.distillation_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.position = nn.Parameter(torch.zeros(1, layer.count + layer.grid**2, channels))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = [t.expand(n, -1, -1) for name, t in self.named_parameters() if name != "position"]
        sequence = torch.cat([*tokens, x.permute(0, 2, 3, 1).reshape(n, h * w, c)], 1) + self.position
        return sequence.unsqueeze(2).permute(0, 3, 1, 2)
