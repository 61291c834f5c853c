"""Multi-scale features: the maps of a network that detection and segmentation build on (no torch).

The convention is that of timm's `features_only`: one map for every reduction, finest first, named by the module that gives it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .layers import Layer, Layers, MaxPool, Shape
from .mixers import ClassTokens
from .spec import Block, NetSpec, named


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A map `(N, channels, H, W)` whose H and W are the input's divided by `reduction`; `name` is the module of `Network` that gives it.

    Where that module gives a sequence of tokens, `tokens` of them are no pixels and come first.
    """

    name: str
    channels: int
    reduction: int
    tokens: int = 0


def features(spec: NetSpec, input_size: int | None = None) -> tuple[Feature, ...]:
    """The features of `spec` at an input of `input_size` pixels (default: one that fits), finest first; ValueError where it does not fit.

    In a network of several stages they are, for every reduction, the last map that has it: a stage's (`stages.1`), or in the stem a
    block's or one that is pooled next. In a network of one stage each of its blocks gives one (`stages.0.blocks.3`), all at one reduction.
    """
    size = input_size or spec.fitting_size()
    spec.shapes(size)
    here = _Place((spec.in_channels, size, size))
    found = []
    stem = named(spec.stem)
    for (name, layer), following in zip(stem, [*spec.stem[1:], None], strict=True):
        here = here.after((layer,))
        if isinstance(layer, Block) or isinstance(following, MaxPool):
            found.append(here.feature(f"stem.{name}"))
    for i, stage in enumerate(spec.stages):
        here = here.after(stage.transition)
        for j, block in enumerate(stage.blocks):
            here = here.after((block,))
            if len(spec.stages) == 1:
                found.append(here.feature(f"stages.{i}.blocks.{j}"))
        here = here.after(stage.after)
        if len(spec.stages) > 1:
            found.append(here.feature(f"stages.{i}"))
    return tuple(found) if len(spec.stages) == 1 else last_of_each(found)


def last_of_each(found: list[Feature] | tuple[Feature, ...]) -> tuple[Feature, ...]:
    """The last feature of every reduction."""
    return tuple({feature.reduction: feature for feature in found}.values())


@dataclass(frozen=True)
class _Place:
    """Where a walk through the layers stands."""

    shape: Shape
    reduction: int = 1
    tokens: int = 0

    def after(self, layers: Layers) -> _Place:
        here = self
        for layer in layers:
            here = here._past(layer)
        return here

    def _past(self, layer: Layer) -> _Place:
        shape = layer.output(self.shape)
        if isinstance(layer, ClassTokens):
            return replace(self, shape=shape, tokens=layer.count)
        # Strides leave a map of odd size a little more than its part: 7 pixels become 4.
        return replace(self, shape=shape, reduction=self.reduction * max(1, round(self.shape[1] / shape[1])))

    def feature(self, name: str) -> Feature:
        return Feature(name=name, channels=self.shape[0], reduction=self.reduction, tokens=self.tokens)
