"""An MLP across tokens, the spatial mixer of MLP-Mixer (2105.01601)."""

from __future__ import annotations

from torch import Tensor, nn

from ..mixers import TokenMlp
from .norm import ACTIVATIONS


class TokenMlpModule(nn.Module):
    """`(N, C, H, W)` to the same: one two-layer MLP over the H * W tokens, shared by all channels."""

    def __init__(self, layer: TokenMlp, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(layer.tokens, layer.hidden)
        self.act = ACTIVATIONS[layer.act]()
        self.fc2 = nn.Linear(layer.hidden, layer.tokens)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.fc2(self.act(self.fc1(x.flatten(2))))
        return mixed.view(x.shape)
