"""Backbone: a network without its head, for detection and segmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from .features import Feature, features, last_of_each
from .model import Network, StageModule


class Backbone(nn.Module):
    """`(N, 3, H, W)` images to the list of a network's maps `(N, C, H', W')`, finest first, as timm's `features_only` gives them.

    `out_indices` picks maps by their place in `features(network.spec)`, from the end where negative; by default the last one of every
    reduction. `feature_info` tells the name, channels and reduction of each map that comes out. Class tokens are left out, and the others
    folded back to the grid of their pixels. The modules are those of `network`, under the same names, up to the last one needed.

    Raises ValueError for an index that does not exist.
    """

    def __init__(self, network: Network, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        known = features(network.spec)
        if out_indices is None:
            self.feature_info: tuple[Feature, ...] = last_of_each(known)
        else:
            bad = [i for i in out_indices if not -len(known) <= i < len(known)]
            if bad or not out_indices:
                raise ValueError(f"out_indices {list(out_indices)}: this network has {len(known)} maps, 0 to {len(known) - 1}")
            self.feature_info = tuple(known[i] for i in sorted({i % len(known) for i in out_indices}))
        last = self.feature_info[-1].name
        depth = int(last.split(".")[1]) + 1 if last.startswith("stages.") else 0
        self.stem = network.stem
        self.stages = nn.Sequential(*list(network.stages)[:depth])

    def forward(self, x: Tensor) -> list[Tensor]:
        wanted = {feature.name: feature for feature in self.feature_info}
        maps: dict[str, Tensor] = {}
        for name, layer in self.stem.named_children():
            x = layer(x)
            maps[f"stem.{name}"] = x
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, StageModule)
            x = stage.transition(x)
            for j, block in enumerate(stage.blocks):
                x = block(x)
                maps[f"stages.{i}.blocks.{j}"] = x
            x = stage.after(x)
            maps[f"stages.{i}"] = x
        return [unfolded(maps[name], feature.tokens) for name, feature in wanted.items()]


def unfolded(x: Tensor, tokens: int) -> Tensor:
    """The map `(N, C, H, H)` of a sequence `(N, C, tokens + H * H, 1)`; a map (`tokens` is 0) as it is."""
    if not tokens:
        return x
    pixels = x[:, :, tokens:, 0]
    side = math.isqrt(pixels.shape[2])
    return pixels.reshape(*pixels.shape[:2], side, side)
